//! Exercise 3: a certificate is replaced while connections are open, and none of them breaks.

use std::time::Duration;

use anyhow::Context;
use mesh_lab::{CheckContext, Requirement};
use mesh_lab_xds::XdsEnvoy;
use mesh_pki::Issued;
use mesh_xds::Snapshot;
use shared::poll;

use super::environment::{describe, require_accepted, snapshot, start_app};
use crate::certificate_authority::{CertificateAuthority, serial};
use crate::client::{Client, Load, summarize};

const LIMIT: Duration = Duration::from_secs(20);

const OFTEN: Duration = Duration::from_millis(10);

pub(super) async fn check(context: &mut CheckContext) -> anyhow::Result<()> {
    let app = start_app("blue", context).await?;
    let ca = CertificateAuthority::new("lab")?;
    let (old, new) = (ca.issue()?, ca.issue()?);
    let resources = |context: &CheckContext, issued: &Issued| -> anyhow::Result<Snapshot> {
        let quoted = |pem: &str| pem.replace('\n', "\\n");
        let values = [
            ("BLUE", app.address().port().to_string()),
            ("CHAIN", quoted(&issued.chain_pem)),
            ("KEY", quoted(issued.key_pem.expose())),
            ("SERIAL", issued.serial.to_string()),
        ];
        snapshot(context, &values)
    };
    let before = resources(context, &old)?;
    let xds_envoy = XdsEnvoy::start(context).await?;
    require_accepted(context, &xds_envoy, before).await?;
    let client = Client::tls(xds_envoy.listener().await?, ca.client_config()?);
    let mut open_connection = client.connect().await.map_err(|error| {
        let advice = "Is there a transport_socket with a certificate in the listener's filter chain?";
        Requirement::unmet("the listener speaks TLS", "a handshake", error, advice)
    })?;
    let serial_seen = open_connection.certificate().map(serial).transpose()?.unwrap_or_default();
    context.require(
        "a connection sees the first certificate",
        format!("serial {}", old.serial),
        format!("the serial was {serial_seen}"),
        serial_seen == old.serial.to_string(),
        "The certificate is what ${CHAIN} and ${KEY} are filled in with.",
    );
    let first = open_connection.get("/").await;
    context.require(
        "it is answered",
        "200",
        format!("it got {}", describe(&first)),
        first.is_ok(),
        "Leave the route.",
    );

    let load = Load::start(&client, &context.life);
    poll::wait_until("requests", OFTEN, LIMIT, || {
        std::future::ready(if load.completed() > 20 { Ok(()) } else { Err(load.completed()) })
    })
    .await?;
    let after = resources(context, &new)?;
    if let Err(error) = xds_envoy.publish(after).await {
        let advice = "It took the first certificate, in the same place.";
        return Err(Requirement::unmet("Envoy accepts the new certificate", "an ACK", error, advice).into());
    }
    require_new_certificate(context, &client, &new).await?;
    wait_for_drain(&xds_envoy).await?;
    let response = open_connection.get("/").await;
    context.require(
        "the connection from before lives on",
        "an answer over it after the rotation",
        format!("after the rotation it got {}", describe(&response)),
        response.as_ref().is_ok_and(|answer| answer.status.is_success()),
        "With the certificate the listener changed too, and Envoy drains a changed listener: it closes what was open. \
         What changes by itself needs a resource of its own, which the listener refers to by a name that stays (SDS).",
    );
    let (_, failures) = summarize(&load.stop().await);
    let seen = match failures.first() {
        None => "none failed".to_owned(),
        Some(first) => format!("{} failed, the first: {first}", failures.len()),
    };
    context.require(
        "no request fails while it is rotated",
        "none",
        seen,
        failures.is_empty(),
        "What was cut, and when?",
    );
    Ok(())
}

/// A new connection sees the new certificate, soon.
async fn require_new_certificate(
    context: &mut CheckContext,
    client: &Client,
    new: &Issued,
) -> anyhow::Result<()> {
    let expected = new.serial.to_string();
    let check = poll::wait_until("the new certificate", OFTEN, Duration::from_secs(5), || async {
        let connection = client.connect().await.map_err(|error| error.to_string())?;
        let serial_seen =
            connection.certificate().context("no TLS").and_then(serial).map_err(|error| error.to_string())?;
        if serial_seen == expected { Ok(()) } else { Err(format!("serial {serial_seen}")) }
    });
    let seen = match check.await {
        Ok(()) => Ok(format!("a new connection sees serial {expected}")),
        Err(error) => Err(error.to_string()),
    };
    let met = seen.is_ok();
    let seen = seen.unwrap_or_else(|seen| seen);
    let advice = "Does the secret hold what ${CHAIN} and ${KEY} are filled in with?";
    context.require(
        "a new connection sees the new certificate",
        format!("serial {expected}"),
        seen,
        met,
        advice,
    );
    Ok(())
}

/// Waits until nothing is drained any more: then what was to be closed is closed.
async fn wait_for_drain(xds_envoy: &XdsEnvoy) -> anyhow::Result<()> {
    let admin = xds_envoy.envoy.admin();
    let drain = poll::wait_until("the end of draining", OFTEN, LIMIT, || async {
        let stats = admin.stats("^listener_manager.*draining$").await.map_err(|error| error.to_string())?;
        let draining: u64 = stats.values().sum();
        if draining == 0 { Ok(()) } else { Err(format!("{draining} drain")) }
    });
    Ok(drain.await?)
}
