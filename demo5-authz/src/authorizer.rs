//! The decision: who is it, and may that one do this?
//!
//! ```text
//! CheckRequest ──> CheckInput ──authenticate──> Principal ──evaluate──> Outcome ──> CheckResponse
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

use crate::check_input::{self, CheckInput};
use crate::decision::{self, Decision, Reason};
use crate::decision_log::{DecisionLog, LogRecord};
use crate::metrics::Metrics;
use crate::outcome::Outcome;
use crate::policy::{Action, Policies, Principal};
use crate::token::Verifier;

/// The trust domain whose certificates name somebody here.
pub const TRUST_DOMAIN: &str = "demo5.example";

/// Decides about one request.
pub fn decide(
    input: &CheckInput<'_>,
    verifier: &Verifier,
    policies: &Policies,
    trust_domain: &str,
    now: SystemTime,
) -> Outcome {
    let principal = match authenticate(input, verifier, trust_domain, now) {
        Ok(principal) => principal,
        Err(reason) => return Outcome::deny(reason),
    };
    let CheckInput { method, path, grpc, .. } = *input;
    let policy_decision =
        policies.evaluate(&principal, &Action { method, path, grpc, extensions: &input.extensions });
    let decision = match (policy_decision.permitted, policy_decision.error) {
        (true, _) => Decision::Allow { headers: headers(&principal) },
        (false, Some(message)) => Decision::Deny { reason: Reason::PolicyFailed(message) },
        (false, None) if policy_decision.policies.is_empty() => {
            Decision::Deny { reason: Reason::NotPermitted }
        }
        (false, None) => Decision::Deny { reason: Reason::Forbidden },
    };
    Outcome { decision, principal: Some(principal), policies: policy_decision.policies }
}

/// A token, if there is one, else the certificate. A bad token is not made good by a certificate: who shows one means it.
fn authenticate(
    input: &CheckInput<'_>,
    verifier: &Verifier,
    trust_domain: &str,
    now: SystemTime,
) -> Result<Principal, Reason> {
    if let Some(header) = input.authorization {
        let token = bearer(header).ok_or(Reason::NotBearer)?;
        let verified = verifier.verify(token, now)?;
        let roles = verified.roles().map(ToOwned::to_owned).collect();
        return Ok(Principal::User { name: verified.subject().to_owned(), roles });
    }
    if input.certificate.is_empty() {
        return Err(Reason::NoCredentials);
    }
    // Envoy gives the first URI of a certificate that it has verified, else a DNS name or the subject.
    match SpiffeId::parse(input.certificate) {
        Ok(id) if id.trust_domain() == trust_domain => Ok(Principal::Workload { id: id.as_str().to_owned() }),
        _ => Err(Reason::UntrustedIdentity),
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
    vec![
        (decision::PRINCIPAL_HEADER, principal.name().to_owned()),
        (decision::ROLES_HEADER, principal.roles().join(",")),
    ]
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

    /// Decides about one request at this time, counts the decision and logs it.
    pub fn check_at(&self, request: &CheckRequest, now: SystemTime) -> CheckResponse {
        let started = Instant::now();
        let verifier = Arc::clone(&self.0.verifier.borrow());
        let policies = Arc::clone(&self.0.policies.borrow());
        let input = CheckInput::parse(request);
        let outcome = match &input {
            Ok(input) => decide(input, &verifier, &policies, &self.0.trust_domain, now),
            Err(invalid) => Outcome::deny(*invalid),
        };
        let grpc = check_input::is_grpc(request);
        let response = outcome.decision.to_response(grpc);
        let duration = started.elapsed();
        self.0.metrics.count(&outcome.decision, duration, verifier.cache().lookups());
        if self.0.log.is_enabled() {
            let id = check_input::request_id(request);
            self.0
                .log
                .write(LogRecord::new(now, id, input.as_ref().ok(), outcome, duration), &self.0.metrics);
        }
        response
    }
}

#[tonic::async_trait]
impl Authorization for Authorizer {
    async fn check(&self, request: tonic::Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        Ok(Response::new(self.check_at(request.get_ref(), SystemTime::now())))
    }
}
