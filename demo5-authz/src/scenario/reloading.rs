//! Policies and keys change: the good ones are used within a moment, the bad ones are told and change nothing.

use std::time::Instant;

use shared::poll::wait_until;
use shared::report::Recorder;

use super::limits::{LIMIT, OFTEN};
use super::mesh::{HOUR, Mesh, write_atomically};
use crate::claims::Claims;
use crate::client::{Call, Caller, Operation, Protocol};
use crate::issuer::{Issuer, KeyType, jwks};
use crate::token::ValidationParams;
use crate::topology::FRONT_LISTENER;

/// A policy with a mistake in its fourth line.
const INVALID_POLICY: &str = "\
// Readers may delete on Sundays.
@id(\"sundays\")
permit (principal in Role::\"reader\", action == Action::\"call\", resource)
when { context.weekday == \"Sunday\" };
";

/// The same without it.
const VALID_POLICY: &str = "\
@id(\"readers-delete-too\")
permit (principal in Role::\"reader\", action == Action::\"call\", resource)
when { resource.path == \"/hello\" && context.method == \"DELETE\" };
";

impl Mesh {
    /// Nothing is restarted, and nothing that was good is lost.
    pub(super) async fn reloading(&self, recorder: &mut Recorder) -> anyhow::Result<()> {
        let caller = self.caller_at(FRONT_LISTENER)?;
        let token = self.token("rita", &["reader"])?;
        let file = self.path("policies").join("more.cedar");
        write_atomically(&file, INVALID_POLICY)?;
        let error = self.wait_for_policy_error("the complaint", |message| !message.is_empty()).await?;
        let location = error.rsplit('/').next().unwrap_or_default().to_owned();
        let hello = self.call_both(&caller, &Call::new(Operation::Hello).with_token(&token)).await?;
        recorder.claim(
            "invalid-policy",
            "A policy with a mistake is told with its place, and the last good ones stay",
            "more.cedar:4:…; a reader still gets OK, 200",
            format!("{location}; {}", hello.summary()),
            location.starts_with("more.cedar:4:")
                && location.contains("weekday")
                && hello.have_statuses("OK", "200"),
        );

        let delete = Call::new(Operation::Delete).with_token(&token);
        let before = caller.call(Protocol::Http, &delete).await?.status;
        write_atomically(&file, VALID_POLICY)?;
        let started = Instant::now();
        self.wait_for_status(&caller, &delete, "200").await?;
        let duration = started.elapsed();
        std::fs::remove_file(&file)?;
        self.wait_for_status(&caller, &delete, "403").await?;
        recorder.note(format!("a new policy was in force {duration:.0?} after it was written"));
        recorder.claim(
            "policy-reload",
            "A new policy is in force without a restart, and its end too",
            "403, then 200, then 403",
            format!("{before}, then 200, then 403"),
            before == "403",
        );
        self.rotation(recorder, &caller, &token).await
    }

    /// A second key, then only that one.
    async fn rotation(&self, recorder: &mut Recorder, caller: &Caller, old: &str) -> anyhow::Result<()> {
        let file = self.path("jwks.json");
        let next = Issuer::generate(KeyType::Es256)?;
        let claims = Claims::new(&ValidationParams::default(), "rita", &["reader"], HOUR);
        let new = next.sign(&claims)?;
        let call = |token| Call::new(Operation::Hello).with_token(token);
        let status = async |token| anyhow::Ok(caller.call(Protocol::Http, &call(token)).await?.status);
        let mut seen = vec![format!("{} {}", status(old).await?, status(&new).await?)];
        write_atomically(&file, &jwks([&self.issuer, &next]))?;
        self.wait_for_status(caller, &call(&new), "200").await?;
        seen.push(format!("{} {}", status(old).await?, status(&new).await?));
        write_atomically(&file, &next.jwks())?;
        self.wait_for_status(caller, &call(old), "401").await?;
        seen.push(format!("{} {}", status(old).await?, status(&new).await?));
        // As it was, for those that come after.
        write_atomically(&file, &self.issuer.jwks())?;
        self.wait_for_status(caller, &call(old), "200").await?;
        recorder.claim(
            "key-rotation",
            "Keys are rotated without a gap, and a withdrawn key's tokens end at once, remembered or not",
            "old and new token: 200 401, 200 200, 401 200",
            seen.join(", "),
            seen == ["200 401", "200 200", "401 200"],
        );
        Ok(())
    }

    /// Waits until the call gets this status.
    async fn wait_for_status(&self, caller: &Caller, call: &Call<'_>, status: &str) -> anyhow::Result<()> {
        let check = async || match caller.call(Protocol::Http, call).await {
            Ok(seen) if seen.status == status => Ok(()),
            Ok(seen) => Err(seen.status),
            Err(error) => Err(error.to_string()),
        };
        Ok(wait_until(&format!("status {status}"), OFTEN, LIMIT, check).await?)
    }

    /// Waits for what is said about the policy files.
    async fn wait_for_policy_error(&self, what: &str, is: impl Fn(&str) -> bool) -> anyhow::Result<String> {
        let check = || {
            let message = self.policies.error.borrow().clone();
            std::future::ready(if is(&message) { Ok(message) } else { Err(message) })
        };
        Ok(wait_until(what, OFTEN, LIMIT, check).await?)
    }
}
