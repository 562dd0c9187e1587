//! Request bodies for the authorizer: none, whole ones, or the beginning of longer ones.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::Value;
use shared::report::Recorder;

use super::mesh::{BODY, Mesh, PARTIAL, WHOLE};
use super::tables::{table, tell};
use crate::client::Seen;
use crate::topology::FRONT;

impl Mesh {
    /// The price of looking at bodies is that somebody must hold them.
    pub(super) async fn bodies(&self, story: &mut Recorder) -> anyhow::Result<()> {
        let most = u64::from(BODY);
        let mut shown = table(["door", "body", "status", "the authorizer saw", "the backend got"]);
        for (id, claim, door, size, expected, judged, arrived) in [
            (
                "body-off",
                "Without with_request_body the authorizer sees no body",
                FRONT,
                4 * most,
                "200",
                Judged::Nothing,
                4 * most,
            ),
            (
                "body-whole",
                "With it, the authorizer sees the body, and the backend still gets it",
                WHOLE,
                most / 2,
                "200",
                Judged::Bytes(most / 2, false),
                most / 2,
            ),
            (
                "body-too-large",
                "A body above the limit is refused before anybody is asked",
                WHOLE,
                2 * most,
                "413",
                Judged::NotAsked,
                0,
            ),
            (
                "body-partial",
                "With allow_partial_message the authorizer sees the beginning, the backend all of it",
                PARTIAL,
                2 * most,
                "200",
                Judged::Bytes(most, true),
                2 * most,
            ),
        ] {
            let before = self.authorizer.metrics().checks();
            let (seen, got) = self.post(door, size).await?;
            let after = self.authorizer.metrics().checks();
            let saw = if after == before {
                Judged::NotAsked
            } else {
                let line = self.logged(&seen).await?;
                let bytes = line["body"]["bytes"].as_u64();
                bytes.map_or(Judged::Nothing, |bytes| Judged::Bytes(bytes, line["body"]["partial"] == true))
            };
            shown.add_row([
                door,
                &format!("{size} bytes"),
                &seen.status,
                &saw.to_string(),
                &format!("{got} bytes"),
            ]);
            story.claim(
                id,
                claim,
                format!("{expected}; authorizer: {judged}; backend: {arrived} bytes"),
                format!("{}; authorizer: {saw}; backend: {got} bytes", seen.status),
                seen.status == expected && saw == judged && got == arrived,
            );
        }
        tell(story, &shown);
        Ok(())
    }

    /// Sends a body of this size, and says how much of it the backend got.
    async fn post(&self, door: &str, size: u64) -> anyhow::Result<(Seen, u64)> {
        let mut headers = HeaderMap::new();
        let token = self.token("rita", &["reader"])?;
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}"))?);
        let body = Bytes::from(vec![b'x'; usize::try_from(size)?]);
        let seen = self.at(door)?.http(Method::POST, "/hello", headers, body).await?;
        let page: Option<Value> = serde_json::from_str(&seen.said).ok();
        let got = page.and_then(|page| page["body_bytes"].as_u64()).unwrap_or(0);
        Ok((seen, got))
    }
}

/// What the authorizer saw of a body.
#[derive(PartialEq, Eq)]
enum Judged {
    /// It was asked, and there was none.
    Nothing,
    /// So many bytes, and whether there were more.
    Bytes(u64, bool),
    /// It was not asked.
    NotAsked,
}

impl std::fmt::Display for Judged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => f.write_str("no body"),
            Self::Bytes(bytes, false) => write!(f, "{bytes} bytes"),
            Self::Bytes(bytes, true) => write!(f, "the first {bytes} bytes"),
            Self::NotAsked => f.write_str("not asked"),
        }
    }
}
