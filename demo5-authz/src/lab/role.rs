//! Exercise 1: a policy for a new role, and for one that takes rights away.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use mesh_lab::{CheckContext, Requirement};
use shared::envoy::{Envoy, Serving};

use super::environment::{TestAuthorizer, listener, policies};
use crate::backend::Backend;
use crate::client::{Call, Caller, Operation, Protocol};
use crate::policy::Policies;
use crate::topology::{
    AUTHZ_CLUSTER, AuthorizerCluster, EnvoyTopology, FRONT_LISTENER, ListenerSpec, loopback,
};

const FILE: &str = "roles.cedar";

const READY_LIMIT: Duration = Duration::from_secs(30);

/// Something that can be asked for.
#[derive(Clone, Copy)]
enum TestCall {
    Grpc(Operation, &'static str),
    Http(&'static str, &'static str),
}

const HELLO: TestCall = TestCall::Http("GET", "/hello");
const POST: TestCall = TestCall::Http("POST", "/hello");
const DELETE: TestCall = TestCall::Http("DELETE", "/hello");
const VAULT: TestCall = TestCall::Http("GET", "/vault");
const GRPC_HELLO: TestCall = TestCall::Grpc(Operation::Hello, "Hello");
const GRPC_DELETE: TestCall = TestCall::Grpc(Operation::Delete, "DeleteGreeting");

/// Calls of one caller, and what each got.
struct CallResults(Vec<(String, bool)>);

impl CallResults {
    fn passed(&self) -> usize {
        self.0.iter().filter(|(_, passed)| *passed).count()
    }

    fn summary(&self) -> String {
        self.0.iter().map(|(summary, _)| summary.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// Envoy before a backend, with an authorizer that goes by the student's policies too.
struct Environment {
    authorizer: TestAuthorizer,
    caller: Caller,
    /// Dropped, it ends.
    _envoy: Serving,
}

pub(super) async fn check(context: &mut CheckContext) -> anyhow::Result<()> {
    let [gardener, barred, other] =
        <[String; 3]>::try_from(context.rng.names(3)).map_err(|_| anyhow::anyhow!("three names"))?;
    let environment = Environment::start(context, &gardener, &barred).await?;

    let permitted = environment.call_as(&[&gardener], &[HELLO, DELETE, GRPC_HELLO, GRPC_DELETE]).await?;
    let [http, grpc] =
        [&permitted.0[..2], &permitted.0[2..]].map(|half| half.iter().filter(|(_, passed)| *passed).count());
    let advice = match (http, grpc) {
        (0, 0) => "What nothing permits is refused. Give that role a permit of its own.",
        (_, 0) => {
            "A gRPC call is a POST to /PACKAGE.SERVICE/METHOD: it has a path of its own, as in greeter.cedar."
        }
        (0, _) => "By HTTP the path is /hello; the method tells what is wanted, and is context.method.",
        _ => "One of them is permitted and another is not: go through the four, one after the other.",
    };
    context.require(
        format!("{gardener} may say hello and delete, by HTTP and by gRPC"),
        "4 that pass",
        format!("{} of 4 calls of {gardener} passed: {}", permitted.passed(), permitted.summary()),
        permitted.passed() == 4,
        advice,
    );
    let others = environment.call_as(&[&gardener], &[POST, VAULT]).await?;
    context.require(
        format!("{gardener} may do nothing else"),
        "0",
        format!("{} of 2 other calls of {gardener} passed: {}", others.passed(), others.summary()),
        others.passed() == 0,
        "A permit holds for whatever it does not ask about. Which method, and which path, did yours leave open?",
    );
    let mut all = Vec::new();
    for with in [None, Some("reader"), Some(gardener.as_str()), Some("admin")] {
        let roles: Vec<&str> = with.into_iter().chain([barred.as_str()]).collect();
        let results = environment.call_as(&roles, &[HELLO, GRPC_DELETE]).await?;
        let summary = |(summary, passed)| (format!("as {} {summary}", roles.join(" and ")), passed);
        all.extend(results.0.into_iter().map(summary));
    }
    let (tried, passed) = (all.len(), all.iter().filter(|(_, passed)| *passed).count());
    let first = all.iter().find(|(_, passed)| *passed).map(|(summary, _)| format!(", the first {summary}"));
    context.require(
        format!("{barred} may do nothing, whatever else that one is"),
        "0",
        format!("{passed} of {tried} calls of {barred} passed{}", first.unwrap_or_default()),
        passed == 0,
        "Each permit stands by itself: an exception in one leaves the others as they are. A forbid outweighs them all.",
    );
    let reader = environment.call_as(&["reader"], &[HELLO, POST, GRPC_HELLO, DELETE, VAULT]).await?;
    let admin =
        environment.call_as(&["admin"], &[HELLO, POST, DELETE, VAULT, GRPC_HELLO, GRPC_DELETE]).await?;
    let other_role = environment.call_as(&[&other], &[HELLO, DELETE, GRPC_HELLO, GRPC_DELETE]).await?;
    context.require(
        "readers, admins and all others are as before",
        "3, 6 and 0",
        format!(
            "{} of 5 calls of a reader passed, {} of 6 of an admin, {} of 4 of {other}",
            reader.passed(),
            admin.passed(),
            other_role.passed()
        ),
        (reader.passed(), admin.passed(), other_role.passed()) == (3, 6, 0),
        "Your permit or forbid is about more people than the one role. Look at its `principal`.",
    );
    Ok(())
}

impl Environment {
    async fn start(context: &CheckContext, gardener: &str, barred: &str) -> anyhow::Result<Self> {
        let mut texts = policies();
        let values = [("GARDENER", gardener.to_owned()), ("BARRED", barred.to_owned())];
        texts.insert(FILE.to_owned(), context.render(FILE, &values)?);
        let policies = Policies::parse(&texts).map_err(|error| {
            let what = format!("the authorizer takes {FILE}");
            let advice =
                "The numbers are line and column. policies/schema.cedarschema says what can be asked about.";
            Requirement::unmet(what, "policies that fit the schema", format!("It refuses {error}"), advice)
        })?;
        let life = &context.life;
        let authorizer = TestAuthorizer::start(policies, life).await?;
        let backend = Backend::start(listener().await?, life);
        let authorizers = AuthorizerCluster {
            name: AUTHZ_CLUSTER.to_owned(),
            addresses: vec![authorizer.server.address()],
            health_checks: true,
        };
        let topology = EnvoyTopology {
            admin: loopback(0),
            listeners: vec![ListenerSpec::new(FRONT_LISTENER, AUTHZ_CLUSTER)],
            authorizers: vec![authorizers],
            backend: backend.address(),
            tls: None,
        };
        let program = context.envoy_program().await?;
        let envoy = Envoy::new(&program, topology.to_yaml()?).start(life).await?.ready(READY_LIMIT).await?;
        let Some(listener) = envoy.admin().listeners().await?.into_iter().next() else {
            anyhow::bail!("our own Envoy has no listener");
        };
        Ok(Self { authorizer, caller: Caller::plain(listener.address)?, _envoy: envoy })
    }

    /// Somebody with these roles asks for all of this.
    async fn call_as(&self, roles: &[&str], all: &[TestCall]) -> anyhow::Result<CallResults> {
        let auth_headers = self.authorizer.auth_headers("sam", roles)?;
        let mut results = Vec::new();
        for one in all {
            let (summary, seen) = match one {
                TestCall::Http(method, path) => {
                    let (parsed, auth_headers) = (Method::try_from(*method)?, auth_headers.clone());
                    (
                        format!("{method} {path}"),
                        self.caller.http(parsed, path, auth_headers, Bytes::new()).await?,
                    )
                }
                TestCall::Grpc(operation, name) => {
                    let token = token(&auth_headers);
                    (
                        (*name).to_owned(),
                        self.caller.call(Protocol::Grpc, &Call::new(*operation).with_token(token)).await?,
                    )
                }
            };
            results.push((format!("{summary} {}", seen.status), seen.reached_backend()));
        }
        Ok(CallResults(results))
    }
}

fn token(headers: &HeaderMap) -> &str {
    let value = headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    value.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default()
}
