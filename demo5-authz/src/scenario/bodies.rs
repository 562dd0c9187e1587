//! Request bodies for the authorizer: none, whole ones, or the beginning of longer ones.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::Value;
use shared::report::Recorder;

use super::mesh::{FULL_BODY_LISTENER, MAX_BODY_BYTES, Mesh, PARTIAL_BODY_LISTENER};
use super::tables::{print_table, table};
use crate::client::CallResult;
use crate::topology::FRONT_LISTENER;

impl Mesh {
    /// The price of looking at bodies is that somebody must hold them.
    pub(super) async fn bodies(&self, recorder: &mut Recorder) -> anyhow::Result<()> {
        let max = u64::from(MAX_BODY_BYTES);
        let mut table_rows = table(["door", "body", "status", "the authorizer saw", "the backend got"]);
        for (id, claim, listener, size, expected, expected_body, expected_bytes) in [
            (
                "body-off",
                "Without with_request_body the authorizer sees no body",
                FRONT_LISTENER,
                4 * max,
                "200",
                BodySeen::NoBody,
                4 * max,
            ),
            (
                "body-full",
                "With it, the authorizer sees the body, and the backend still gets it",
                FULL_BODY_LISTENER,
                max / 2,
                "200",
                BodySeen::Bytes(max / 2, false),
                max / 2,
            ),
            (
                "body-too-large",
                "A body above the limit is refused before anybody is asked",
                FULL_BODY_LISTENER,
                2 * max,
                "413",
                BodySeen::NotChecked,
                0,
            ),
            (
                "body-partial",
                "With allow_partial_message the authorizer sees the beginning, the backend all of it",
                PARTIAL_BODY_LISTENER,
                2 * max,
                "200",
                BodySeen::Bytes(max, true),
                2 * max,
            ),
        ] {
            let before = self.authorizer.metrics().checks();
            let (seen, backend_got) = self.post(listener, size).await?;
            let after = self.authorizer.metrics().checks();
            let authorizer_saw = if after == before {
                BodySeen::NotChecked
            } else {
                let line = self.log_entry(&seen).await?;
                let bytes = line["body"]["bytes"].as_u64();
                bytes
                    .map_or(BodySeen::NoBody, |bytes| BodySeen::Bytes(bytes, line["body"]["partial"] == true))
            };
            table_rows.add_row([
                listener,
                &format!("{size} bytes"),
                &seen.status,
                &authorizer_saw.to_string(),
                &format!("{backend_got} bytes"),
            ]);
            recorder.claim(
                id,
                claim,
                format!("{expected}; authorizer: {expected_body}; backend: {expected_bytes} bytes"),
                format!("{}; authorizer: {authorizer_saw}; backend: {backend_got} bytes", seen.status),
                seen.status == expected && authorizer_saw == expected_body && backend_got == expected_bytes,
            );
        }
        print_table(recorder, &table_rows);
        Ok(())
    }

    /// Sends a body of this size, and says how much of it the backend got.
    async fn post(&self, listener: &str, size: u64) -> anyhow::Result<(CallResult, u64)> {
        let mut headers = HeaderMap::new();
        let token = self.token("rita", &["reader"])?;
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}"))?);
        let body = Bytes::from(vec![b'x'; usize::try_from(size)?]);
        let seen = self.caller_at(listener)?.http(Method::POST, "/hello", headers, body).await?;
        let page: Option<Value> = serde_json::from_str(&seen.message).ok();
        let backend_got = page.and_then(|page| page["body_bytes"].as_u64()).unwrap_or(0);
        Ok((seen, backend_got))
    }
}

/// What the authorizer saw of a body.
#[derive(PartialEq, Eq)]
enum BodySeen {
    /// It was asked, and there was none.
    NoBody,
    /// So many bytes, and whether there were more.
    Bytes(u64, bool),
    /// It was not asked.
    NotChecked,
}

impl std::fmt::Display for BodySeen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoBody => f.write_str("no body"),
            Self::Bytes(bytes, false) => write!(f, "{bytes} bytes"),
            Self::Bytes(bytes, true) => write!(f, "the first {bytes} bytes"),
            Self::NotChecked => f.write_str("not asked"),
        }
    }
}
