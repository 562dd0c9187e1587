//! Mutual TLS: Envoy proves who the other side is, the policy decides what that one may.

use mesh_pki::{Intermediate, Names};
use shared::report::Recorder;

use super::calls::status;
use super::mesh::{Mesh, TLS_LISTENER, create_ca};
use super::tables::{print_table, table};
use crate::client::{Call, Caller, Operation, Protocol};

const PRINTER: &str = "spiffe://demo5.example/ns/cards/sa/printer";

/// Somebody at the door with TLS.
struct Case<'a> {
    id: &'static str,
    /// What is shown, in a few words.
    presents: &'static str,
    claim: &'static str,
    /// Who vouches for the certificate, and what is in it; nobody shows none.
    certificate: Option<(&'a Intermediate, Names)>,
    token: Option<String>,
    expected: (&'static str, &'static str),
    principal: &'static str,
}

impl Mesh {
    /// A certificate is enough, if the right one vouches for it, and if it names somebody.
    pub(super) async fn certificates(&self, recorder: &mut Recorder) -> anyhow::Result<()> {
        let mut table_rows = table(["caller shows", "gRPC", "HTTP", "the backend sees"]);
        let foreign = create_ca("elsewhere")?;
        for case in self.certificate_cases(&foreign)? {
            let certificate = match &case.certificate {
                Some((by, names)) => Some(self.certificate(by, names)?),
                None => None,
            };
            let caller =
                Caller::tls(self.listener_address(TLS_LISTENER)?, &self.roots()?, certificate.as_ref())?;
            let mut call = Call::new(Operation::Hello);
            call.token = case.token.as_deref();
            let before = self.backend.calls();
            let mut statuses = Vec::new();
            let mut names = Vec::new();
            for protocol in Protocol::ALL {
                let seen = caller.call(protocol, &call).await;
                statuses.push(status(&seen));
                names
                    .extend(seen.ok().and_then(|seen| seen.seen_by_backend).map(|arrived| arrived.principal));
            }
            let reached = self.backend.calls() - before;
            let named =
                if case.principal.is_empty() { names.is_empty() } else { names == [case.principal; 2] };
            let named = named && reached == names.len() as u64;
            names.dedup();
            table_rows.add_row([
                case.presents,
                &statuses[0],
                &statuses[1],
                names.first().map_or("nothing", String::as_str),
            ]);
            let (grpc, http) = case.expected;
            recorder.claim(
                case.id,
                case.claim,
                format!("{grpc}, {http}"),
                format!("{}, {}; {reached} of 2 reached the backend", statuses[0], statuses[1]),
                statuses == [grpc, http] && named,
            );
        }
        print_table(recorder, &table_rows);
        Ok(())
    }

    fn certificate_cases<'a>(&'a self, foreign: &'a Intermediate) -> anyhow::Result<Vec<Case<'a>>> {
        let (allowed, denied) = (("OK", "200"), ("PERMISSION_DENIED", "403"));
        let (unauthenticated, no_connection) =
            (("UNAUTHENTICATED", "401"), ("no connection", "no connection"));
        let ours = &self.ca;
        let named = |id: &str| Names::default().spiffe(id);
        let printer = || named(PRINTER);
        let case = |id, presents, claim, certificate, token, expected, principal| Case {
            id,
            presents,
            claim,
            certificate,
            token,
            expected,
            principal,
        };
        let token = self.token("rita", &["reader"])?;
        let other = named("spiffe://demo5.example/ns/cards/sa/other")?;
        let elsewhere = named("spiffe://elsewhere.example/ns/cards/sa/printer")?;
        let nameless = Names::default().dns("printer.demo5.example")?;
        Ok(vec![
            case(
                "certificate-only",
                "the printer's certificate",
                "A client certificate is enough, without a token",
                Some((ours, printer()?)),
                None,
                allowed,
                PRINTER,
            ),
            case(
                "certificate-denied",
                "another service's certificate",
                "Another service's certificate is believed, and may not",
                Some((ours, other)),
                None,
                denied,
                "",
            ),
            case(
                "no-credentials",
                "nothing",
                "Without a certificate and a token nobody passes here either",
                None,
                None,
                unauthenticated,
                "",
            ),
            case(
                "token-over-tls",
                "a token",
                "Without a certificate a token will do",
                None,
                Some(token),
                allowed,
                "rita",
            ),
            case(
                "untrusted-ca",
                "the printer's name, by a foreign CA",
                "A certificate with the same name by another authority is not even connected",
                Some((foreign, printer()?)),
                None,
                no_connection,
                "",
            ),
            case(
                "foreign-trust-domain",
                "a name of another trust domain",
                "A name of another trust domain is nobody here",
                Some((ours, elsewhere)),
                None,
                unauthenticated,
                "",
            ),
            case(
                "certificate-no-spiffe-id",
                "a certificate without a SPIFFE ID",
                "A certificate without a SPIFFE ID names nobody",
                Some((ours, nameless)),
                None,
                unauthenticated,
                "",
            ),
            case(
                "invalid-token-with-certificate",
                "that certificate and a bad token",
                "A certificate does not make a bad token good",
                Some((ours, printer()?)),
                Some("not.a.token".into()),
                unauthenticated,
                "",
            ),
        ])
    }
}
