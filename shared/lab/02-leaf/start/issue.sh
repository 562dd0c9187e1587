# Makes server/chain.pem and server/key.pem for $HOST, and client/chain.pem and client/key.pem.
set -eu

for role in server client; do
  mkdir -p "$role"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj "/CN=$HOST" \
    -addext "subjectAltName=DNS:$HOST" -keyout "$role/key.pem" -out "$role/chain.pem"
done
