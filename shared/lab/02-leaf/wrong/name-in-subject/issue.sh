# Makes server/chain.pem and server/key.pem for $HOST, and client/chain.pem and client/key.pem.
set -eu

# leaf ROLE USAGE
leaf() {
  mkdir -p "$1"
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$HOST" \
    -keyout "$1/key.pem" -out "$1/request.pem"
  cat >"$1/extensions" <<END
basicConstraints=CA:FALSE
keyUsage=digitalSignature
extendedKeyUsage=$2
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
END
  openssl x509 -req -in "$1/request.pem" -CA ca/intermediate.pem -CAkey ca/intermediate.key -CAcreateserial \
    -days 1 -extfile "$1/extensions" -out "$1/leaf.pem"
  cat "$1/leaf.pem" ca/intermediate.pem >"$1/chain.pem"
}

leaf server serverAuth
leaf client clientAuth
