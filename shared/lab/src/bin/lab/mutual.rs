//! Exercise 3: an Envoy that answers one workload of the mesh, and knows it by its certificate.

use std::time::Duration;

use anyhow::Context;
use mesh_lab::{CheckContext, Requirement};
use mesh_pki::{Files, Intermediate, Names, Root, Usage, Validity};

use super::certificates::{address, curl};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What the server is called.
const HOST: &str = "orders.test";

/// Somebody who calls: in words, the folder with the certificate, and whether there is to be an answer.
struct Caller {
    who: String,
    folder: Option<&'static str>,
    welcome: bool,
    advice: &'static str,
}

pub(super) async fn check(context: &mut CheckContext) -> anyhow::Result<()> {
    let names = context.rng.names(3);
    let domain = format!("{}{}.test", names[2], context.rng.number(10..=99));
    let id = |name: &str| format!("spiffe://{domain}/ns/shop/sa/{name}");
    let (friend, other) = (id(&names[0]), id(&names[1]));
    // Begins as the friend's does, and is somebody else.
    let alike = format!("{friend}-{}", names[1]);
    let (mesh, stranger) = (intermediate("mesh")?, intermediate("stranger")?);
    let server = Names::default().dns(HOST)?;
    write(context, "server", &mesh, &server, Usage::Server)?;
    for (folder, issuer, id) in [
        ("friend", &mesh, &friend),
        ("other", &mesh, &other),
        ("alike", &mesh, &alike),
        ("stranger", &stranger, &friend),
    ] {
        write(context, folder, issuer, &Names::default().spiffe(id)?, Usage::Client)?;
    }
    std::fs::write(context.path("root.pem"), mesh.root_pem()).context("cannot write the root")?;
    let path = |file: &str| context.path(file).display().to_string();
    let values = [
        ("ROOT", path("root.pem")),
        ("CHAIN", path("server/chain.pem")),
        ("KEY", path("server/key.pem")),
        ("CLIENT_ID", friend.clone()),
    ];
    let envoy = context.envoy("envoy.yaml", &values).await?;
    let Some(address) = address(&envoy).await? else {
        let advice = "Leave the listener as it was given.";
        return Err(Requirement::unmet(
            "envoy.yaml has a listener",
            "one listener",
            "Envoy listens nowhere",
            advice,
        )
        .into());
    };
    let caller = |who: String, folder, welcome, advice| Caller { who, folder, welcome, advice };
    let callers = [
        caller(
            friend.clone(),
            Some("friend"),
            true,
            "Its certificate is in order: what do you demand that it has not got?",
        ),
        caller("a client without a certificate".to_owned(), None, false, ""),
        caller(
            "a stranger, whose own root vouches for the same name".to_owned(),
            Some("stranger"),
            false,
            "A certificate is a claim. Whose signature counts is said by trusted_ca in the validation_context.",
        ),
        caller(
            other,
            Some("other"),
            false,
            "It belongs to the mesh, and is another workload. Who is meant stands in the subject alternative names: \
             match_typed_subject_alt_names.",
        ),
        caller(
            alike,
            Some("alike"),
            false,
            "Its name begins like the right one. A workload's name is compared whole: exact.",
        ),
    ];
    let mut answers = Vec::new();
    for one in &callers {
        let [chain, key] =
            ["chain.pem", "key.pem"].map(|file| format!("{}/{file}", one.folder.unwrap_or_default()));
        let mut args = vec!["--cacert", "root.pem"];
        if one.folder.is_some() {
            args.extend(["--cert", &chain, "--key", &key]);
        }
        answers.push(curl(context, (HOST, address), &args).await?);
    }
    let stranger_is_kept_out = answers[2].is_err();
    for (one, answer) in callers.into_iter().zip(answers) {
        let wanted = if one.welcome { "an answer, 200" } else { "no answer" };
        let seen = match &answer {
            Ok(code) => format!("{} got {code}", one.who),
            Err(why) => format!("{} got no answer: {why}", one.who),
        };
        let advice = match one.folder {
            Some(_) => one.advice,
            None if stranger_is_kept_out => {
                "A certificate that is shown gets checked, but nobody has to show one: require_client_certificate."
            }
            None => {
                "The server shows who it is, and asks nobody else. That takes two fields, and each alone is too little: \
                 require_client_certificate in the DownstreamTlsContext, and a validation_context in its \
                 common_tls_context, by which what is shown is checked."
            }
        };
        let met = if one.welcome { answer.as_deref() == Ok("200") } else { answer.is_err() };
        let what = if one.welcome {
            format!("{} is answered", one.who)
        } else {
            format!("{} gets no answer", one.who)
        };
        context.require(what, wanted, seen, met, advice);
    }
    Ok(())
}

fn intermediate(name: &str) -> anyhow::Result<Intermediate> {
    let root = Root::generate(&format!("{name} root"), Validity::from_now(30 * DAY)?)?;
    Ok(root.sign_intermediate(&format!("{name} intermediate"), Validity::from_now(7 * DAY)?)?)
}

/// Issues a leaf into a folder of the bench.
fn write(
    context: &CheckContext,
    folder: &str,
    issuer: &Intermediate,
    names: &Names,
    usage: Usage,
) -> anyhow::Result<()> {
    let leaf = issuer.issue(names, usage, Validity::from_now(DAY)?)?;
    let files = Files::default().public("chain.pem", &leaf.chain_pem).secret("key.pem", &leaf.key_pem);
    files.write(&context.path(folder), true)?;
    Ok(())
}
