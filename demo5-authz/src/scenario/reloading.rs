//! Policies and keys change: the good ones are used within a moment, the bad ones are told and change nothing.

use std::time::Instant;

use shared::poll::wait_until;
use shared::report::Recorder;

use super::limits::{LIMIT, OFTEN};
use super::mesh::{HOUR, Mesh, put};
use crate::claims::Claims;
use crate::client::{Call, Caller, Protocol, Wish};
use crate::issuer::{Issuer, Kind, jwks};
use crate::token::Expected;
use crate::topology::FRONT;

/// A policy with a mistake in its fourth line.
const BROKEN: &str = "\
// Readers may delete on Sundays.
@id(\"sundays\")
permit (principal in Role::\"reader\", action == Action::\"call\", resource)
when { context.weekday == \"Sunday\" };
";

/// The same without it.
const MENDED: &str = "\
@id(\"readers-delete-too\")
permit (principal in Role::\"reader\", action == Action::\"call\", resource)
when { resource.path == \"/hello\" && context.method == \"DELETE\" };
";

impl Mesh {
    /// Nothing is restarted, and nothing that was good is lost.
    pub(super) async fn reloading(&self, story: &mut Recorder) -> anyhow::Result<()> {
        let caller = self.at(FRONT)?;
        let token = self.token("rita", &["reader"])?;
        let file = self.path("policies").join("more.cedar");
        put(&file, BROKEN)?;
        let complaint = self.complaint("the complaint", |told| !told.is_empty()).await?;
        let place = complaint.rsplit('/').next().unwrap_or_default().to_owned();
        let hello = self.both(&caller, &Call::new(Wish::Hello).token(&token)).await?;
        story.claim(
            "bad-policy-is-told",
            "A policy with a mistake is told with its place, and the last good ones stay",
            "more.cedar:4:…; a reader still gets OK, 200",
            format!("{place}; {}", hello.told()),
            place.starts_with("more.cedar:4:") && place.contains("weekday") && hello.are("OK", "200"),
        );

        let delete = Call::new(Wish::Delete).token(&token);
        let before = caller.call(Protocol::Http, &delete).await?.status;
        put(&file, MENDED)?;
        let begun = Instant::now();
        self.until(&caller, &delete, "200").await?;
        let took = begun.elapsed();
        std::fs::remove_file(&file)?;
        self.until(&caller, &delete, "403").await?;
        story.note(format!("a new policy was in force {took:.0?} after it was written"));
        story.claim(
            "policy-change",
            "A new policy is in force without a restart, and its end too",
            "403, then 200, then 403",
            format!("{before}, then 200, then 403"),
            before == "403",
        );
        self.rotation(story, &caller, &token).await
    }

    /// A second key, then only that one.
    async fn rotation(&self, story: &mut Recorder, caller: &Caller, old: &str) -> anyhow::Result<()> {
        let file = self.path("jwks.json");
        let next = Issuer::generate(Kind::Es256)?;
        let claims = Claims::new(&Expected::default(), "rita", &["reader"], HOUR);
        let new = next.sign(&claims)?;
        let call = |token| Call::new(Wish::Hello).token(token);
        let status = async |token| anyhow::Ok(caller.call(Protocol::Http, &call(token)).await?.status);
        let mut seen = vec![format!("{} {}", status(old).await?, status(&new).await?)];
        put(&file, &jwks([&self.issuer, &next]))?;
        self.until(caller, &call(&new), "200").await?;
        seen.push(format!("{} {}", status(old).await?, status(&new).await?));
        put(&file, &next.jwks())?;
        self.until(caller, &call(old), "401").await?;
        seen.push(format!("{} {}", status(old).await?, status(&new).await?));
        // As it was, for those that come after.
        put(&file, &self.issuer.jwks())?;
        self.until(caller, &call(old), "200").await?;
        story.claim(
            "key-rotation",
            "Keys are rotated without a gap, and a withdrawn key's tokens end at once, remembered or not",
            "old and new token: 200 401, 200 200, 401 200",
            seen.join(", "),
            seen == ["200 401", "200 200", "401 200"],
        );
        Ok(())
    }

    /// Waits until the call gets this status.
    async fn until(&self, caller: &Caller, call: &Call<'_>, status: &str) -> anyhow::Result<()> {
        let look = async || match caller.call(Protocol::Http, call).await {
            Ok(seen) if seen.status == status => Ok(()),
            Ok(seen) => Err(seen.status),
            Err(error) => Err(error.to_string()),
        };
        Ok(wait_until(&format!("status {status}"), OFTEN, LIMIT, look).await?)
    }

    /// Waits for what is said about the policy files.
    async fn complaint(&self, what: &str, is: impl Fn(&str) -> bool) -> anyhow::Result<String> {
        let look = || {
            let told = self.policies.complaint.borrow().clone();
            std::future::ready(if is(&told) { Ok(told) } else { Err(told) })
        };
        Ok(wait_until(what, OFTEN, LIMIT, look).await?)
    }
}
