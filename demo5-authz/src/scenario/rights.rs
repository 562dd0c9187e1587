//! May you do that? Roles, routes where nobody is asked, what routes add, and paths that mean something else.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use shared::report::Recorder;

use super::mesh::Mesh;
use super::tables::{table, tell};
use crate::client::{Call, Caller, Failed, Seen, Wish};
use crate::topology::FRONT;

/// Ways to write `/vault` or `/hello` so that it looks like the path that is open to everybody, or like another one.
const TRICKS: [&str; 9] = [
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
    pub(super) async fn rights(&self, story: &mut Recorder) -> anyhow::Result<()> {
        let caller = self.at(FRONT)?;
        let (reader, admin) = (self.token("rita", &["reader"])?, self.token("adam", &["admin"])?);
        let visitor = self.token("vera", &[])?;
        let asked = self.authorizer.metrics().checks();
        let before = self.envoy_counted().await?;
        let mut shown = table(["who", "wants", "gRPC", "HTTP", "policies that decided"]);
        let (yes, no) = (("OK", "200"), ("PERMISSION_DENIED", "403"));
        for (id, claim, who, token, wish, expected) in [
            ("reader-hello", "A reader may say hello", "reader", &reader, Wish::Hello, yes),
            ("reader-delete", "A reader may not delete", "reader", &reader, Wish::Delete, no),
            ("admin-delete", "An admin may delete", "admin", &admin, Wish::Delete, yes),
            ("no-role", "Who has no role may nothing", "visitor", &visitor, Wish::Hello, no),
        ] {
            let both = self.both(&caller, &Call::new(wish).token(token)).await?;
            let policies = self.logged(&both.grpc).await?["policies"].to_string();
            shown.add_row([who, &format!("{wish:?}"), &both.grpc.status, &both.http.status, &policies]);
            story.claim(
                id,
                claim,
                format!("{}, {}", expected.0, expected.1),
                both.told(),
                both.are(expected.0, expected.1),
            );
        }
        let now = self.authorizer.metrics().checks();
        let after = self.envoy_counted().await?;
        let counted = [now.0 - asked.0, now.1 - asked.1];
        story.claim(
            "counts-agree",
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
        let both = self.both(&caller, &Call::new(Wish::Public)).await?;
        let questions = self.authorizer.metrics().checks();
        shown.add_row(["anybody", "Public", &both.grpc.status, &both.http.status, "(nobody was asked)"]);
        tell(story, &shown);
        story.claim(
            "route-without-ext-authz",
            "A route with ext_authz switched off passes everybody, and asks nobody",
            "OK, 200; 0 questions",
            format!("{}; {} questions", both.told(), questions.0 + questions.1 - now.0 - now.1),
            both.are("OK", "200") && questions == now,
        );
        self.extensions(story, &caller, &reader, &admin).await?;
        self.tricks(story, &caller, &reader).await
    }

    /// Allowed and denied at the front door, by Envoy's own statistics.
    async fn envoy_counted(&self) -> anyhow::Result<[u64; 2]> {
        let stats = self.envoy.admin().stats("^http\\..*ext_authz\\.front\\.(ok|denied)$").await?;
        let of =
            |end: &str| stats.iter().filter(|(name, _)| name.ends_with(end)).map(|(_, count)| count).sum();
        Ok([of(".ok"), of(".denied")])
    }

    async fn extensions(
        &self,
        story: &mut Recorder,
        caller: &Caller,
        reader: &str,
        admin: &str,
    ) -> anyhow::Result<()> {
        let by = async |token: &str| get(caller, "/vault", Some(token)).await;
        let (refused, passed) = (by(reader).await?, by(admin).await?);
        let (no, yes) = (self.logged(&refused).await?, self.logged(&passed).await?);
        let told = |line: &serde_json::Value| format!("{} by {}", line["extensions"], line["policies"]);
        story.claim(
            "extensions-arrive",
            "What Envoy's route adds for the authorizer arrives, and a policy heeds it",
            "reader 403, admin 200, both with {\"clearance\":\"admin\"}",
            format!("reader {}: {}; admin {}: {}", refused.status, told(&no), passed.status, told(&yes)),
            refused.status == "403"
                && passed.passed()
                && [no, yes].iter().all(|line| line["extensions"]["clearance"] == "admin"),
        );
        Ok(())
    }

    /// However the path is written, nobody gets further by it than by the plain one.
    async fn tricks(&self, story: &mut Recorder, caller: &Caller, reader: &str) -> anyhow::Result<()> {
        let before = self.backend.calls();
        let mut seen = Vec::new();
        for path in TRICKS {
            seen.push(get(caller, path, None).await?.status);
        }
        let without = self.backend.calls() - before;
        let mut vaults = 0;
        for path in TRICKS.iter().filter(|path| path.ends_with("vault")) {
            vaults += u64::from(get(caller, path, Some(reader)).await?.passed());
        }
        seen.sort_unstable();
        seen.dedup();
        story.claim(
            "path-tricks",
            "A path that is written in a roundabout way gets nobody past a check",
            format!("0 of {} pass without a token, and no reader gets to /vault", TRICKS.len()),
            format!("{without} pass without a token, {vaults} as a reader; statuses {}", seen.join(", ")),
            without == 0 && vaults == 0,
        );
        Ok(())
    }
}

async fn get(caller: &Caller, path: &str, token: Option<&str>) -> Result<Seen, Failed> {
    let mut headers = HeaderMap::new();
    if let Some(value) = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok()) {
        headers.insert(header::AUTHORIZATION, value);
    }
    caller.http(Method::GET, path, headers, Bytes::new()).await
}
