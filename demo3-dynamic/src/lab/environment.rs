//! What the exercises here begin with: a student's folder of resources, served to an Envoy, and apps behind it.

use std::net::Ipv4Addr;

use anyhow::Context;
use mesh_lab::{CheckContext, Requirement};
use mesh_lab_xds::XdsEnvoy;
use mesh_xds::Snapshot;
use tokio::net::TcpListener;

use crate::app::App;
use crate::client::{RequestError, Response};
use mesh_xds_server::Folder;

/// Starts an app of this name on a free port.
pub(super) async fn start_app(name: &str, context: &CheckContext) -> anyhow::Result<App> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port for an app")?;
    Ok(App::start(name, listener, &context.life)?)
}

/// The resources in the student's files, with each `${NAME}` filled in.
pub(super) fn snapshot(context: &CheckContext, values: &[(&str, String)]) -> anyhow::Result<Snapshot> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let is_resource_file =
        |file: &String| ["yaml", "yml", "json"].iter().any(|ending| file.ends_with(ending));
    for file in context.files()?.into_iter().filter(|file| is_resource_file(file) && !file.contains('/')) {
        let text = context.render(&file, values)?;
        std::fs::write(folder.path().join(file), text).context("cannot write in a temporary folder")?;
    }
    let mut reader = Folder::new(folder.path());
    // It wants to see two looks agree, because somebody may be writing. We were, and are done.
    let read = reader.read().and_then(|_| reader.read()).map_err(|error| {
        let seen = error.to_string().replace(&format!("{}/", folder.path().display()), "");
        let advice = "The control plane publishes only what is whole; Envoy has heard nothing of it yet.";
        Requirement::unmet("the files make a snapshot", "resources that fit together", seen, advice)
    })?;
    read.context("a folder that was not read before holds something new")
}

/// Publishes the snapshot, and requires that Envoy accepts it. Without that no other check is possible.
pub(super) async fn require_accepted(
    context: &mut CheckContext,
    xds_envoy: &XdsEnvoy,
    snapshot: Snapshot,
) -> anyhow::Result<()> {
    let what = "Envoy accepts every resource";
    if let Err(error) = xds_envoy.publish(snapshot).await {
        let advice = "The words are Envoy's own, the path before the reason says where. What it refuses it does not \
                      use; what else was published it may have taken.";
        return Err(Requirement::unmet(what, "an ACK for each type", error, advice).into());
    }
    context.require(what, "an ACK for each type", "Envoy sent an ACK for each type", true, "");
    Ok(())
}

/// Describes the response to a request in a few words.
pub(super) fn describe(response: &Result<Response, RequestError>) -> String {
    match response {
        Ok(response) if response.status.is_success() => format!("an answer by {}", response.body),
        Ok(response) => format!("{} ({})", response.status, response.body.trim()),
        Err(error) => format!("no answer ({error})"),
    }
}
