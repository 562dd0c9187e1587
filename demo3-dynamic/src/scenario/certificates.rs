//! The steps about trust: TLS with a certificate by SDS, and its rotation.

use std::time::Duration;

use anyhow::Context;
use shared::lifecycle::Lifecycle;
use shared::poll;
use shared::report::Recorder;

use super::{Edge, LIMIT};
use crate::client::{Client, Connection, Refusal};
use crate::topology::{APPS, HOST};
use crate::trust::{self, Trust};

impl Edge {
    /// Who trusts the root gets an answer, who does not gets no further than the handshake.
    pub(super) async fn gets_tls(&mut self, story: &mut Recorder, _life: &Lifecycle) -> anyhow::Result<()> {
        let issued = self.trust.issue()?;
        story.note(format!("the intermediate issued certificate {} for {}", issued.serial, HOST));
        self.world.certificate = Some(issued.into());
        self.show().await?;
        let client = self.client()?;
        let answer = poll::wait_until("an answer over TLS", Duration::from_millis(5), LIMIT, || async {
            client.get("/").await
        });
        let answer = answer.await?;
        story.claim(
            "tls-trusted",
            "A client that trusts the root gets an answer",
            "200 blue",
            format!("{} {}", answer.status.as_u16(), answer.body),
            answer.status.is_success() && answer.body == APPS[0],
        );
        let stranger = Client::tls(self.address, Trust::new("somebody else's")?.trusting()?);
        let refusal = stranger.get("/").await;
        story.claim(
            "tls-untrusted",
            "A client that trusts another root does not",
            "a handshake error: unknown issuer",
            refusal.as_ref().map_or_else(ToString::to_string, |answer| answer.status.to_string()),
            matches!(&refusal, Err(Refusal::Handshake(why)) if why.contains("UnknownIssuer")),
        );
        let plain = Client::plain(self.address).get("/").await;
        story.claim(
            "tls-only",
            "Plain HTTP is no longer answered",
            "no answer",
            plain.as_ref().map_or_else(|_| "no answer".to_owned(), |answer| answer.status.to_string()),
            plain.is_err(),
        );
        Ok(())
    }

    /// New connections see the new certificate, open ones live on with the old one.
    pub(super) async fn rotates_certificate(&mut self, story: &mut Recorder) -> anyhow::Result<()> {
        let client = self.client()?;
        let mut open = client.connect().await.context("no connection to Envoy")?;
        let old = serial(&open)?;
        open.get("/").await.context("the open connection's first request failed")?;
        let issued = self.trust.issue()?;
        let expected = issued.serial.to_string();
        let event_log = self.control_plane()?.event_log().clone();
        let mark = event_log.mark();
        self.world.certificate = Some(issued.into());
        self.show().await?;
        let sent: Vec<String> = super::faults::sent_since(&event_log, mark);
        story.claim(
            "rotation-sends-secret",
            "Only the secret is sent",
            "SDS",
            sent.join(", "),
            sent == ["SDS"],
        );
        let fresh = poll::wait_until("the new certificate", Duration::from_millis(5), LIMIT, || async {
            let connection = client.connect().await.map_err(|refusal| refusal.to_string())?;
            let seen = serial(&connection).map_err(|error| error.to_string())?;
            if seen == old { Err(format!("still {seen}")) } else { Ok(seen) }
        });
        let fresh = fresh.await?;
        story.claim(
            "new-serial",
            "A new connection sees the new certificate",
            &expected,
            &fresh,
            fresh == expected,
        );
        let again = open.get("/").await;
        story.claim(
            "open-connection-lives",
            "A connection from before the rotation lives on",
            format!("200 under {old}"),
            again
                .as_ref()
                .map_or_else(ToString::to_string, |it| format!("{} under {old}", it.status.as_u16())),
            again.is_ok_and(|answer| answer.status.is_success()),
        );
        Ok(())
    }
}

fn serial(connection: &Connection) -> anyhow::Result<String> {
    trust::serial(connection.certificate().context("the connection is not over TLS")?)
}
