//! Exercise 3: a certificate is replaced while connections are open, and none of them breaks.

use std::time::Duration;

use anyhow::Context;
use mesh_lab::{CheckContext, Requirement};
use mesh_lab_xds::XdsEnvoy;
use mesh_pki::Issued;
use mesh_xds::Snapshot;
use shared::poll;

use super::world::{accepted, app, snapshot, words};
use crate::client::{Client, Load, sum_up};
use crate::trust::{Trust, serial};

const LIMIT: Duration = Duration::from_secs(20);

const OFTEN: Duration = Duration::from_millis(10);

pub(super) async fn check(bench: &mut CheckContext) -> anyhow::Result<()> {
    let app = app("blue", bench).await?;
    let trust = Trust::new("lab")?;
    let (old, new) = (trust.issue()?, trust.issue()?);
    let resources = |bench: &CheckContext, issued: &Issued| -> anyhow::Result<Snapshot> {
        let quoted = |pem: &str| pem.replace('\n', "\\n");
        let values = [
            ("BLUE", app.address().port().to_string()),
            ("CHAIN", quoted(&issued.chain_pem)),
            ("KEY", quoted(issued.key_pem.expose())),
            ("SERIAL", issued.serial.to_string()),
        ];
        snapshot(bench, &values)
    };
    let before = resources(bench, &old)?;
    let told = XdsEnvoy::start(bench).await?;
    accepted(bench, &told, before).await?;
    let client = Client::tls(told.listener().await?, trust.trusting()?);
    let mut open = client.connect().await.map_err(|refusal| {
        let advice = "Is there a transport_socket with a certificate in the listener's filter chain?";
        Requirement::unmet("the listener speaks TLS", "a handshake", refusal, advice)
    })?;
    let shown = open.certificate().map(serial).transpose()?.unwrap_or_default();
    bench.require(
        "a connection sees the first certificate",
        format!("serial {}", old.serial),
        format!("the serial was {shown}"),
        shown == old.serial.to_string(),
        "The certificate is what ${CHAIN} and ${KEY} are filled in with.",
    );
    let first = open.get("/").await;
    bench.require(
        "it is answered",
        "200",
        format!("it got {}", words(&first)),
        first.is_ok(),
        "Leave the route.",
    );

    let load = Load::start(&client, &bench.life);
    poll::wait_until("requests", OFTEN, LIMIT, || {
        std::future::ready(if load.so_far() > 20 { Ok(()) } else { Err(load.so_far()) })
    })
    .await?;
    let after = resources(bench, &new)?;
    if let Err(refusal) = told.publish(after).await {
        let advice = "It took the first certificate, in the same place.";
        return Err(Requirement::unmet("Envoy accepts the new certificate", "an ACK", refusal, advice).into());
    }
    is_shown(bench, &client, &new).await?;
    drained(&told).await?;
    let again = open.get("/").await;
    bench.require(
        "the connection from before lives on",
        "an answer over it after the rotation",
        format!("after the rotation it got {}", words(&again)),
        again.as_ref().is_ok_and(|answer| answer.status.is_success()),
        "With the certificate the listener changed too, and Envoy drains a changed listener: it closes what was open. \
         What changes by itself needs a resource of its own, which the listener refers to by a name that stays (SDS).",
    );
    let (_, failures) = sum_up(&load.stop().await);
    let seen = match failures.first() {
        None => "none failed".to_owned(),
        Some(first) => format!("{} failed, the first: {first}", failures.len()),
    };
    bench.require(
        "no request fails while it is rotated",
        "none",
        seen,
        failures.is_empty(),
        "What was cut, and when?",
    );
    Ok(())
}

/// A new connection sees the new certificate, soon.
async fn is_shown(bench: &mut CheckContext, client: &Client, new: &Issued) -> anyhow::Result<()> {
    let wanted = new.serial.to_string();
    let look = poll::wait_until("the new certificate", OFTEN, Duration::from_secs(5), || async {
        let connection = client.connect().await.map_err(|refusal| refusal.to_string())?;
        let shown =
            connection.certificate().context("no TLS").and_then(serial).map_err(|error| error.to_string())?;
        if shown == wanted { Ok(()) } else { Err(format!("serial {shown}")) }
    });
    let seen = match look.await {
        Ok(()) => Ok(format!("a new connection sees serial {wanted}")),
        Err(error) => Err(error.to_string()),
    };
    let met = seen.is_ok();
    let seen = seen.unwrap_or_else(|seen| seen);
    let advice = "Does the secret hold what ${CHAIN} and ${KEY} are filled in with?";
    bench.require("a new connection sees the new certificate", format!("serial {wanted}"), seen, met, advice);
    Ok(())
}

/// Waits until nothing is drained any more: then what was to be closed is closed.
async fn drained(told: &XdsEnvoy) -> anyhow::Result<()> {
    let admin = told.envoy.admin();
    let rest = poll::wait_until("the end of draining", OFTEN, LIMIT, || async {
        let stats = admin.stats("^listener_manager.*draining$").await.map_err(|error| error.to_string())?;
        let left: u64 = stats.values().sum();
        if left == 0 { Ok(()) } else { Err(format!("{left} drain")) }
    });
    Ok(rest.await?)
}
