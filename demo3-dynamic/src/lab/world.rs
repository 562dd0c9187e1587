//! What the exercises here begin with: a student's folder of resources, served to an Envoy, and apps behind it.

use std::net::Ipv4Addr;

use anyhow::Context;
use mesh_lab::{CheckContext, Requirement};
use mesh_lab_xds::XdsEnvoy;
use mesh_xds::Snapshot;
use tokio::net::TcpListener;

use crate::app::App;
use crate::client::{Answer, Refusal};
use mesh_xds_server::Folder;

/// Starts an app of this name on a free port.
pub(super) async fn app(name: &str, bench: &CheckContext) -> anyhow::Result<App> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port for an app")?;
    Ok(App::start(name, listener, &bench.life)?)
}

/// The resources in the student's files, with each `${NAME}` filled in.
pub(super) fn snapshot(bench: &CheckContext, values: &[(&str, String)]) -> anyhow::Result<Snapshot> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let ours = |file: &String| ["yaml", "yml", "json"].iter().any(|ending| file.ends_with(ending));
    for file in bench.files()?.into_iter().filter(|file| ours(file) && !file.contains('/')) {
        let text = bench.render(&file, values)?;
        std::fs::write(folder.path().join(file), text).context("cannot write in a temporary folder")?;
    }
    let mut served = Folder::new(folder.path());
    // It wants to see two looks agree, because somebody may be writing. We were, and are done.
    let read = served.read().and_then(|_| served.read()).map_err(|error| {
        let seen = error.to_string().replace(&format!("{}/", folder.path().display()), "");
        let advice = "The control plane publishes only what is whole; Envoy has heard nothing of it yet.";
        Requirement::unmet("the files make a snapshot", "resources that fit together", seen, advice)
    })?;
    read.context("a folder that was not read before holds something new")
}

/// Publishes it, and notes whether Envoy accepts it; if not, nothing more can be seen.
pub(super) async fn accepted(
    bench: &mut CheckContext,
    told: &XdsEnvoy,
    snapshot: Snapshot,
) -> anyhow::Result<()> {
    let what = "Envoy accepts every resource";
    if let Err(refusal) = told.publish(snapshot).await {
        let advice = "The words are Envoy's own, the path before the reason says where. What it refuses it does not \
                      use; what else was published it may have taken.";
        return Err(Requirement::unmet(what, "an ACK for each type", refusal, advice).into());
    }
    bench.require(what, "an ACK for each type", "Envoy sent an ACK for each type", true, "");
    Ok(())
}

/// What a request got, in a few words.
pub(super) fn words(answer: &Result<Answer, Refusal>) -> String {
    match answer {
        Ok(answer) if answer.status.is_success() => format!("an answer by {}", answer.body),
        Ok(answer) => format!("{} ({})", answer.status, answer.body.trim()),
        Err(refusal) => format!("no answer ({refusal})"),
    }
}
