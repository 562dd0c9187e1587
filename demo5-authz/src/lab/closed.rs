//! Exercise 2: no decision means no, and a health check needs no decision.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use mesh_lab::CheckContext;
use shared::lifecycle::{GRACE, Lifecycle};
use shared::web;

use super::world::{Office, envoy, listener, policies, word};
use crate::client::Caller;
use crate::policy::Policies;

const FILE: &str = "envoy.yaml";

/// The probe's path.
const PROBE: &str = "/healthz";

/// What a stranger may try: the service, and what looks like the probe.
const ELSEWHERE: [&str; 5] =
    ["/hello", "/healthz/users", "/healthzz", "/healthz/../hello", "/hello?/healthz"];

/// Probes in a row.
const PROBES: usize = 3;

/// An app that answers everything, and remembers what.
struct App {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

/// The door, with the app behind it as a witness.
struct Door {
    caller: Caller,
    app: App,
}

pub(super) async fn check(bench: &mut CheckContext) -> anyhow::Result<()> {
    let app = App::start(&bench.life).await?;
    let scope = bench.life.child();
    let office = Office::open(Policies::parse(&policies())?, &scope).await?;
    let values =
        [("AUTHZ", office.authorizer.address().port().to_string()), ("APP", app.address.port().to_string())];
    let (_envoy, caller) = envoy(bench, FILE, &values).await?;
    let door = Door { caller, app };

    door.probe(bench, "while the authorizer is well").await?;
    let stranger = HeaderMap::new();
    let reader = office.shows("rita", &["reader"])?;
    door.keeps_out(bench, "without a token", &stranger, "while the authorizer is well").await?;
    let (status, reached) = door.get("/hello", &reader).await?;
    bench.require(
        "a reader gets through",
        "200 from the app",
        format!(
            "A reader's GET /hello got {status}, and {} the app",
            if reached { "reached" } else { "did not reach" }
        ),
        status == "200" && reached,
        "The authorizer says yes to that one. Is it still asked at the port that it has?",
    );

    drop(office);
    scope.shut_down(GRACE).await?;
    door.probe(bench, "while the authorizer is down").await?;
    door.keeps_out(bench, "with a good token", &reader, "while the authorizer is down").await?;
    door.keeps_out(bench, "without any", &stranger, "while the authorizer is down").await
}

impl App {
    async fn start(life: &Lifecycle) -> anyhow::Result<Self> {
        let listener = listener().await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noting = Arc::clone(&seen);
        web::serve(listener, life, move |request| {
            let path = request.uri().path().to_owned();
            noting.lock().unwrap_or_else(PoisonError::into_inner).push(path);
            std::future::ready(web::text(StatusCode::OK, "well\n"))
        });
        Ok(Self { address, seen })
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Door {
    /// What a call got, and whether the app saw it.
    async fn get(&self, path: &str, headers: &HeaderMap) -> anyhow::Result<(String, bool)> {
        let before = self.app.count();
        let seen = self.caller.http(Method::GET, path, headers.clone(), Bytes::new()).await;
        Ok((word(&seen), self.app.count() > before))
    }

    /// The orchestrator asks whether the app is well. It has no token.
    async fn probe(&self, bench: &mut CheckContext, when: &str) -> anyhow::Result<()> {
        let (mut well, mut reached, mut last) = (0, 0, String::new());
        for _ in 0..PROBES {
            let (status, arrived) = self.get(PROBE, &HeaderMap::new()).await?;
            well += usize::from(status == "200");
            reached += usize::from(arrived);
            last = status;
        }
        let advice = if well == PROBES {
            "Whoever answers in the app's place says that it is well also when it is dead. Let the probe through to it."
        } else {
            "The probe has no token, and needs none: on its route nobody is to be asked. A filter can be disabled for \
             a route (typed_per_filter_config)."
        };
        bench.require(
            format!("the app can be asked for its health {when}"),
            format!("{PROBES} with 200, and {PROBES} that reach the app"),
            format!(
                "{well} of {PROBES} probes got 200 {when} (the last {last}), and {reached} reached the app"
            ),
            (well, reached) == (PROBES, PROBES),
            advice,
        );
        Ok(())
    }

    /// Nobody gets through by any of these ways.
    async fn keeps_out(
        &self,
        bench: &mut CheckContext,
        who: &str,
        headers: &HeaderMap,
        when: &str,
    ) -> anyhow::Result<()> {
        let mut through = Vec::new();
        for path in ELSEWHERE {
            if let (_, true) = self.get(path, headers).await? {
                through.push(path);
            }
        }
        let told = if through.is_empty() { String::new() } else { format!(" ({})", through.join(", ")) };
        let advice = if through.contains(&"/hello") {
            match when {
                "while the authorizer is well" => {
                    "Nobody is asked about these. Only on the probe's own route may that be so."
                }
                _ => {
                    "Without an answer Envoy lets calls pass. Look at failure_mode_allow: no decision has to mean no."
                }
            }
        } else {
            "They only look like the probe. What does the match of its route leave open?"
        };
        bench.require(
            format!("a call {who} does not get through {when}"),
            "0",
            format!("{} of {} calls {who} reached the app {when}{told}", through.len(), ELSEWHERE.len()),
            through.is_empty(),
            advice,
        );
        Ok(())
    }
}
