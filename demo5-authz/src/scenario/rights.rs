//! May you do that? Roles, routes where nobody is asked, what routes add, and paths that mean something else.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use shared::report::Recorder;

use super::mesh::Mesh;
use super::tables::{print_table, table};
use crate::client::{Call, CallError, CallResult, Caller, Operation};
use crate::topology::FRONT_LISTENER;

/// Ways to write `/vault` or `/hello` so that it looks like the path that is open to everybody, or like another one.
const AMBIGUOUS_PATHS: [&str; 9] = [
    "/public/../vault",
    "/public/../hello",
    "/public/%2e%2e/vault",
    "/public%2f..%2fvault",
    "/public/..%5cvault",
    "//vault",
    "/./vault",
    "/vault/../hello",
    "/public;/../vault",
];

impl Mesh {
    /// A reader reads, an admin does more, and what a route adds is heeded.
    pub(super) async fn rights(&self, recorder: &mut Recorder) -> anyhow::Result<()> {
        let caller = self.caller_at(FRONT_LISTENER)?;
        let (reader, admin) = (self.token("rita", &["reader"])?, self.token("adam", &["admin"])?);
        let visitor = self.token("vera", &[])?;
        let checks_before = self.authorizer.metrics().checks();
        let before = self.envoy_decision_counts().await?;
        let mut table_rows = table(["who", "wants", "gRPC", "HTTP", "policies that decided"]);
        let (allowed, denied) = (("OK", "200"), ("PERMISSION_DENIED", "403"));
        for (id, claim, role, token, operation, expected) in [
            ("reader-hello", "A reader may say hello", "reader", &reader, Operation::Hello, allowed),
            ("reader-delete", "A reader may not delete", "reader", &reader, Operation::Delete, denied),
            ("admin-delete", "An admin may delete", "admin", &admin, Operation::Delete, allowed),
            ("no-role", "Who has no role may nothing", "visitor", &visitor, Operation::Hello, denied),
        ] {
            let both = self.call_both(&caller, &Call::new(operation).with_token(token)).await?;
            let policies = self.log_entry(&both.grpc).await?["policies"].to_string();
            table_rows.add_row([
                role,
                &format!("{operation:?}"),
                &both.grpc.status,
                &both.http.status,
                &policies,
            ]);
            recorder.claim(
                id,
                claim,
                format!("{}, {}", expected.0, expected.1),
                both.summary(),
                both.have_statuses(expected.0, expected.1),
            );
        }
        let checks_after = self.authorizer.metrics().checks();
        let after = self.envoy_decision_counts().await?;
        let counted = [checks_after.0 - checks_before.0, checks_after.1 - checks_before.1];
        recorder.claim(
            "stats-match",
            "Envoy counted the same decisions as the authorizer",
            "4 allowed, 4 denied by both",
            format!(
                "authorizer {} and {}, Envoy {} and {}",
                counted[0],
                counted[1],
                after[0] - before[0],
                after[1] - before[1]
            ),
            counted == [4, 4] && after[0] - before[0] == 4 && after[1] - before[1] == 4,
        );
        let both = self.call_both(&caller, &Call::new(Operation::Public)).await?;
        let checks_public = self.authorizer.metrics().checks();
        table_rows.add_row(["anybody", "Public", &both.grpc.status, &both.http.status, "(nobody was asked)"]);
        print_table(recorder, &table_rows);
        recorder.claim(
            "route-without-ext-authz",
            "A route with ext_authz switched off passes everybody, and asks nobody",
            "OK, 200; 0 questions",
            format!(
                "{}; {} questions",
                both.summary(),
                checks_public.0 + checks_public.1 - checks_after.0 - checks_after.1
            ),
            both.have_statuses("OK", "200") && checks_public == checks_after,
        );
        self.context_extensions(recorder, &caller, &reader, &admin).await?;
        self.path_confusion(recorder, &caller, &reader).await
    }

    /// Allowed and denied at the front door, by Envoy's own statistics.
    async fn envoy_decision_counts(&self) -> anyhow::Result<[u64; 2]> {
        let stats = self.envoy.admin().stats("^http\\..*ext_authz\\.front\\.(ok|denied)$").await?;
        let of =
            |end: &str| stats.iter().filter(|(name, _)| name.ends_with(end)).map(|(_, count)| count).sum();
        Ok([of(".ok"), of(".denied")])
    }

    async fn context_extensions(
        &self,
        recorder: &mut Recorder,
        caller: &Caller,
        reader: &str,
        admin: &str,
    ) -> anyhow::Result<()> {
        let by = async |token: &str| get(caller, "/vault", Some(token)).await;
        let (reader_result, admin_result) = (by(reader).await?, by(admin).await?);
        let (denied, allowed) = (self.log_entry(&reader_result).await?, self.log_entry(&admin_result).await?);
        let describe = |line: &serde_json::Value| format!("{} by {}", line["extensions"], line["policies"]);
        recorder.claim(
            "context-extensions",
            "What Envoy's route adds for the authorizer arrives, and a policy heeds it",
            "reader 403, admin 200, both with {\"clearance\":\"admin\"}",
            format!(
                "reader {}: {}; admin {}: {}",
                reader_result.status,
                describe(&denied),
                admin_result.status,
                describe(&allowed)
            ),
            reader_result.status == "403"
                && admin_result.reached_backend()
                && [denied, allowed].iter().all(|line| line["extensions"]["clearance"] == "admin"),
        );
        Ok(())
    }

    /// However the path is written, nobody gets further by it than by the plain one.
    async fn path_confusion(
        &self,
        recorder: &mut Recorder,
        caller: &Caller,
        reader: &str,
    ) -> anyhow::Result<()> {
        let before = self.backend.calls();
        let mut seen = Vec::new();
        for path in AMBIGUOUS_PATHS {
            seen.push(get(caller, path, None).await?.status);
        }
        let without_token = self.backend.calls() - before;
        let mut vault_as_reader = 0;
        for path in AMBIGUOUS_PATHS.iter().filter(|path| path.ends_with("vault")) {
            vault_as_reader += u64::from(get(caller, path, Some(reader)).await?.reached_backend());
        }
        seen.sort_unstable();
        seen.dedup();
        recorder.claim(
            "path-confusion",
            "A path that is written in a roundabout way gets nobody past a check",
            format!("0 of {} pass without a token, and no reader gets to /vault", AMBIGUOUS_PATHS.len()),
            format!(
                "{without_token} pass without a token, {vault_as_reader} as a reader; statuses {}",
                seen.join(", ")
            ),
            without_token == 0 && vault_as_reader == 0,
        );
        Ok(())
    }
}

async fn get(caller: &Caller, path: &str, token: Option<&str>) -> Result<CallResult, CallError> {
    let mut headers = HeaderMap::new();
    if let Some(value) = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok()) {
        headers.insert(header::AUTHORIZATION, value);
    }
    caller.http(Method::GET, path, headers, Bytes::new()).await
}
