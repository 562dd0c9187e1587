//! Everything that takes part: keys and policies in a folder, authorizers good and bad, a backend, an Envoy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use mesh_pki::tls::Credentials;
use mesh_pki::{Intermediate, Issued, Names, Root, Roots, Usage, Validity};
use shared::cli::{LiveEnvironment, listen_on_lab_port};
use shared::envoy::{Envoy, Serving};
use shared::lifecycle::Lifecycle;
use shared::ports;
use shared::temp_folder::TempFolder;
use shared::tools::Program;

use super::faults::Fault;
use super::limits::READY_LIMIT;
use crate::authorizer::{Authorizer, TRUST_DOMAIN};
use crate::backend::Backend;
use crate::claims::Claims;
use crate::client::Caller;
use crate::decision_log::DecisionLog;
use crate::issuer::{Issuer, Kind};
use crate::metrics::Metrics;
use crate::plan::Plan;
use crate::policy::Policies;
use crate::reload::{self, Followed};
use crate::server::{self, Running};
use crate::token::Expected;
use crate::topology::{AUTHZ, Authorizers, Door, FRONT, HOST, World, loopback};

/// The policies of the demo, which the story puts into a folder of its own, and changes there.
const POLICIES: [(&str, &str); 2] = [
    ("greeter.cedar", include_str!("../../policies/greeter.cedar")),
    ("clearance.cedar", include_str!("../../policies/clearance.cedar")),
];

pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// The door with TLS.
pub(super) const TLS: &str = "tls";

/// The door at which nobody is asked.
pub(super) const BARE: &str = "bare";

/// The doors that send bodies along: whole ones, and the beginning of longer ones.
pub(super) const WHOLE: &str = "body-whole";
pub(super) const PARTIAL: &str = "body-partial";

/// The door with two authorizers.
pub(super) const PAIR: &str = "pair";

/// The most that is sent along of a body.
pub(super) const BODY: u32 = 1024;

/// The world of the story, running.
#[derive(Debug)]
pub struct Mesh {
    pub(super) issuer: Issuer,
    pub(super) backend: Backend,
    pub(super) authorizer: Authorizer,
    pub(super) pair: [(Authorizer, Running); 2],
    pub(super) policies: Followed<Policies>,
    pub(super) trust: Intermediate,
    pub(super) envoy: Serving,
    doors: BTreeMap<String, SocketAddr>,
    folder: TempFolder,
}

impl Mesh {
    /// Starts everybody.
    pub(super) async fn start(plan: &Plan, program: &Program, life: &Lifecycle) -> anyhow::Result<Self> {
        let folder = TempFolder::new("mesh-demo5-").context("no temporary folder")?;
        let issuer = Issuer::generate(Kind::default())?;
        std::fs::create_dir(folder.path().join("policies"))?;
        for (name, text) in POLICIES {
            std::fs::write(folder.path().join("policies").join(name), text)?;
        }
        put(&folder.path().join("jwks.json"), &issuer.jwks())?;
        for (name, role) in [("reader", "reader"), ("admin", "admin")] {
            let token = issuer.sign(&Claims::new(&Expected::default(), name, &[role], 8 * HOUR))?;
            put(&folder.path().join(format!("{name}.token")), &token)?;
        }

        let metrics = Metrics::new()?;
        let keys =
            reload::keys(&folder.path().join("jwks.json"), &Expected::default(), &metrics, life).await?;
        let policies = reload::policies(&folder.path().join("policies"), &metrics, life).await?;
        let log = tokio::fs::File::create(folder.path().join("decisions.jsonl")).await?;
        let log = DecisionLog::to(log, life);
        let authorizer = |metrics, log| {
            Authorizer::new(keys.newest.clone(), policies.newest.clone(), TRUST_DOMAIN, metrics, log)
        };
        let front = authorizer(metrics, log);
        // The two count for themselves, and write nothing.
        let one = authorizer(Metrics::new()?, DecisionLog::off());
        let two = authorizer(Metrics::new()?, DecisionLog::off());

        let lab = |port| loopback(if plan.stay { port } else { 0 });
        // Envoy's own ports: a program that has one is named here better than in Envoy's log.
        for port in [ports::DEMO5_ENVOY, ports::DEMO5_TLS, ports::DEMO5_ADMIN] {
            drop(listen_on_lab_port(lab(port)).await?);
        }
        let backend = Backend::start(listen_on_lab_port(lab(ports::DEMO5_BACKEND)).await?, life);
        let serve = async |authorizer: &Authorizer, port: SocketAddr, linger: Duration| {
            anyhow::Ok(Running::start(authorizer.clone(), listen_on_lab_port(port).await?, linger, life))
        };
        let running = serve(&front, lab(ports::DEMO5_AUTHZ), Duration::ZERO).await?;
        server::serve_metrics(front.clone(), listen_on_lab_port(lab(ports::DEMO5_METRICS)).await?, life);
        // Longer than Envoy's health checks are apart.
        let linger = Duration::from_secs(2);
        let pair = [serve(&one, loopback(0), linger).await?, serve(&two, loopback(0), linger).await?];

        let mut doors = vec![
            Door::new(FRONT, AUTHZ).at(lab(ports::DEMO5_ENVOY).port()),
            Door::new(TLS, AUTHZ).at(lab(ports::DEMO5_TLS).port()).with_tls(),
            Door::bare(BARE),
            Door::new(WHOLE, AUTHZ).with_body(BODY, false),
            Door::new(PARTIAL, AUTHZ).with_body(BODY, true),
            Door::new(PAIR, PAIR),
        ];
        let cluster = |name: &str, addresses: Vec<SocketAddr>, health_checks| Authorizers {
            cluster: name.to_owned(),
            addresses,
            health_checks,
        };
        let mut authorizers = vec![
            cluster(AUTHZ, vec![running.address()], true),
            cluster(PAIR, pair.iter().map(Running::address).collect(), true),
        ];
        for fault in Fault::ALL {
            let name = fault.name();
            // Without health checks: they would find out, and then nobody would be asked.
            authorizers.push(cluster(name, vec![fault.start(life).await?], false));
            doors.push(Door::new(&format!("closed-{name}"), name));
            doors.push(Door::new(&format!("open-{name}"), name).open());
        }

        let trust = authority("demo5")?;
        let own = trust.issue(&Names::default().dns(HOST)?, Usage::Server, Validity::from_now(HOUR)?)?;
        let tls = Some((own, trust.root_pem()));
        let world =
            World { admin: lab(ports::DEMO5_ADMIN), doors, authorizers, backend: backend.address(), tls };
        let envoy = Envoy::new(&program.path, world.to_yaml()?).start(life).await?.ready(READY_LIMIT).await?;
        let listeners = envoy.admin().listeners().await?;
        let doors = listeners.into_iter().map(|one| (one.name, one.address)).collect();
        let [first, second] = pair;
        let pair = [(one, first), (two, second)];
        Ok(Self { issuer, backend, authorizer: front, pair, policies, trust, envoy, doors, folder })
    }

    /// Where the door of this name is.
    pub(super) fn door(&self, name: &str) -> anyhow::Result<SocketAddr> {
        self.doors.get(name).copied().with_context(|| format!("Envoy has no listener {name}"))
    }

    /// Somebody at the door of this name, without TLS.
    pub(super) fn at(&self, door: &str) -> anyhow::Result<Caller> {
        Ok(Caller::plain(self.door(door)?)?)
    }

    /// A file or folder of the story.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A good token.
    pub(super) fn token(&self, subject: &str, roles: &[&str]) -> anyhow::Result<String> {
        Ok(self.issuer.sign(&Claims::new(&Expected::default(), subject, roles, HOUR))?)
    }

    /// A client's certificate, by our authority or another one.
    pub(super) fn certificate(&self, by: &Intermediate, names: &Names) -> anyhow::Result<Credentials> {
        let issued: Issued = by.issue(names, Usage::Client, Validity::from_now(HOUR)?)?;
        Ok(Credentials::try_from(&issued)?)
    }

    /// Our root, for callers.
    pub(super) fn roots(&self) -> anyhow::Result<Roots> {
        Ok(Roots::from_pem(self.trust.root_pem())?)
    }
}

/// A root of this name, and the intermediate that it signed.
pub(super) fn authority(name: &str) -> anyhow::Result<Intermediate> {
    let root = Root::generate(&format!("{name} root"), Validity::from_now(48 * HOUR)?)?;
    Ok(root.sign_intermediate(&format!("{name} intermediate"), Validity::from_now(24 * HOUR)?)?)
}

/// Writes a file as a careful program does: whole, readable for its owner alone, and then given its name.
pub(super) fn put(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let folder = path.parent().context("a file is in a folder")?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

impl LiveEnvironment for Mesh {
    fn instructions(&self) -> String {
        let token = |name: &str| format!("-H \"authorization: Bearer $(cat {})\"", self.path(name).display());
        format!(
            "Everything stays up until Ctrl-C. Try:\n\
             \n  curl -i http://{front}/hello\
             \n  curl -i {reader} http://{front}/hello\
             \n  curl -i {reader} -X DELETE http://{front}/hello\
             \n  curl -i {admin} -X DELETE http://{front}/hello\
             \n  curl -i http://{front}/public\
             \n  cargo run -p demo5-authz --bin demo5-client -- --token-file {file}\
             \n  tail -f {log}\
             \n  curl -s http://{metrics}/metrics\
             \n  curl -s 'http://{admin_page}/stats?filter=ext_authz'\n\
             \nThe policies are in {policies}: change one, and call again within a second.",
            front = loopback(ports::DEMO5_ENVOY),
            reader = token("reader.token"),
            admin = token("admin.token"),
            file = self.path("reader.token").display(),
            log = self.path("decisions.jsonl").display(),
            metrics = loopback(ports::DEMO5_METRICS),
            admin_page = self.envoy.admin().address(),
            policies = self.path("policies").display(),
        )
    }
}
