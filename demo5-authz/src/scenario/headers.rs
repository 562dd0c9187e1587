//! What the backend sees: the caller's name by the authorizer's word, never by the caller's, and no token.

use shared::report::Recorder;

use super::calls::Both;
use super::mesh::Mesh;
use crate::client::{Call, Seen, Wish};
use crate::decision::{PRINCIPAL, ROLES};
use crate::topology::FRONT;

impl Mesh {
    /// Headers that are set, overwritten, and taken away.
    pub(super) async fn headers(&self, story: &mut Recorder) -> anyhow::Result<()> {
        let caller = self.at(FRONT)?;
        let token = self.token("rita", &["reader"])?;
        let honest = Call::new(Wish::Hello).token(&token);
        let both = self.both(&caller, &honest).await?;
        story.claim(
            "principal-arrives",
            "The backend sees the caller's name in the header that the authorizer set",
            "rita, rita",
            principals(&both),
            principals(&both) == "rita, rita",
        );
        let has_token = |seen: &Seen| has(seen, "authorization");
        story.claim(
            "token-is-removed",
            "The authorization header is removed before the backend",
            "in 0 of 2 calls",
            format!(
                "in {} of 2 calls that reached it",
                u8::from(has_token(&both.grpc)) + u8::from(has_token(&both.http))
            ),
            both.are("OK", "200") && !has_token(&both.grpc) && !has_token(&both.http),
        );
        let forged = honest.header(PRINCIPAL, "adam").header(ROLES, "admin").header(PRINCIPAL, "root");
        let both = self.both(&caller, &forged).await?;
        story.claim(
            "forged-principal",
            "A caller who sends that header himself does not get it through",
            "rita, rita",
            principals(&both),
            principals(&both) == "rita, rita",
        );
        let forged = Call::new(Wish::Public).token(&token).header(PRINCIPAL, "adam").header(ROLES, "admin");
        let both = self.both(&caller, &forged).await?;
        story.claim(
            "forged-principal-unasked",
            "Not even where nobody is asked: Envoy removes it from every call first",
            "no name, no roles",
            format!("\"{}\"; {}, {}", principals(&both), roles(&both.grpc), roles(&both.http)),
            both.are("OK", "200")
                && principals(&both) == ", "
                && !has(&both.grpc, ROLES)
                && !has(&both.http, ROLES),
        );
        story.claim(
            "token-stays-unasked",
            "A limit: where nobody is asked, nobody takes the token away",
            "in 2 of 2 calls",
            format!("in {} of 2 calls", u8::from(has_token(&both.grpc)) + u8::from(has_token(&both.http))),
            has_token(&both.grpc) && has_token(&both.http),
        );
        Ok(())
    }
}

fn principals(both: &Both) -> String {
    let principal =
        |seen: &Seen| seen.arrived.as_ref().map_or("(did not arrive)".to_owned(), |it| it.principal.clone());
    format!("{}, {}", principal(&both.grpc), principal(&both.http))
}

fn roles(seen: &Seen) -> &'static str {
    if has(seen, ROLES) { "roles" } else { "no roles" }
}

/// Whether a header of this name reached the backend.
fn has(seen: &Seen, name: &str) -> bool {
    seen.arrived.as_ref().is_some_and(|arrived| arrived.headers.iter().any(|header| header == name))
}
