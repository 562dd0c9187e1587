//! Mutual TLS: Envoy proves who the other side is, the policy decides what that one may.

use mesh_pki::{Intermediate, Names};
use shared::report::Recorder;

use super::calls::status;
use super::mesh::{Mesh, TLS, authority};
use super::tables::{table, tell};
use crate::client::{Call, Caller, Protocol, Wish};

const PRINTER: &str = "spiffe://demo5.example/ns/cards/sa/printer";

/// Somebody at the door with TLS.
struct Case<'a> {
    id: &'static str,
    /// What is shown, in a few words.
    shows: &'static str,
    claim: &'static str,
    /// Who vouches for the certificate, and what is in it; nobody shows none.
    certificate: Option<(&'a Intermediate, Names)>,
    token: Option<String>,
    expected: (&'static str, &'static str),
    principal: &'static str,
}

impl Mesh {
    /// A certificate is enough, if the right one vouches for it, and if it names somebody.
    pub(super) async fn certificates(&self, story: &mut Recorder) -> anyhow::Result<()> {
        let mut shown = table(["caller shows", "gRPC", "HTTP", "the backend sees"]);
        let foreign = authority("elsewhere")?;
        for case in self.visitors(&foreign)? {
            let own = match &case.certificate {
                Some((by, names)) => Some(self.certificate(by, names)?),
                None => None,
            };
            let caller = Caller::tls(self.door(TLS)?, &self.roots()?, own.as_ref())?;
            let mut call = Call::new(Wish::Hello);
            call.token = case.token.as_deref();
            let before = self.backend.calls();
            let mut got = Vec::new();
            let mut names = Vec::new();
            for protocol in Protocol::ALL {
                let seen = caller.call(protocol, &call).await;
                got.push(status(&seen));
                names.extend(seen.ok().and_then(|seen| seen.arrived).map(|arrived| arrived.principal));
            }
            let reached = self.backend.calls() - before;
            let named =
                if case.principal.is_empty() { names.is_empty() } else { names == [case.principal; 2] };
            let named = named && reached == names.len() as u64;
            names.dedup();
            shown.add_row([case.shows, &got[0], &got[1], names.first().map_or("nothing", String::as_str)]);
            let (grpc, http) = case.expected;
            story.claim(
                case.id,
                case.claim,
                format!("{grpc}, {http}"),
                format!("{}, {}; {reached} of 2 reached the backend", got[0], got[1]),
                got == [grpc, http] && named,
            );
        }
        tell(story, &shown);
        Ok(())
    }

    fn visitors<'a>(&'a self, foreign: &'a Intermediate) -> anyhow::Result<Vec<Case<'a>>> {
        let (yes, no) = (("OK", "200"), ("PERMISSION_DENIED", "403"));
        let (unknown, cut) = (("UNAUTHENTICATED", "401"), ("no connection", "no connection"));
        let ours = &self.trust;
        let named = |id: &str| Names::default().spiffe(id);
        let printer = || named(PRINTER);
        let case = |id, shows, claim, certificate, token, expected, principal| Case {
            id,
            shows,
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
                "certificate-is-enough",
                "the printer's certificate",
                "A client certificate is enough, without a token",
                Some((ours, printer()?)),
                None,
                yes,
                PRINTER,
            ),
            case(
                "certificate-of-another",
                "another service's certificate",
                "Another service's certificate is believed, and may not",
                Some((ours, other)),
                None,
                no,
                "",
            ),
            case(
                "no-certificate",
                "nothing",
                "Without a certificate and a token nobody passes here either",
                None,
                None,
                unknown,
                "",
            ),
            case(
                "token-over-tls",
                "a token",
                "Without a certificate a token will do",
                None,
                Some(token),
                yes,
                "rita",
            ),
            case(
                "foreign-authority",
                "the printer's name, by a foreign CA",
                "A certificate with the same name by another authority is not even connected",
                Some((foreign, printer()?)),
                None,
                cut,
                "",
            ),
            case(
                "foreign-trust-domain",
                "a name of another trust domain",
                "A name of another trust domain is nobody here",
                Some((ours, elsewhere)),
                None,
                unknown,
                "",
            ),
            case(
                "certificate-without-id",
                "a certificate without a SPIFFE ID",
                "A certificate without a SPIFFE ID names nobody",
                Some((ours, nameless)),
                None,
                unknown,
                "",
            ),
            case(
                "bad-token-good-certificate",
                "that certificate and a bad token",
                "A certificate does not make a bad token good",
                Some((ours, printer()?)),
                Some("not.a.token".into()),
                unknown,
                "",
            ),
        ])
    }
}
