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
use crate::client::{Caller, Failed, Seen};
use crate::decision_log::DecisionLog;
use crate::issuer::{Issuer, Kind};
use crate::jwks::Jwks;
use crate::metrics::Metrics;
use crate::policy::Policies;
use crate::server::Running;
use crate::token::{Expected, Verifier};
use crate::topology::loopback;

/// Longer than any check.
const LIFETIME: Duration = Duration::from_secs(600);

/// Somebody who signs, and an authorizer that believes that one.
pub(super) struct Office {
    issuer: Issuer,
    pub(super) authorizer: Running,
}

impl Office {
    /// Opens it with these policies, until `life` ends.
    pub(super) async fn open(policies: Policies, life: &Lifecycle) -> anyhow::Result<Self> {
        let issuer = Issuer::generate(Kind::default())?;
        let verifier = Verifier::new(Jwks::parse(&issuer.jwks())?, Expected::default());
        // Nothing changes here, so nobody keeps the other ends.
        let (_, verifier) = watch::channel(Arc::new(verifier));
        let (_, policies) = watch::channel(Arc::new(policies));
        let authorizer =
            Authorizer::new(verifier, policies, TRUST_DOMAIN, Metrics::new()?, DecisionLog::off());
        let authorizer = Running::start(authorizer, listener().await?, Duration::ZERO, life);
        Ok(Self { issuer, authorizer })
    }

    /// The header by which somebody with these roles calls.
    pub(super) fn shows(&self, name: &str, roles: &[&str]) -> anyhow::Result<HeaderMap> {
        let token = self.issuer.sign(&Claims::new(&Expected::default(), name, roles, LIFETIME))?;
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
pub(super) async fn envoy(
    bench: &CheckContext,
    file: &str,
    values: &[(&str, String)],
) -> anyhow::Result<(Serving, Caller)> {
    let envoy = bench.envoy(file, values).await?;
    let Some(listens) = envoy.admin().listeners().await?.into_iter().next() else {
        let what = format!("{file} has a listener");
        let advice = "Leave the listener as it was given.";
        return Err(Requirement::unmet(what, "one listener", "Envoy listens nowhere", advice).into());
    };
    Ok((envoy, Caller::plain(listens.address)?))
}

/// What a call got, in a word.
pub(super) fn word(seen: &Result<Seen, Failed>) -> String {
    match seen {
        Ok(seen) => seen.status.clone(),
        Err(_) => "no answer".to_owned(),
    }
}
