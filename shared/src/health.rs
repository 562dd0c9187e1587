//! Asking a role of ours whether it serves: what a container's health check runs, without a curl.
//!
//! The role's own binary asks its own gRPC health service (`grpc.health.v1`), or a page of it, over loopback.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::cli::SetupError;
use crate::client::{Client, root_cause};

/// How long the answer may take; a container engine starts the next check some seconds later.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Why a role does not count as healthy.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Port 0 means any free port, and the one that was taken is not known here.
    #[error("port 0 cannot be asked: give --listen (or LISTEN) the port that the server listens on")]
    NoPort,
    /// Nothing answers there, or not in time.
    #[error("{address} does not answer: {why}")]
    NoResponse {
        /// Who was asked.
        address: SocketAddr,
        /// What was seen instead of an answer.
        why: String,
    },
    /// It answers, and says that it does not serve (it is starting, or draining).
    #[error("{address} answers {status}")]
    NotServing {
        /// Who was asked.
        address: SocketAddr,
        /// What it said.
        status: &'static str,
    },
}

/// Asks the server that was started with `--listen listen` whether it serves.
///
/// # Errors
/// [`ProbeError`] if it does not, or does not say so within 2 s.
pub async fn probe(listen: SocketAddr) -> Result<(), ProbeError> {
    let address = reachable(listen);
    if address.port() == 0 {
        return Err(ProbeError::NoPort);
    }
    let no_response = |why: String| ProbeError::NoResponse { address, why };
    let exchange = async {
        let endpoint =
            Endpoint::from_shared(format!("http://{address}")).map_err(|e| no_response(e.to_string()))?;
        let channel = endpoint.connect().await.map_err(|e| no_response(root_cause(&e)))?;
        let mut health = HealthClient::new(channel);
        let response = health.check(HealthCheckRequest::default()).await;
        response.map_err(|status| no_response(status.message().to_owned()))
    };
    let response = tokio::time::timeout(TIMEOUT, exchange)
        .await
        .map_err(|_| no_response(format!("nothing came within {TIMEOUT:?}")))??;
    match response.into_inner().status() {
        ServingStatus::Serving => Ok(()),
        other => Err(ProbeError::NotServing { address, status: other.as_str_name() }),
    }
}

/// What a gRPC role's `healthcheck` does: [`probe`], where a port that cannot be asked is wrong usage.
///
/// # Errors
/// [`ProbeError`], or [`SetupError`] around [`ProbeError::NoPort`].
pub async fn run_healthcheck(listen: SocketAddr) -> anyhow::Result<()> {
    match probe(listen).await {
        Err(usage_error @ ProbeError::NoPort) => Err(SetupError::new(usage_error).into()),
        response => Ok(response?),
    }
}

/// The same for a role that speaks HTTP: it serves if `GET path` is answered with success.
///
/// # Errors
/// As [`run_healthcheck`].
pub async fn run_http_healthcheck(listen: SocketAddr, path: &str) -> anyhow::Result<()> {
    let address = reachable(listen);
    if address.port() == 0 {
        return Err(SetupError::new(ProbeError::NoPort).into());
    }
    let response = Client::new(TIMEOUT).get(format!("http://{address}{path}").parse()?).await;
    let status = response.map_err(|error| ProbeError::NoResponse { address, why: error.reason() })?.status();
    anyhow::ensure!(status.is_success(), "{address} answers {status}");
    Ok(())
}

/// Where to ask: a server on all addresses is on loopback too.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
