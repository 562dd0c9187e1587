//! The steps about trust: TLS with a certificate by SDS, and its rotation.

use std::time::Duration;

use anyhow::Context;
use shared::lifecycle::Lifecycle;
use shared::poll;
use shared::report::Recorder;

use super::{Demo, LIMIT};
use crate::certificate_authority::{self, CertificateAuthority};
use crate::client::{Client, Connection, RequestError};
use crate::topology::{APPS, HOST_NAME};

impl Demo {
    /// Who trusts the root gets an answer, who does not gets no further than the handshake.
    pub(super) async fn check_tls(
        &mut self,
        recorder: &mut Recorder,
        _life: &Lifecycle,
    ) -> anyhow::Result<()> {
        let issued = self.ca.issue()?;
        recorder.note(format!("the intermediate issued certificate {} for {}", issued.serial, HOST_NAME));
        self.desired_state.certificate = Some(issued.into());
        self.publish_and_wait().await?;
        let client = self.client()?;
        let answer = poll::wait_until("an answer over TLS", Duration::from_millis(5), LIMIT, || async {
            client.get("/").await
        });
        let answer = answer.await?;
        recorder.claim(
            "tls-trusted",
            "A client that trusts the root gets an answer",
            "200 blue",
            format!("{} {}", answer.status.as_u16(), answer.body),
            answer.status.is_success() && answer.body == APPS[0],
        );
        let untrusting_client =
            Client::tls(self.address, CertificateAuthority::new("somebody else's")?.client_config()?);
        let error = untrusting_client.get("/").await;
        recorder.claim(
            "tls-untrusted",
            "A client that trusts another root does not",
            "a handshake error: unknown issuer",
            error.as_ref().map_or_else(ToString::to_string, |answer| answer.status.to_string()),
            matches!(&error, Err(RequestError::TlsHandshake(why)) if why.contains("UnknownIssuer")),
        );
        let plain = Client::plain(self.address).get("/").await;
        recorder.claim(
            "tls-only",
            "Plain HTTP is no longer answered",
            "no answer",
            plain.as_ref().map_or_else(|_| "no answer".to_owned(), |answer| answer.status.to_string()),
            plain.is_err(),
        );
        Ok(())
    }

    /// New connections see the new certificate, open ones live on with the old one.
    pub(super) async fn check_certificate_rotation(&mut self, recorder: &mut Recorder) -> anyhow::Result<()> {
        let client = self.client()?;
        let mut open = client.connect().await.context("no connection to Envoy")?;
        let old = serial(&open)?;
        open.get("/").await.context("the open connection's first request failed")?;
        let issued = self.ca.issue()?;
        let expected = issued.serial.to_string();
        let event_log = self.control_plane()?.event_log().clone();
        let log_position = event_log.mark();
        self.desired_state.certificate = Some(issued.into());
        self.publish_and_wait().await?;
        let sent: Vec<String> = super::faults::sent_since(&event_log, log_position);
        recorder.claim(
            "rotation-sends-sds",
            "Only the secret is sent",
            "SDS",
            sent.join(", "),
            sent == ["SDS"],
        );
        let new_serial = poll::wait_until("the new certificate", Duration::from_millis(5), LIMIT, || async {
            let connection = client.connect().await.map_err(|error| error.to_string())?;
            let seen = serial(&connection).map_err(|error| error.to_string())?;
            if seen == old { Err(format!("still {seen}")) } else { Ok(seen) }
        });
        let new_serial = new_serial.await?;
        recorder.claim(
            "rotation-new-connection",
            "A new connection sees the new certificate",
            &expected,
            &new_serial,
            new_serial == expected,
        );
        let response = open.get("/").await;
        recorder.claim(
            "rotation-open-connection",
            "A connection from before the rotation lives on",
            format!("200 under {old}"),
            response
                .as_ref()
                .map_or_else(ToString::to_string, |it| format!("{} under {old}", it.status.as_u16())),
            response.is_ok_and(|answer| answer.status.is_success()),
        );
        Ok(())
    }
}

fn serial(connection: &Connection) -> anyhow::Result<String> {
    certificate_authority::serial(connection.certificate().context("the connection is not over TLS")?)
}
