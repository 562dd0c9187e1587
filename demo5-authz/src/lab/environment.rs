//! What exercises here begin with: somebody who signs tokens, an authorizer, and calls that show one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use mesh_lab::{CheckContext, Requirement};
use shared::envoy::Serving;
use shared::lifecycle::Lifecycle;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::authorizer::{Authorizer, TRUST_DOMAIN};
use crate::claims::Claims;
use crate::client::{CallError, CallResult, Caller};
use crate::decision_log::DecisionLog;
use crate::issuer::{Issuer, KeyType};
use crate::jwks::Jwks;
use crate::metrics::Metrics;
use crate::policy::Policies;
use crate::server::RunningServer;
use crate::token::{ValidationParams, Verifier};
use crate::topology::loopback;

/// Longer than any check.
const LIFETIME: Duration = Duration::from_secs(600);

/// Somebody who signs, and an authorizer that believes that one.
pub(super) struct TestAuthorizer {
    issuer: Issuer,
    pub(super) server: RunningServer,
}

impl TestAuthorizer {
    /// Opens it with these policies, until `life` ends.
    pub(super) async fn start(policies: Policies, life: &Lifecycle) -> anyhow::Result<Self> {
        let issuer = Issuer::generate(KeyType::default())?;
        let verifier = Verifier::new(Jwks::parse(&issuer.jwks())?, ValidationParams::default());
        // Nothing changes here, so nobody keeps the other ends.
        let (_, verifier) = watch::channel(Arc::new(verifier));
        let (_, policies) = watch::channel(Arc::new(policies));
        let authorizer =
            Authorizer::new(verifier, policies, TRUST_DOMAIN, Metrics::new()?, DecisionLog::disabled());
        let server = RunningServer::start(authorizer, listener().await?, Duration::ZERO, life);
        Ok(Self { issuer, server })
    }

    /// The header by which somebody with these roles calls.
    pub(super) fn auth_headers(&self, name: &str, roles: &[&str]) -> anyhow::Result<HeaderMap> {
        let token = self.issuer.sign(&Claims::new(&ValidationParams::default(), name, roles, LIFETIME))?;
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))?;
        value.set_sensitive(true);
        Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
    }
}

/// The demo's own policies, by the names of their files.
pub(super) fn policies() -> BTreeMap<String, String> {
    let files = [
        ("greeter.cedar", include_str!("../../policies/greeter.cedar")),
        ("clearance.cedar", include_str!("../../policies/clearance.cedar")),
    ];
    files.map(|(name, text)| (name.to_owned(), text.to_owned())).into()
}

/// A free port of this machine.
pub(super) async fn listener() -> anyhow::Result<TcpListener> {
    TcpListener::bind(loopback(0)).await.context("no free port")
}

/// Starts Envoy with the student's file, and returns it with a caller of its one listener.
pub(super) async fn start_envoy(
    context: &CheckContext,
    file: &str,
    values: &[(&str, String)],
) -> anyhow::Result<(Serving, Caller)> {
    let envoy = context.envoy(file, values).await?;
    let Some(listener) = envoy.admin().listeners().await?.into_iter().next() else {
        let what = format!("{file} has a listener");
        let advice = "Leave the listener as it was given.";
        return Err(Requirement::unmet(what, "one listener", "Envoy listens nowhere", advice).into());
    };
    Ok((envoy, Caller::plain(listener.address)?))
}

/// What a call got, in a word.
pub(super) fn status_text(seen: &Result<CallResult, CallError>) -> String {
    match seen {
        Ok(seen) => seen.status.clone(),
        Err(_) => "no answer".to_owned(),
    }
}
