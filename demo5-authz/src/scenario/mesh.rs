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
use crate::issuer::{Issuer, KeyType};
use crate::metrics::Metrics;
use crate::plan::Plan;
use crate::policy::Policies;
use crate::reload::{self, Watched};
use crate::server::{self, RunningServer};
use crate::token::ValidationParams;
use crate::topology::{
    AUTHZ_CLUSTER, AuthorizerCluster, EnvoyTopology, FRONT_LISTENER, ListenerSpec, SERVER_NAME, loopback,
};

/// The policies of the demo, which the story puts into a folder of its own, and changes there.
const POLICIES: [(&str, &str); 2] = [
    ("greeter.cedar", include_str!("../../policies/greeter.cedar")),
    ("clearance.cedar", include_str!("../../policies/clearance.cedar")),
];

pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// The door with TLS.
pub(super) const TLS_LISTENER: &str = "tls";

/// The door at which nobody is asked.
pub(super) const NO_AUTHZ_LISTENER: &str = "no-authz";

/// The doors that send bodies along: whole ones, and the beginning of longer ones.
pub(super) const FULL_BODY_LISTENER: &str = "body-full";
pub(super) const PARTIAL_BODY_LISTENER: &str = "body-partial";

/// The door with two authorizers.
pub(super) const PAIR_LISTENER: &str = "pair";

/// The most that is sent along of a body.
pub(super) const MAX_BODY_BYTES: u32 = 1024;

/// The world of the story, running.
#[derive(Debug)]
pub struct Mesh {
    pub(super) issuer: Issuer,
    pub(super) backend: Backend,
    pub(super) authorizer: Authorizer,
    pub(super) pair: [(Authorizer, RunningServer); 2],
    pub(super) policies: Watched<Policies>,
    pub(super) ca: Intermediate,
    pub(super) envoy: Serving,
    listeners: BTreeMap<String, SocketAddr>,
    folder: TempFolder,
}

impl Mesh {
    /// Starts everybody.
    pub(super) async fn start(plan: &Plan, program: &Program, life: &Lifecycle) -> anyhow::Result<Self> {
        let folder = TempFolder::new("mesh-demo5-").context("no temporary folder")?;
        let issuer = Issuer::generate(KeyType::default())?;
        std::fs::create_dir(folder.path().join("policies"))?;
        for (name, text) in POLICIES {
            std::fs::write(folder.path().join("policies").join(name), text)?;
        }
        write_atomically(&folder.path().join("jwks.json"), &issuer.jwks())?;
        for (name, role) in [("reader", "reader"), ("admin", "admin")] {
            let token = issuer.sign(&Claims::new(&ValidationParams::default(), name, &[role], 8 * HOUR))?;
            write_atomically(&folder.path().join(format!("{name}.token")), &token)?;
        }

        let metrics = Metrics::new()?;
        let keys = reload::watch_keys(
            &folder.path().join("jwks.json"),
            &ValidationParams::default(),
            &metrics,
            life,
        )
        .await?;
        let policies = reload::watch_policies(&folder.path().join("policies"), &metrics, life).await?;
        let log = tokio::fs::File::create(folder.path().join("decisions.jsonl")).await?;
        let log = DecisionLog::to_writer(log, life);
        let authorizer = |metrics, log| {
            Authorizer::new(keys.latest.clone(), policies.latest.clone(), TRUST_DOMAIN, metrics, log)
        };
        let front = authorizer(metrics, log);
        // The two count for themselves, and write nothing.
        let one = authorizer(Metrics::new()?, DecisionLog::disabled());
        let two = authorizer(Metrics::new()?, DecisionLog::disabled());

        let lab_address = |port| loopback(if plan.stay { port } else { 0 });
        // Envoy's own ports: a program that has one is named here better than in Envoy's log.
        for port in [ports::DEMO5_ENVOY, ports::DEMO5_TLS, ports::DEMO5_ADMIN] {
            drop(listen_on_lab_port(lab_address(port)).await?);
        }
        let backend = Backend::start(listen_on_lab_port(lab_address(ports::DEMO5_BACKEND)).await?, life);
        let serve = async |authorizer: &Authorizer, port: SocketAddr, shutdown_delay: Duration| {
            anyhow::Ok(RunningServer::start(
                authorizer.clone(),
                listen_on_lab_port(port).await?,
                shutdown_delay,
                life,
            ))
        };
        let running = serve(&front, lab_address(ports::DEMO5_AUTHZ), Duration::ZERO).await?;
        server::serve_metrics(
            front.clone(),
            listen_on_lab_port(lab_address(ports::DEMO5_METRICS)).await?,
            life,
        );
        // Longer than Envoy's health checks are apart.
        let shutdown_delay = Duration::from_secs(2);
        let pair = [
            serve(&one, loopback(0), shutdown_delay).await?,
            serve(&two, loopback(0), shutdown_delay).await?,
        ];

        let mut listeners = vec![
            ListenerSpec::new(FRONT_LISTENER, AUTHZ_CLUSTER).on_port(lab_address(ports::DEMO5_ENVOY).port()),
            ListenerSpec::new(TLS_LISTENER, AUTHZ_CLUSTER)
                .on_port(lab_address(ports::DEMO5_TLS).port())
                .with_tls(),
            ListenerSpec::without_ext_authz(NO_AUTHZ_LISTENER),
            ListenerSpec::new(FULL_BODY_LISTENER, AUTHZ_CLUSTER).with_body(MAX_BODY_BYTES, false),
            ListenerSpec::new(PARTIAL_BODY_LISTENER, AUTHZ_CLUSTER).with_body(MAX_BODY_BYTES, true),
            ListenerSpec::new(PAIR_LISTENER, PAIR_LISTENER),
        ];
        let cluster = |name: &str, addresses: Vec<SocketAddr>, health_checks| AuthorizerCluster {
            name: name.to_owned(),
            addresses,
            health_checks,
        };
        let mut authorizers = vec![
            cluster(AUTHZ_CLUSTER, vec![running.address()], true),
            cluster(PAIR_LISTENER, pair.iter().map(RunningServer::address).collect(), true),
        ];
        for fault in Fault::ALL {
            let name = fault.name();
            // Without health checks: they would find out, and then nobody would be asked.
            authorizers.push(cluster(name, vec![fault.start(life).await?], false));
            listeners.push(ListenerSpec::new(&format!("fail-closed-{name}"), name));
            listeners.push(ListenerSpec::new(&format!("fail-open-{name}"), name).fail_open());
        }

        let ca = create_ca("demo5")?;
        let certificate =
            ca.issue(&Names::default().dns(SERVER_NAME)?, Usage::Server, Validity::from_now(HOUR)?)?;
        let tls = Some((certificate, ca.root_pem()));
        let topology = EnvoyTopology {
            admin: lab_address(ports::DEMO5_ADMIN),
            listeners,
            authorizers,
            backend: backend.address(),
            tls,
        };
        let envoy =
            Envoy::new(&program.path, topology.to_yaml()?).start(life).await?.ready(READY_LIMIT).await?;
        let listeners = envoy.admin().listeners().await?;
        let listeners = listeners.into_iter().map(|one| (one.name, one.address)).collect();
        let [first, second] = pair;
        let pair = [(one, first), (two, second)];
        Ok(Self { issuer, backend, authorizer: front, pair, policies, ca, envoy, listeners, folder })
    }

    /// Where the door of this name is.
    pub(super) fn listener_address(&self, name: &str) -> anyhow::Result<SocketAddr> {
        self.listeners.get(name).copied().with_context(|| format!("Envoy has no listener {name}"))
    }

    /// Somebody at the door of this name, without TLS.
    pub(super) fn caller_at(&self, listener: &str) -> anyhow::Result<Caller> {
        Ok(Caller::plain(self.listener_address(listener)?)?)
    }

    /// A file or folder of the story.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A good token.
    pub(super) fn token(&self, subject: &str, roles: &[&str]) -> anyhow::Result<String> {
        Ok(self.issuer.sign(&Claims::new(&ValidationParams::default(), subject, roles, HOUR))?)
    }

    /// A client's certificate, by our authority or another one.
    pub(super) fn certificate(&self, by: &Intermediate, names: &Names) -> anyhow::Result<Credentials> {
        let issued: Issued = by.issue(names, Usage::Client, Validity::from_now(HOUR)?)?;
        Ok(Credentials::try_from(&issued)?)
    }

    /// Our root, for callers.
    pub(super) fn roots(&self) -> anyhow::Result<Roots> {
        Ok(Roots::from_pem(self.ca.root_pem())?)
    }
}

/// A root of this name, and the intermediate that it signed.
pub(super) fn create_ca(name: &str) -> anyhow::Result<Intermediate> {
    let root = Root::generate(&format!("{name} root"), Validity::from_now(48 * HOUR)?)?;
    Ok(root.sign_intermediate(&format!("{name} intermediate"), Validity::from_now(24 * HOUR)?)?)
}

/// Writes a file as a careful program does: whole, readable for its owner alone, and then given its name.
pub(super) fn write_atomically(path: &Path, text: &str) -> anyhow::Result<()> {
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
