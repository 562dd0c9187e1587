//! The decision: who is it, and may that one do this?
//!
//! ```text
//! CheckRequest ──> Inquiry ──authenticate──> Principal ──judge──> Outcome ──> CheckResponse
//!                              token, or certificate    policies      │
//!                                                                      └──> decision log, metrics
//! ```
//!
//! [`decide`] is a function of its arguments: no socket, no clock, no file. [`Authorizer`] holds the keys and policies of
//! the moment, and keeps the books.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use envoy_types::ext_authz::v3::pb::{Authorization, CheckRequest, CheckResponse};
use mesh_pki::SpiffeId;
use tokio::sync::watch;
use tonic::{Response, Status};

use crate::decision::{self, Decision, Reason};
use crate::decision_log::{DecisionLog, Record};
use crate::inquiry::{self, Inquiry};
use crate::metrics::Metrics;
use crate::outcome::Outcome;
use crate::policy::{Action, Policies, Principal};
use crate::token::Verifier;

/// The trust domain whose certificates name somebody here.
pub const TRUST_DOMAIN: &str = "demo5.example";

/// Decides about one request.
pub fn decide(
    inquiry: &Inquiry<'_>,
    verifier: &Verifier,
    policies: &Policies,
    trust_domain: &str,
    now: SystemTime,
) -> Outcome {
    let principal = match authenticate(inquiry, verifier, trust_domain, now) {
        Ok(principal) => principal,
        Err(reason) => return Outcome::deny(reason),
    };
    let Inquiry { method, path, grpc, .. } = *inquiry;
    let verdict = policies.judge(&principal, &Action { method, path, grpc, extensions: &inquiry.extensions });
    let decision = match (verdict.permitted, verdict.failed) {
        (true, _) => Decision::Allow { headers: headers(&principal) },
        (false, Some(why)) => Decision::Deny { reason: Reason::PolicyFailed(why) },
        (false, None) if verdict.policies.is_empty() => Decision::Deny { reason: Reason::NotPermitted },
        (false, None) => Decision::Deny { reason: Reason::Forbidden },
    };
    Outcome { decision, principal: Some(principal), policies: verdict.policies }
}

/// A token, if there is one, else the certificate. A bad token is not made good by a certificate: who shows one means it.
fn authenticate(
    inquiry: &Inquiry<'_>,
    verifier: &Verifier,
    trust_domain: &str,
    now: SystemTime,
) -> Result<Principal, Reason> {
    if let Some(header) = inquiry.authorization {
        let token = bearer(header).ok_or(Reason::NotBearer)?;
        let verified = verifier.verify(token, now)?;
        let roles = verified.roles().map(ToOwned::to_owned).collect();
        return Ok(Principal::User { name: verified.subject().to_owned(), roles });
    }
    if inquiry.certificate.is_empty() {
        return Err(Reason::NoCredentials);
    }
    // Envoy gives the first URI of a certificate that it has verified, else a DNS name or the subject.
    match SpiffeId::parse(inquiry.certificate) {
        Ok(id) if id.trust_domain() == trust_domain => Ok(Principal::Workload { id: id.as_str().to_owned() }),
        _ => Err(Reason::Stranger),
    }
}

/// The token of a `Bearer` header (RFC 6750 2.1). The scheme's case does not matter (RFC 9110 11.1).
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

fn headers(principal: &Principal) -> Vec<(&'static str, String)> {
    // Always both, so that no request keeps one that the caller made up.
    vec![(decision::PRINCIPAL, principal.name().to_owned()), (decision::ROLES, principal.roles().join(","))]
}

/// Answers Envoy, with the keys and the policies of the moment. Clones are the same authorizer.
#[derive(Clone, Debug)]
pub struct Authorizer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    verifier: watch::Receiver<Arc<Verifier>>,
    policies: watch::Receiver<Arc<Policies>>,
    trust_domain: String,
    metrics: Metrics,
    log: DecisionLog,
}

impl Authorizer {
    /// One that always uses the newest of both.
    pub fn new(
        verifier: watch::Receiver<Arc<Verifier>>,
        policies: watch::Receiver<Arc<Policies>>,
        trust_domain: &str,
        metrics: Metrics,
        log: DecisionLog,
    ) -> Self {
        Self(Arc::new(Inner { verifier, policies, trust_domain: trust_domain.to_owned(), metrics, log }))
    }

    /// What it has counted.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Where it writes its decisions.
    pub fn log(&self) -> &DecisionLog {
        &self.0.log
    }

    /// Decides about one request at this time, and keeps the books.
    pub fn answer(&self, request: &CheckRequest, now: SystemTime) -> CheckResponse {
        let begun = Instant::now();
        let verifier = Arc::clone(&self.0.verifier.borrow());
        let policies = Arc::clone(&self.0.policies.borrow());
        let inquiry = Inquiry::read(request);
        let outcome = match &inquiry {
            Ok(inquiry) => decide(inquiry, &verifier, &policies, &self.0.trust_domain, now),
            Err(unclear) => Outcome::deny(*unclear),
        };
        let grpc = inquiry::speaks_grpc(request);
        let response = outcome.decision.to_response(grpc);
        let took = begun.elapsed();
        self.0.metrics.count(&outcome.decision, took, verifier.cache().looked_up());
        if self.0.log.is_on() {
            let id = inquiry::request_id(request);
            self.0.log.write(Record::new(now, id, inquiry.as_ref().ok(), outcome, took), &self.0.metrics);
        }
        response
    }
}

#[tonic::async_trait]
impl Authorization for Authorizer {
    async fn check(&self, request: tonic::Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        Ok(Response::new(self.answer(request.get_ref(), SystemTime::now())))
    }
}
