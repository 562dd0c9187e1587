//! The demo as a user runs it: with Prometheus, without one, and ended early.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use demo1_metrics::dashboard::{self, Dashboard};
use demo1_metrics::prometheus::Api;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use shared::{ports, tools};

const DEMO: &str = env!("CARGO_BIN_EXE_demo1-metrics");

/// Every claim of the story, in order, and whether it needs PromQL.
const CLAIMS: [(&str, bool); 25] = [
    ("all-succeed", false),
    ("counts-agree", false),
    ("fan-out-agrees", false),
    ("ids-are-kept", false),
    ("edges", true),
    ("p99-of-edges", true),
    ("slow-for-callers", false),
    ("slow-edge", true),
    ("slow-a", true),
    ("quick-edge", true),
    ("quick-c", true),
    ("p99-by-buckets", true),
    ("p99-mean", true),
    ("errors-at-c", false),
    ("error-ratio", true),
    ("retries-hide-them", false),
    ("retries-tell", false),
    ("retries-are-load", false),
    ("fault-alerts", true),
    ("down", true),
    ("alert", true),
    ("service-up", true),
    ("usedonly", false),
    ("budget", false),
    ("cut-down-counts", false),
];

/// One story at a time: they measure durations, and share the lab ports.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run(args: &[&str]) -> Output {
    Command::new(DEMO).args(args).env_remove("RUST_LOG").stdin(Stdio::null()).output().unwrap()
}

/// Reads lines until one is this, or begins with it, and returns all of them.
fn read_until(from: &mut impl BufRead, line: &str) -> String {
    let mut told = String::new();
    loop {
        let begun = told.len();
        assert!(from.read_line(&mut told).unwrap() > 0, "it ended early:\n{told}");
        if told[begun..].starts_with(line) {
            return told;
        }
    }
}

/// The processes that this one started.
fn children(of: u32) -> BTreeSet<u32> {
    let listed =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let pids = listed.filter_map(|name| name.parse().ok());
    pids.filter(|pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name, which may hold anything, ends with the last bracket; state and parent follow.
        let after = stat.rsplit_once(") ").map(|(_, after)| after.to_owned()).unwrap_or_default();
        after.split(' ').nth(1) == Some(&of.to_string())
    })
    .collect()
}

/// Interrupts a demo as Ctrl-C would, and returns its exit code, once all that it had started is seen to be gone.
fn interrupt(demo: &mut Child, stdout: &mut impl Read) -> Option<i32> {
    let started = children(demo.id());
    assert!(started.len() >= 4, "four Envoys at least: {started:?}");
    kill_process(Pid::from_child(demo), Signal::INT).unwrap();
    // Read on, so that a full pipe cannot hold it up.
    std::io::copy(stdout, &mut std::io::sink()).unwrap();
    let code = demo.wait().unwrap().code();
    for pid in started {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{pid} still runs");
    }
    code
}

#[test]
#[ignore = "needs prometheus"]
fn every_claim_holds_and_every_panel_of_the_dashboard_has_data() {
    let _alone = alone();
    let pictures = tempfile::tempdir().unwrap();
    let begun = SystemTime::now();
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = Command::new(DEMO)
        .env("TMPDIR", temporary.path())
        .args(["--json", "--stay", "--pictures"])
        .arg(pictures.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(demo.stdout.take().unwrap());
    // The report is indented: this is its end.
    let told = read_until(&mut stdout, "}");
    let report: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&report["held"], &report["demo"]), (&true.into(), &"demo1-metrics".into()), "{report:#}");
    assert!(report["versions"]["prometheus"].is_string() && report["versions"]["envoy"].is_string());
    assert_eq!(report["steps"].as_array().unwrap().len(), 6);
    let claims = report["claims"].as_array().unwrap();
    let ids: Vec<&str> = claims.iter().map(|claim| claim["id"].as_str().unwrap()).collect();
    assert_eq!(ids, CLAIMS.map(|(id, _)| id));
    assert!(claims.iter().all(|claim| claim["verdict"] == "held"), "{claims:#?}");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(every_expression_has_data((begun, SystemTime::now())));
    assert_eq!(std::fs::read_dir(pictures.path()).unwrap().count(), 12);

    assert_eq!(interrupt(&mut demo, &mut stdout), Some(0));
    for port in
        [ports::DEMO1_FRONT, ports::DEMO1_PROMETHEUS, ports::DEMO1_ADMINS[3], ports::DEMO1_SERVICES[0]]
    {
        TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    }
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

/// Everything that Grafana would ask, asked of the demo's Prometheus: variables first, with whose values the rest is
/// filled in, as if all of them were chosen.
async fn every_expression_has_data(span: (SystemTime, SystemTime)) {
    let prometheus = Api::new(([127, 0, 0, 1], ports::DEMO1_PROMETHEUS).into());
    let dashboard = Dashboard::ours().unwrap();
    let mut values = BTreeMap::new();
    for variable in dashboard.variables() {
        let (selector, label) = variable.selector_and_label().expect("label_values(SELECTOR, LABEL)");
        // Grafana asks for all series of the time that it shows, and not only for those of this moment.
        let query = format!("last_over_time({}[2m])", dashboard::fill(selector, &values, ""));
        let series = prometheus.instant(&query, span.1).await.unwrap();
        let found: BTreeSet<&str> =
            series.iter().filter_map(|one| one.labels.get(label)).map(String::as_str).collect();
        let found: Vec<&str> = found.into_iter().collect();
        let expected =
            if variable.name == "source" { &["a", "b", "c", "front"][..] } else { &["a", "b", "c"] };
        assert_eq!(found, expected, "{}", variable.name);
        values.insert(variable.name.clone(), found.join("|"));
    }
    let panels = dashboard.panels.iter().flat_map(|panel| {
        panel
            .targets
            .iter()
            .map(|target| (panel.title.as_str(), target.expr.as_str(), target.legend.as_str()))
    });
    let annotations =
        dashboard.annotations().iter().map(|one| (one.name.as_str(), one.expr.as_str(), "{{instance}}"));
    let mut asked = 0;
    for (title, expression, legend) in panels.chain(annotations) {
        let query = dashboard::fill(expression, &values, "2s");
        assert!(!query.contains('$'), "{title}: {query}");
        let series = prometheus.range(&query, span, Duration::from_millis(500)).await.unwrap();
        let points = series.iter().flat_map(|one| &one.points).filter(|(_, value)| value.is_finite()).count();
        assert!(points > 0, "{title}: no data for {query}");
        // Curves of one panel can be told apart.
        let names: BTreeSet<String> = series.iter().map(|one| dashboard::legend(legend, one)).collect();
        assert!(names.len() == series.len() && !names.contains(""), "{title}: {names:?}");
        asked += 1;
    }
    assert_eq!(asked, 22);
}

#[test]
fn without_a_prometheus_it_says_so_and_how_to_get_one_and_claims_nothing_that_needs_it() {
    let _alone = alone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let choice = std::env::var_os("ENVOY");
    let envoy = runtime.block_on(tools::envoy(choice.as_deref().map(Path::new))).unwrap();
    let nothing = tempfile::tempdir().unwrap();
    let mut command = Command::new(DEMO);
    // A machine that has an Envoy, and nothing else.
    command.arg("--envoy").arg(envoy.path).env("PATH", nothing.path()).env("MESH_TOOLS", nothing.path());
    let output = command.env_remove("PROMETHEUS").stdin(Stdio::null()).output().unwrap();
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{told}\n{}", text(&output.stderr));
    let remedies =
        ["no Prometheus", "apt-get install", "brew install", "prometheus.io/download", "$PROMETHEUS"];
    for expected in remedies {
        assert!(told.contains(expected), "{expected} is not in:\n{told}");
    }
    let begins = |begin: &str| told.lines().filter(|line| line.starts_with(begin)).count();
    let needing = CLAIMS.iter().filter(|(_, promql)| *promql).count();
    assert_eq!(begins("   not checked: "), needing, "{told}");
    assert_eq!(begins("   held: "), CLAIMS.len() - needing, "{told}");
    assert!(told.contains(&format!("; {needing} not checked")), "{told}");
}

#[test]
fn an_interrupt_ends_it_early_and_leaves_nothing_behind() {
    let _alone = alone();
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = Command::new(DEMO)
        .arg("--no-prometheus")
        .env("TMPDIR", temporary.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(demo.stdout.take().unwrap());
    read_until(&mut stdout, "1. ");
    let begun = Instant::now();
    assert_eq!(interrupt(&mut demo, &mut stdout), Some(130));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_to_do() {
    let _alone = alone();
    for (args, expected) in [
        (&["--prometheus", "/nowhere/prometheus"][..], "/nowhere/prometheus is no Prometheus that runs here"),
        // A program, but another one; not passed over for the one on PATH.
        (&["--prometheus", "/bin/cat"], "/bin/cat is no Prometheus that runs here"),
        (&["--no-prometheus", "--pictures", "x"], "cannot be used with"),
        (&["--envoy", "/nowhere/envoy", "--no-prometheus"], "/nowhere/envoy"),
        (&["--rate", "9"], "--rate"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(expected), "{args:?}: {}", text(&output.stderr));
    }
    // Whatever the environment names, it can be done without.
    for named in ["", "/nowhere/prometheus"] {
        let mut demo = Command::new(DEMO);
        demo.args(["--no-prometheus", "--envoy", "/nowhere/envoy"]).env("PROMETHEUS", named);
        let output = demo.stdin(Stdio::null()).output().unwrap();
        assert!(text(&output.stderr).contains("/nowhere/envoy"), "{named}: {}", text(&output.stderr));
    }
    let _holder = std::net::TcpListener::bind(("127.0.0.1", ports::DEMO1_FRONT)).unwrap();
    let output = run(&["--stay", "--no-prometheus"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("is taken"), "{}", text(&output.stderr));
}
