//! Who are you? Callers without a token, and with tokens that are not to be believed.

use std::collections::BTreeSet;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use shared::report::Recorder;

use super::mesh::{HOUR, Mesh};
use super::tables::{print_table, table};
use crate::claims::{Audience, Claims};
use crate::client::{Call, Operation};
use crate::decision::Reason;
use crate::issuer::{Issuer, KeyType};
use crate::token::{TokenError, ValidationParams};
use crate::topology::FRONT_LISTENER;

/// A caller who does not prove who it is.
struct Case {
    id: &'static str,
    what: &'static str,
    token: Option<String>,
    /// What the decision log says of it, and nobody else.
    reason: Reason,
}

impl Mesh {
    /// Each is refused in the same words, and people find out why.
    pub(super) async fn tokens(&self, recorder: &mut Recorder) -> anyhow::Result<()> {
        let caller = self.caller_at(FRONT_LISTENER)?;
        let mut table_rows = table(["caller with", "gRPC", "HTTP", "the decision log says"]);
        let mut answers = BTreeSet::new();
        for case in self.cases()? {
            let mut call = Call::new(Operation::Hello);
            call.token = case.token.as_deref();
            let both = self.call_both(&caller, &call).await?;
            let reasons = [self.log_entry(&both.grpc).await?, self.log_entry(&both.http).await?]
                .map(|line| line["reason"].clone());
            let reason = case.reason.to_string();
            table_rows.add_row([
                case.what,
                &both.grpc.status,
                &both.http.status,
                reasons[0].as_str().unwrap_or_default(),
            ]);
            recorder.claim(
                &format!("denied-{}", case.id),
                &format!("A caller with {} is refused", case.what),
                format!("UNAUTHENTICATED, 401; log: {reason}"),
                format!("{}; log: {}", both.summary(), reasons[0].as_str().unwrap_or("nothing")),
                both.have_statuses("UNAUTHENTICATED", "401")
                    && reasons.iter().all(|logged| *logged == reason),
            );
            for seen in [both.grpc, both.http] {
                let challenge = seen.headers.get("www-authenticate").and_then(|value| value.to_str().ok());
                answers.insert(format!("{seen}, www-authenticate: {}", challenge.unwrap_or("none")));
            }
        }
        let token = self.token("ana", &["reader"])?;
        let both = self.call_both(&caller, &Call::new(Operation::Hello).with_token(&token)).await?;
        table_rows.add_row(["a valid token", &both.grpc.status, &both.http.status, "allow"]);
        print_table(recorder, &table_rows);
        for answer in &answers {
            recorder.note(format!("what every one of them was told: {answer}"));
        }
        recorder.claim(
            "denials-uniform",
            "All refused callers are told the same, whatever was wrong",
            "one answer by gRPC, one by HTTP",
            format!("{} different answers", answers.len()),
            answers.len() == 2,
        );
        recorder.claim(
            "valid-token",
            "A caller with a valid token passes",
            "OK, 200",
            both.summary(),
            both.have_statuses("OK", "200"),
        );
        Ok(())
    }

    fn cases(&self) -> anyhow::Result<Vec<Case>> {
        let (expected, issuer) = (ValidationParams::default(), &self.issuer);
        let good = Claims::new(&expected, "ana", &["reader"], HOUR);
        let hour = HOUR.as_secs();
        let signed = |claims: Claims| issuer.sign(&claims).map(Some);
        let stranger = Issuer::generate(KeyType::default())?;
        // Says that our key signed it.
        let forged =
            stranger.sign_with_header(&Header { kid: issuer.header().kid, ..stranger.header() }, &good)?;
        // {"typ":"JWT","alg":"none"}
        let none = "eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0";
        let ours = issuer.sign(&good)?;
        let payload = ours.split('.').nth(1).unwrap_or_default();
        // The public key, which everybody may have, as if it were a secret that only we have.
        let secret = EncodingKey::from_secret(issuer.public_bytes());
        let header = Header { kid: issuer.header().kid, ..Header::new(Algorithm::HS256) };
        let confused = encode(&header, &good, &secret)?;
        let case = |id, what, token, reason: Reason| Case { id, what, token, reason };
        Ok(vec![
            case("no-token", "no token", None, Reason::NoCredentials),
            case("malformed", "a malformed token", Some("not.a.token".into()), TokenError::Malformed.into()),
            case(
                "expired",
                "an expired token",
                signed(Claims { nbf: good.nbf - 2 * hour, exp: good.nbf - hour, ..good.clone() })?,
                TokenError::Expired.into(),
            ),
            case(
                "not-yet-valid",
                "a token of tomorrow",
                signed(Claims { nbf: good.nbf + hour, exp: good.exp + hour, ..good.clone() })?,
                TokenError::NotYetValid.into(),
            ),
            case(
                "wrong-audience",
                "a token for another service",
                signed(Claims { aud: Audience::One("payments".into()), ..good.clone() })?,
                TokenError::WrongAudience.into(),
            ),
            case(
                "wrong-issuer",
                "a token of another issuer",
                signed(Claims { iss: "https://elsewhere.example".into(), ..good.clone() })?,
                TokenError::WrongIssuer.into(),
            ),
            case(
                "wrong-signature",
                "a token that somebody else signed",
                Some(forged),
                TokenError::InvalidSignature.into(),
            ),
            case(
                "alg-none",
                "a token with \"alg\": \"none\"",
                Some(format!("{none}.{payload}.")),
                TokenError::AlgorithmMismatch.into(),
            ),
            case(
                "alg-confusion",
                "a token \"signed\" with our public key",
                Some(confused),
                TokenError::AlgorithmMismatch.into(),
            ),
        ])
    }
}
