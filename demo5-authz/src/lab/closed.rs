//! Exercise 2: no decision means no, and a health check needs no decision.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use mesh_lab::CheckContext;
use shared::lifecycle::{GRACE, Lifecycle};
use shared::web;

use super::environment::{TestAuthorizer, listener, policies, start_envoy, status_text};
use crate::client::Caller;
use crate::policy::Policies;

const FILE: &str = "envoy.yaml";

/// The probe's path.
const PROBE_PATH: &str = "/healthz";

/// What a stranger may try: the service, and what looks like the probe.
const PROTECTED_PATHS: [&str; 5] =
    ["/hello", "/healthz/users", "/healthzz", "/healthz/../hello", "/hello?/healthz"];

/// Probes in a row.
const PROBES: usize = 3;

/// An app that answers everything, and remembers what.
struct App {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

/// The door, with the app behind it as a witness.
struct Proxy {
    caller: Caller,
    app: App,
}

pub(super) async fn check(context: &mut CheckContext) -> anyhow::Result<()> {
    let app = App::start(&context.life).await?;
    let scope = context.life.child();
    let authorizer = TestAuthorizer::start(Policies::parse(&policies())?, &scope).await?;
    let values =
        [("AUTHZ", authorizer.server.address().port().to_string()), ("APP", app.address.port().to_string())];
    let (_envoy, caller) = start_envoy(context, FILE, &values).await?;
    let proxy = Proxy { caller, app };

    proxy.require_probe(context, "while the authorizer is well").await?;
    let no_credentials = HeaderMap::new();
    let reader = authorizer.auth_headers("rita", &["reader"])?;
    proxy
        .require_blocked(context, "without a token", &no_credentials, "while the authorizer is well")
        .await?;
    let (status, reached) = proxy.get("/hello", &reader).await?;
    context.require(
        "a reader gets through",
        "200 from the app",
        format!(
            "A reader's GET /hello got {status}, and {} the app",
            if reached { "reached" } else { "did not reach" }
        ),
        status == "200" && reached,
        "The authorizer says yes to that one. Is it still asked at the port that it has?",
    );

    drop(authorizer);
    scope.shut_down(GRACE).await?;
    proxy.require_probe(context, "while the authorizer is down").await?;
    proxy.require_blocked(context, "with a good token", &reader, "while the authorizer is down").await?;
    proxy.require_blocked(context, "without any", &no_credentials, "while the authorizer is down").await
}

impl App {
    async fn start(life: &Lifecycle) -> anyhow::Result<Self> {
        let listener = listener().await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        web::serve(listener, life, move |request| {
            let path = request.uri().path().to_owned();
            log.lock().unwrap_or_else(PoisonError::into_inner).push(path);
            std::future::ready(web::text(StatusCode::OK, "well\n"))
        });
        Ok(Self { address, seen })
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Proxy {
    /// What a call got, and whether the app saw it.
    async fn get(&self, path: &str, headers: &HeaderMap) -> anyhow::Result<(String, bool)> {
        let before = self.app.count();
        let seen = self.caller.http(Method::GET, path, headers.clone(), Bytes::new()).await;
        Ok((status_text(&seen), self.app.count() > before))
    }

    /// The orchestrator asks whether the app is well. It has no token.
    async fn require_probe(&self, context: &mut CheckContext, when: &str) -> anyhow::Result<()> {
        let (mut succeeded, mut reached, mut last) = (0, 0, String::new());
        for _ in 0..PROBES {
            let (status, arrived) = self.get(PROBE_PATH, &HeaderMap::new()).await?;
            succeeded += usize::from(status == "200");
            reached += usize::from(arrived);
            last = status;
        }
        let advice = if succeeded == PROBES {
            "Whoever answers in the app's place says that it is well also when it is dead. Let the probe through to it."
        } else {
            "The probe has no token, and needs none: on its route nobody is to be asked. A filter can be disabled for \
             a route (typed_per_filter_config)."
        };
        context.require(
            format!("the app can be asked for its health {when}"),
            format!("{PROBES} with 200, and {PROBES} that reach the app"),
            format!(
                "{succeeded} of {PROBES} probes got 200 {when} (the last {last}), and {reached} reached the app"
            ),
            (succeeded, reached) == (PROBES, PROBES),
            advice,
        );
        Ok(())
    }

    /// Nobody gets through by any of these ways.
    async fn require_blocked(
        &self,
        context: &mut CheckContext,
        credentials: &str,
        headers: &HeaderMap,
        when: &str,
    ) -> anyhow::Result<()> {
        let mut passed_paths = Vec::new();
        for path in PROTECTED_PATHS {
            if let (_, true) = self.get(path, headers).await? {
                passed_paths.push(path);
            }
        }
        let listed =
            if passed_paths.is_empty() { String::new() } else { format!(" ({})", passed_paths.join(", ")) };
        let advice = if passed_paths.contains(&"/hello") {
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
        context.require(
            format!("a call {credentials} does not get through {when}"),
            "0",
            format!(
                "{} of {} calls {credentials} reached the app {when}{listed}",
                passed_paths.len(),
                PROTECTED_PATHS.len()
            ),
            passed_paths.is_empty(),
            advice,
        );
        Ok(())
    }
}
