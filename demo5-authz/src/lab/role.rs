//! Exercise 1: a policy for a new role, and for one that takes rights away.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use mesh_lab::{CheckContext, Requirement};
use shared::envoy::{Envoy, Serving};

use super::world::{Office, listener, policies};
use crate::backend::Backend;
use crate::client::{Call, Caller, Protocol, Wish};
use crate::policy::Policies;
use crate::topology::{AUTHZ, Authorizers, Door, FRONT, World, loopback};

const FILE: &str = "roles.cedar";

const READY: Duration = Duration::from_secs(30);

/// Something that can be asked for.
#[derive(Clone, Copy)]
enum Ask {
    Grpc(Wish, &'static str),
    Http(&'static str, &'static str),
}

const HELLO: Ask = Ask::Http("GET", "/hello");
const POST: Ask = Ask::Http("POST", "/hello");
const DELETE: Ask = Ask::Http("DELETE", "/hello");
const VAULT: Ask = Ask::Http("GET", "/vault");
const GRPC_HELLO: Ask = Ask::Grpc(Wish::Hello, "Hello");
const GRPC_DELETE: Ask = Ask::Grpc(Wish::Delete, "DeleteGreeting");

/// Calls of one caller, and what each got.
struct Asked(Vec<(String, bool)>);

impl Asked {
    fn passed(&self) -> usize {
        self.0.iter().filter(|(_, passed)| *passed).count()
    }

    fn told(&self) -> String {
        self.0.iter().map(|(told, _)| told.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// Envoy before a backend, with an authorizer that goes by the student's policies too.
struct Gate {
    office: Office,
    caller: Caller,
    /// Dropped, it ends.
    _envoy: Serving,
}

pub(super) async fn check(bench: &mut CheckContext) -> anyhow::Result<()> {
    let [gardener, barred, other] =
        <[String; 3]>::try_from(bench.rng.names(3)).map_err(|_| anyhow::anyhow!("three names"))?;
    let gate = Gate::open(bench, &gardener, &barred).await?;

    let may = gate.asks(&[&gardener], &[HELLO, DELETE, GRPC_HELLO, GRPC_DELETE]).await?;
    let [http, grpc] =
        [&may.0[..2], &may.0[2..]].map(|half| half.iter().filter(|(_, passed)| *passed).count());
    let advice = match (http, grpc) {
        (0, 0) => "What nothing permits is refused. Give that role a permit of its own.",
        (_, 0) => {
            "A gRPC call is a POST to /PACKAGE.SERVICE/METHOD: it has a path of its own, as in greeter.cedar."
        }
        (0, _) => "By HTTP the path is /hello; the method tells what is wanted, and is context.method.",
        _ => "One of them is permitted and another is not: go through the four, one after the other.",
    };
    bench.require(
        format!("{gardener} may say hello and delete, by HTTP and by gRPC"),
        "4 that pass",
        format!("{} of 4 calls of {gardener} passed: {}", may.passed(), may.told()),
        may.passed() == 4,
        advice,
    );
    let more = gate.asks(&[&gardener], &[POST, VAULT]).await?;
    bench.require(
        format!("{gardener} may do nothing else"),
        "0",
        format!("{} of 2 other calls of {gardener} passed: {}", more.passed(), more.told()),
        more.passed() == 0,
        "A permit holds for whatever it does not ask about. Which method, and which path, did yours leave open?",
    );
    let mut all = Vec::new();
    for with in [None, Some("reader"), Some(gardener.as_str()), Some("admin")] {
        let roles: Vec<&str> = with.into_iter().chain([barred.as_str()]).collect();
        let asked = gate.asks(&roles, &[HELLO, GRPC_DELETE]).await?;
        let told = |(told, passed)| (format!("as {} {told}", roles.join(" and ")), passed);
        all.extend(asked.0.into_iter().map(told));
    }
    let (tried, passed) = (all.len(), all.iter().filter(|(_, passed)| *passed).count());
    let first = all.iter().find(|(_, passed)| *passed).map(|(told, _)| format!(", the first {told}"));
    bench.require(
        format!("{barred} may do nothing, whatever else that one is"),
        "0",
        format!("{passed} of {tried} calls of {barred} passed{}", first.unwrap_or_default()),
        passed == 0,
        "Each permit stands by itself: an exception in one leaves the others as they are. A forbid outweighs them all.",
    );
    let reader = gate.asks(&["reader"], &[HELLO, POST, GRPC_HELLO, DELETE, VAULT]).await?;
    let admin = gate.asks(&["admin"], &[HELLO, POST, DELETE, VAULT, GRPC_HELLO, GRPC_DELETE]).await?;
    let nobody = gate.asks(&[&other], &[HELLO, DELETE, GRPC_HELLO, GRPC_DELETE]).await?;
    bench.require(
        "readers, admins and all others are as before",
        "3, 6 and 0",
        format!(
            "{} of 5 calls of a reader passed, {} of 6 of an admin, {} of 4 of {other}",
            reader.passed(),
            admin.passed(),
            nobody.passed()
        ),
        (reader.passed(), admin.passed(), nobody.passed()) == (3, 6, 0),
        "Your permit or forbid is about more people than the one role. Look at its `principal`.",
    );
    Ok(())
}

impl Gate {
    async fn open(bench: &CheckContext, gardener: &str, barred: &str) -> anyhow::Result<Self> {
        let mut texts = policies();
        let values = [("GARDENER", gardener.to_owned()), ("BARRED", barred.to_owned())];
        texts.insert(FILE.to_owned(), bench.render(FILE, &values)?);
        let policies = Policies::parse(&texts).map_err(|error| {
            let what = format!("the authorizer takes {FILE}");
            let advice =
                "The numbers are line and column. policies/schema.cedarschema says what can be asked about.";
            Requirement::unmet(what, "policies that fit the schema", format!("It refuses {error}"), advice)
        })?;
        let life = &bench.life;
        let office = Office::open(policies, life).await?;
        let backend = Backend::start(listener().await?, life);
        let authorizers = Authorizers {
            cluster: AUTHZ.to_owned(),
            addresses: vec![office.authorizer.address()],
            health_checks: true,
        };
        let world = World {
            admin: loopback(0),
            doors: vec![Door::new(FRONT, AUTHZ)],
            authorizers: vec![authorizers],
            backend: backend.address(),
            tls: None,
        };
        let program = bench.envoy_program().await?;
        let envoy = Envoy::new(&program, world.to_yaml()?).start(life).await?.ready(READY).await?;
        let Some(door) = envoy.admin().listeners().await?.into_iter().next() else {
            anyhow::bail!("our own Envoy has no listener");
        };
        Ok(Self { office, caller: Caller::plain(door.address)?, _envoy: envoy })
    }

    /// Somebody with these roles asks for all of this.
    async fn asks(&self, roles: &[&str], all: &[Ask]) -> anyhow::Result<Asked> {
        let shows = self.office.shows("sam", roles)?;
        let mut asked = Vec::new();
        for one in all {
            let (told, seen) = match one {
                Ask::Http(method, path) => {
                    let (parsed, shows) = (Method::try_from(*method)?, shows.clone());
                    (format!("{method} {path}"), self.caller.http(parsed, path, shows, Bytes::new()).await?)
                }
                Ask::Grpc(wish, name) => {
                    let token = token(&shows);
                    (
                        (*name).to_owned(),
                        self.caller.call(Protocol::Grpc, &Call::new(*wish).token(token)).await?,
                    )
                }
            };
            asked.push((format!("{told} {}", seen.status), seen.passed()));
        }
        Ok(Asked(asked))
    }
}

fn token(headers: &HeaderMap) -> &str {
    let value = headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    value.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default()
}
