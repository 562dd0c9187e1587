//! What the backend sees: the caller's name by the authorizer's word, never by the caller's, and no token.

use shared::report::Recorder;

use super::calls::CallPair;
use super::mesh::Mesh;
use crate::client::{Call, CallResult, Operation};
use crate::decision::{PRINCIPAL_HEADER, ROLES_HEADER};
use crate::topology::FRONT_LISTENER;

impl Mesh {
    /// Headers that are set, overwritten, and taken away.
    pub(super) async fn headers(&self, recorder: &mut Recorder) -> anyhow::Result<()> {
        let caller = self.caller_at(FRONT_LISTENER)?;
        let token = self.token("rita", &["reader"])?;
        let honest = Call::new(Operation::Hello).with_token(&token);
        let both = self.call_both(&caller, &honest).await?;
        recorder.claim(
            "principal-header",
            "The backend sees the caller's name in the header that the authorizer set",
            "rita, rita",
            principals(&both),
            principals(&both) == "rita, rita",
        );
        let has_token = |seen: &CallResult| has(seen, "authorization");
        recorder.claim(
            "token-removed",
            "The authorization header is removed before the backend",
            "in 0 of 2 calls",
            format!(
                "in {} of 2 calls that reached it",
                u8::from(has_token(&both.grpc)) + u8::from(has_token(&both.http))
            ),
            both.have_statuses("OK", "200") && !has_token(&both.grpc) && !has_token(&both.http),
        );
        let forged = honest
            .with_header(PRINCIPAL_HEADER, "adam")
            .with_header(ROLES_HEADER, "admin")
            .with_header(PRINCIPAL_HEADER, "root");
        let both = self.call_both(&caller, &forged).await?;
        recorder.claim(
            "forged-principal",
            "A caller who sends that header himself does not get it through",
            "rita, rita",
            principals(&both),
            principals(&both) == "rita, rita",
        );
        let forged = Call::new(Operation::Public)
            .with_token(&token)
            .with_header(PRINCIPAL_HEADER, "adam")
            .with_header(ROLES_HEADER, "admin");
        let both = self.call_both(&caller, &forged).await?;
        recorder.claim(
            "forged-principal-no-authz",
            "Not even where nobody is asked: Envoy removes it from every call first",
            "no name, no roles",
            format!("\"{}\"; {}, {}", principals(&both), roles(&both.grpc), roles(&both.http)),
            both.have_statuses("OK", "200")
                && principals(&both) == ", "
                && !has(&both.grpc, ROLES_HEADER)
                && !has(&both.http, ROLES_HEADER),
        );
        recorder.claim(
            "token-kept-no-authz",
            "A limit: where nobody is asked, nobody takes the token away",
            "in 2 of 2 calls",
            format!("in {} of 2 calls", u8::from(has_token(&both.grpc)) + u8::from(has_token(&both.http))),
            has_token(&both.grpc) && has_token(&both.http),
        );
        Ok(())
    }
}

fn principals(both: &CallPair) -> String {
    let principal = |seen: &CallResult| {
        seen.seen_by_backend.as_ref().map_or("(did not arrive)".to_owned(), |it| it.principal.clone())
    };
    format!("{}, {}", principal(&both.grpc), principal(&both.http))
}

fn roles(seen: &CallResult) -> &'static str {
    if has(seen, ROLES_HEADER) { "roles" } else { "no roles" }
}

/// Whether a header of this name reached the backend.
fn has(seen: &CallResult, name: &str) -> bool {
    seen.seen_by_backend.as_ref().is_some_and(|arrived| arrived.headers.iter().any(|header| header == name))
}
