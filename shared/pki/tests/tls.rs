#![expect(clippy::unwrap_used, reason = "a test may panic")]
//! TLS over loopback and in memory: who is answered, who is refused, and by which reason.

use std::error::Error;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_pki::tls::{self, Alpn, Credentials, TlsError};
use mesh_pki::{Intermediate, Issued, Names, PkiError, Root, Roots, Usage, Validity};
use rustls::{AlertDescription, CertificateError, ClientConnection, ServerConnection};
use shared::lifecycle::{GRACE, Lifecycle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Endpoint, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// One mesh: an authority, and those who trust it.
struct Mesh {
    intermediate: Intermediate,
    roots: Roots,
}

impl Mesh {
    fn new(name: &str) -> Self {
        let life = |days| Validity::from_now(DAY * days).unwrap();
        let root = Root::generate(name, life(300)).unwrap();
        let intermediate = root.sign_intermediate(&format!("{name}'s intermediate"), life(30)).unwrap();
        let roots = Roots::from_pem(intermediate.root_pem()).unwrap();
        Self { intermediate, roots }
    }

    fn issue(&self, usage: Usage, validity: Validity) -> Issued {
        let names = Names::default().dns("localhost").unwrap().ip([127, 0, 0, 1]);
        let names = names.spiffe("spiffe://mesh/ns/demo/sa/web").unwrap();
        self.intermediate.issue(&names, usage, validity).unwrap()
    }

    fn credentials(&self, usage: Usage) -> Credentials {
        Credentials::try_from(&self.issue(usage, Validity::from_now(DAY).unwrap())).unwrap()
    }

    fn expired(&self) -> Credentials {
        let now = SystemTime::now();
        let validity = Validity::between(now - DAY * 2, now - DAY).unwrap();
        Credentials::try_from(&self.issue(Usage::Both, validity)).unwrap()
    }
}

/// What went wrong, as the server and as the client saw it.
type HandshakeErrors = (Option<rustls::Error>, Option<rustls::Error>);

/// A handshake in memory: what each side makes of the other.
fn handshake(
    server: rustls::ServerConfig,
    client: rustls::ClientConfig,
    host: &str,
) -> Result<(ServerConnection, ClientConnection), Box<HandshakeErrors>> {
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), host.to_owned().try_into().unwrap()).unwrap();
    let (mut server_error, mut client_error) = (None, None);
    loop {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let sent = wire.len();
        let mut left = &wire[..];
        while !left.is_empty() {
            server.read_tls(&mut left).unwrap();
            server_error = server_error.or(server.process_new_packets().err());
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut left = &wire[..];
        while !left.is_empty() {
            client.read_tls(&mut left).unwrap();
            client_error = client_error.or(client.process_new_packets().err());
        }
        if sent == 0 && wire.is_empty() {
            return match (server_error, client_error) {
                (None, None) => Ok((server, client)),
                errors => Err(Box::new(errors)),
            };
        }
    }
}

#[test]
fn both_sides_authenticate_in_tls_1_3_and_negotiate_http2() {
    let mesh = Mesh::new("root");
    let server = tls::server(&mesh.credentials(Usage::Server), Some(&mesh.roots), Alpn::Any).unwrap();
    let client = tls::client(&mesh.roots, Some(&mesh.credentials(Usage::Client)), Alpn::Any).unwrap();
    let (server, client) = handshake(server, client, "localhost").unwrap();
    assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(client.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(server.peer_certificates().unwrap().len(), 2, "the chain: leaf and intermediate");
}

#[test]
fn a_tls_1_2_peer_is_supported() {
    let mesh = Mesh::new("root");
    let server = tls::server(&mesh.credentials(Usage::Server), None, Alpn::Http1).unwrap();
    let mut store = rustls::RootCertStore::empty();
    let root = pem::parse(mesh.intermediate.root_pem()).unwrap().into_contents();
    store.add(root.into()).unwrap();
    let old = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    let (_, client) = handshake(server, old, "localhost").unwrap();
    assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
}

#[test]
fn a_client_refuses_a_server_for_each_reason() {
    let (mesh, foreign) = (Mesh::new("root"), Mesh::new("foreign root"));
    let verdict = |server: &Credentials, roots: &Roots, host: &str| {
        let server = tls::server(server, None, Alpn::Http2).unwrap();
        match handshake(server, tls::client(roots, None, Alpn::Http2).unwrap(), host) {
            Err(why) => match *why {
                (_, Some(rustls::Error::InvalidCertificate(why))) => why,
                other => panic!("{other:?}"),
            },
            Ok(_) => panic!("trusted"),
        }
    };
    let good = mesh.credentials(Usage::Server);
    assert_eq!(verdict(&good, &foreign.roots, "localhost"), CertificateError::UnknownIssuer);
    assert!(matches!(
        verdict(&mesh.expired(), &mesh.roots, "localhost"),
        CertificateError::ExpiredContext { .. }
    ));
    assert!(matches!(
        verdict(&good, &mesh.roots, "other.example"),
        CertificateError::NotValidForNameContext { .. }
    ));
    let client_only = mesh.credentials(Usage::Client);
    assert!(matches!(
        verdict(&client_only, &mesh.roots, "localhost"),
        CertificateError::InvalidPurposeContext { .. }
    ));
}

#[test]
fn a_server_refuses_a_client_for_each_reason() {
    let (mesh, foreign) = (Mesh::new("root"), Mesh::new("foreign root"));
    let verdict = |client: Option<&Credentials>| {
        let server = tls::server(&mesh.credentials(Usage::Server), Some(&mesh.roots), Alpn::Http2).unwrap();
        match handshake(server, tls::client(&mesh.roots, client, Alpn::Http2).unwrap(), "localhost") {
            Err(why) => match *why {
                (Some(seen), Some(rustls::Error::AlertReceived(peer_error))) => (seen, peer_error),
                other => panic!("{other:?}"),
            },
            Ok(_) => panic!("trusted"),
        }
    };
    let (seen, peer_error) = verdict(None);
    assert_eq!(
        (seen, peer_error),
        (rustls::Error::NoCertificatesPresented, AlertDescription::CertificateRequired)
    );
    let (seen, peer_error) = verdict(Some(&foreign.credentials(Usage::Client)));
    assert_eq!(seen, rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer));
    assert_eq!(peer_error, AlertDescription::UnknownCA);
    let (seen, peer_error) = verdict(Some(&mesh.expired()));
    assert!(
        matches!(seen, rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { .. })),
        "{seen}"
    );
    assert_eq!(peer_error, AlertDescription::CertificateExpired);
    let (seen, _) = verdict(Some(&mesh.credentials(Usage::Server)));
    let wrong_use = CertificateError::InvalidPurposeContext {
        required: rustls::ExtendedKeyPurpose::ClientAuth,
        presented: vec![rustls::ExtendedKeyPurpose::ServerAuth],
    };
    assert_eq!(seen, rustls::Error::InvalidCertificate(wrong_use));
}

#[test]
fn a_mismatched_key_is_rejected_before_any_connection() {
    let mesh = Mesh::new("root");
    let (one, other) = (Validity::from_now(DAY).unwrap(), Validity::from_now(DAY).unwrap());
    let (one, other) = (mesh.issue(Usage::Both, one), mesh.issue(Usage::Both, other));
    let mixed = Credentials::from_pem(&one.chain_pem, &other.key_pem).unwrap_err();
    assert!(
        matches!(&mixed, TlsError::Key(PkiError::KeyDoesNotFit { subject }) if subject.contains("localhost")),
        "{mixed}"
    );
    let wrong_order = Credentials::from_pem(&mesh.intermediate.pem(), &one.key_pem).unwrap_err();
    assert!(matches!(wrong_order, TlsError::NotALeaf { .. }), "{wrong_order}");
    let broken = Credentials::from_pem("rubbish", &one.key_pem).unwrap_err();
    assert!(matches!(broken, TlsError::Chain(_)), "{broken}");
}

/// A gRPC health service behind TLS on loopback.
async fn grpc(life: &Lifecycle, server: &Credentials, clients: Option<&Roots>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_, health) = tonic_health::server::health_reporter();
    let server = Server::builder().tls_config(tls::grpc_server(server, clients)).unwrap().add_service(health);
    let stop = life.token();
    life.spawn(async move {
        let incoming = TcpListenerStream::new(listener);
        _ = server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await;
    });
    address
}

/// Calls it; the error holds every cause.
async fn call(address: SocketAddr, tls: &tls::GrpcClientTls) -> Result<(), String> {
    let peer_error = |error: &dyn Error| {
        let mut all = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            all += &format!(": {inner}");
            cause = inner.source();
        }
        all
    };
    let endpoint = Endpoint::from_shared(format!("https://localhost:{}", address.port())).unwrap();
    let endpoint = tls.secure(endpoint.timeout(Duration::from_secs(30))).unwrap();
    let channel = endpoint.connect().await.map_err(|error| peer_error(&error))?;
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
    answer.map(drop).map_err(|status| peer_error(&status))
}

#[tokio::test]
async fn grpc_with_mutual_tls_accepts_only_clients_of_the_same_root() {
    let (mesh, foreign) = (Mesh::new("root"), Mesh::new("foreign root"));
    let life = Lifecycle::default();
    let address = grpc(&life, &mesh.credentials(Usage::Both), Some(&mesh.roots)).await;
    let expired = grpc(&life, &mesh.expired(), Some(&mesh.roots)).await;

    let own = mesh.credentials(Usage::Client);
    let good = tls::grpc_client(&mesh.roots, Some(&own));
    call(address, &good).await.unwrap();
    call(address, &good.clone().server_name("127.0.0.1")).await.unwrap();

    // What the client finds out by itself, it can say.
    let why = call(address, &good.clone().server_name("other.example")).await.unwrap_err();
    assert!(why.contains("not valid for name \"other.example\""), "{why}");
    let why = call(address, &tls::grpc_client(&foreign.roots, Some(&own))).await.unwrap_err();
    assert!(why.contains("UnknownIssuer"), "{why}");
    let why = call(expired, &good).await.unwrap_err();
    assert!(why.contains("certificate expired"), "{why}");

    // What the server finds out may reach the client as an alert or as a closed connection, whichever it reads
    // first; the exact reasons are asserted in memory above.
    for client in [
        None,
        Some(&foreign.credentials(Usage::Client)),
        Some(&mesh.expired()),
        Some(&mesh.credentials(Usage::Server)),
    ] {
        call(address, &tls::grpc_client(&mesh.roots, client)).await.unwrap_err();
    }
    call(address, &good).await.unwrap();
    life.shut_down(GRACE).await.unwrap();
}

#[tokio::test]
async fn grpc_without_client_certificates_asks_for_none() {
    let mesh = Mesh::new("root");
    let life = Lifecycle::default();
    let address = grpc(&life, &mesh.credentials(Usage::Server), None).await;
    call(address, &tls::grpc_client(&mesh.roots, None)).await.unwrap();
    life.shut_down(GRACE).await.unwrap();
}

#[test]
fn a_plain_text_address_is_refused() {
    let mesh = Mesh::new("root");
    let plain = tls::grpc_client(&mesh.roots, None).secure(Endpoint::from_static("http://localhost:1"));
    let refused = plain.unwrap_err();
    assert!(matches!(&refused, TlsError::NotHttps { .. }), "{refused}");
    assert!(refused.to_string().contains("write https://"), "{refused}");
}

#[tokio::test]
#[ignore = "needs openssl and curl"]
async fn curl_trusts_the_root_and_no_other() {
    let (mesh, foreign) = (Mesh::new("root"), Mesh::new("foreign root"));
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (root, other) = (file("root.pem", mesh.roots.pem()), file("other.pem", foreign.roots.pem()));
    let client = mesh.issue(Usage::Client, Validity::from_now(DAY).unwrap());
    let (chain, key) = (file("chain.pem", &client.chain_pem), file("key.pem", client.key_pem.expose()));

    let life = Lifecycle::default();
    let plain = https(&life, tls::server(&mesh.credentials(Usage::Server), None, Alpn::Http1).unwrap()).await;
    let mutual = tls::server(&mesh.credentials(Usage::Server), Some(&mesh.roots), Alpn::Http1).unwrap();
    let mutual = https(&life, mutual).await;
    for host in ["localhost", "127.0.0.1"] {
        assert_eq!(curl(&["--cacert", &root], host, plain).await, (Some(0), "hello\n".to_owned()));
    }
    // 60: the peer's certificate could not be verified (https://curl.se/libcurl/c/libcurl-errors.html).
    assert_eq!(curl(&["--cacert", &other], "localhost", plain).await.0, Some(60));
    assert_ne!(curl(&["--cacert", &root], "localhost", mutual).await.0, Some(0));
    let with_client = ["--cacert", &root, "--cert", &chain, "--key", &key];
    assert_eq!(curl(&with_client, "localhost", mutual).await, (Some(0), "hello\n".to_owned()));
    life.shut_down(GRACE).await.unwrap();
}

/// The smallest HTTPS server: it says hello and closes.
async fn https(life: &Lifecycle, config: rustls::ServerConfig) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let stop = life.token();
    life.spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted.unwrap().0,
                () = stop.cancelled() => return,
            };
            // A client that is refused, or refuses, is part of the test.
            let Ok(mut stream) = acceptor.accept(accepted).await else { continue };
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { break };
                request.push(byte);
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nhello\n";
            _ = stream.write_all(answer).await;
            _ = stream.shutdown().await;
        }
    });
    address
}

async fn curl(options: &[&str], host: &str, address: SocketAddr) -> (Option<i32>, String) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--max-time", "30", "--noproxy", "*", "--ipv4"]).args(options);
    command.arg(format!("https://{host}:{}/", address.port())).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let output = output.expect("curl is needed: apt-get install curl");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}
