//! The demo as a user runs it: with Prometheus, without one, and ended early.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use demo1_metrics::dashboard::{self, Dashboard};
use demo1_metrics::prometheus::Api;
use mesh_testkit::demo::{self, Demo, Running, text};
use mesh_testkit::{altered_envoy, lab_ports};
use rustix::process::Signal;
use serde_json::Value;
use shared::ports;

const DEMO: Demo = Demo::new(env!("CARGO_BIN_EXE_demo1-metrics"));

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

/// One story at a time: they measure durations.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
#[ignore = "needs prometheus"]
fn every_claim_holds_and_every_panel_of_the_dashboard_has_data() {
    let _alone = alone();
    let ports =
        [&[ports::DEMO1_FRONT, ports::DEMO1_PROMETHEUS][..], &ports::DEMO1_ADMINS, &ports::DEMO1_SERVICES];
    let test = "every_claim_holds_and_every_panel_of_the_dashboard_has_data";
    lab_ports::with_free(test, &ports.concat(), || {
        let (pictures, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let begun = SystemTime::now();
        let mut command = DEMO.command(&["--json", "--stay", "--pictures"]);
        command.arg(pictures.path()).env("TMPDIR", temporary.path());
        let mut running = Running::start(command);
        // The report is indented: this is its end.
        running.read_until("}");
        let report: Value = serde_json::from_str(running.printed()).unwrap();
        assert_eq!(report["demo"], "demo1-metrics");
        assert!(report["versions"]["prometheus"].is_string() && report["versions"]["envoy"].is_string());
        assert_eq!(report["steps"].as_array().unwrap().len(), 6);
        demo::assert_every_claim_holds(&report, &CLAIMS.map(|(id, _)| id));

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(every_expression_has_data((begun, SystemTime::now())));
        assert_eq!(std::fs::read_dir(pictures.path()).unwrap().count(), 12);

        running.signal(Signal::INT);
        assert_eq!(running.finish().0, Some(0));
        for port in ports.concat() {
            TcpStream::connect(("127.0.0.1", port)).unwrap_err();
        }
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
    });
}

#[test]
fn an_inclusion_list_that_keeps_too_much_breaks_the_budget() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    // This entry of the list matches nearly every statistic.
    let sed = r#"s/"prefix":"http.in.downstream_rq_"/"contains":"_"/"#;
    let envoy = altered_envoy::edited(folder.path(), sed);
    let arguments = ["--no-prometheus", "--envoy", envoy.to_str().unwrap()];
    // Both at once, because a run takes 20 s, most of which it waits.
    std::thread::scope(|scope| {
        let json = scope.spawn(|| DEMO.run(&[&arguments[..], &["--json"]].concat()));
        assert_eq!(demo::broken_in_summary(&DEMO.run(&arguments)), ["budget"]);
        let report = demo::report(&json.join().unwrap(), 1);
        demo::assert_broken(&report, &["budget"]);
        assert_eq!(demo::ids(&report), CLAIMS.map(|(id, _)| id));
    });
}

/// Splits `label_values(SELECTOR, LABEL)`, which is Grafana's and not PromQL.
fn selector_and_label(query: &str) -> Option<(&str, &str)> {
    let inside = query.strip_prefix("label_values(")?.strip_suffix(')')?;
    let (selector, label) = inside.rsplit_once(',')?;
    Some((selector.trim(), label.trim()))
}

/// Runs every query of the dashboard against the demo's Prometheus, as Grafana does with all variables set to "All":
/// the variables' queries first, whose results the other queries contain.
async fn every_expression_has_data(span: (SystemTime, SystemTime)) {
    let prometheus = Api::new(([127, 0, 0, 1], ports::DEMO1_PROMETHEUS).into());
    let dashboard = Dashboard::ours().unwrap();
    let mut values = BTreeMap::new();
    for variable in dashboard.variables() {
        let (selector, label) = selector_and_label(&variable.query).expect("label_values(SELECTOR, LABEL)");
        // Grafana lists every series of the displayed time range, not only the current ones.
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
        // Each curve of a panel has a different name.
        let names: BTreeSet<String> = series.iter().map(|one| dashboard::legend(legend, one)).collect();
        assert!(names.len() == series.len() && !names.contains(""), "{title}: {names:?}");
        asked += 1;
    }
    assert_eq!(asked, 22);
}

#[test]
fn without_prometheus_it_explains_how_to_get_one_and_leaves_what_needs_it_unchecked() {
    let _alone = alone();
    let nothing = tempfile::tempdir().unwrap();
    let mut command = DEMO.command(&["--envoy"]);
    // Looks like a machine that has an Envoy and no other program.
    command.arg(altered_envoy::real()).env("PATH", nothing.path()).env("MESH_TOOLS", nothing.path());
    let output = command.env_remove("PROMETHEUS").output().unwrap();
    let printed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{printed}\n{}", text(&output.stderr));
    let remedies =
        ["no Prometheus", "apt-get install", "brew install", "prometheus.io/download", "$PROMETHEUS"];
    for expected in remedies {
        assert!(printed.contains(expected), "{expected} is not in:\n{printed}");
    }
    let begins = |begin: &str| printed.lines().filter(|line| line.starts_with(begin)).count();
    let needing = CLAIMS.iter().filter(|(_, promql)| *promql).count();
    assert_eq!(begins("   not checked: "), needing, "{printed}");
    assert_eq!(begins("   held: "), CLAIMS.len() - needing, "{printed}");
    assert!(printed.contains(&format!("; {needing} not checked")), "{printed}");
}

#[test]
fn an_interrupt_ends_it_early_and_leaves_nothing_behind() {
    let _alone = alone();
    let temporary = tempfile::tempdir().unwrap();
    let mut command = DEMO.command(&["--no-prometheus"]);
    command.env("TMPDIR", temporary.path());
    let mut running = Running::start(command);
    running.read_until("1. ");
    // The four Envoys are up by now.
    running.wait_for_children(4);
    running.signal(Signal::INT);
    let (code, printed) = running.finish();
    assert_eq!(code, Some(130));
    assert!(!printed.contains("\n6. "), "it continued to its last step:\n{printed}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_to_do() {
    let _alone = alone();
    for (args, expected) in [
        (&["--prometheus", "/nowhere/prometheus"][..], "/nowhere/prometheus is no Prometheus that runs here"),
        // Another program. The demo must not use the Prometheus on PATH instead.
        (&["--prometheus", "/bin/cat"], "/bin/cat is no Prometheus that runs here"),
        (&["--no-prometheus", "--pictures", "x"], "cannot be used with"),
        (&["--envoy", "/nowhere/envoy", "--no-prometheus"], "/nowhere/envoy"),
        (&["--rate", "9"], "--rate"),
    ] {
        let output = DEMO.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(expected), "{args:?}: {}", text(&output.stderr));
    }
    // With --no-prometheus the variable does not matter.
    for named in ["", "/nowhere/prometheus"] {
        let mut command = DEMO.command(&["--no-prometheus", "--envoy", "/nowhere/envoy"]);
        let output = command.env("PROMETHEUS", named).output().unwrap();
        assert!(text(&output.stderr).contains("/nowhere/envoy"), "{named}: {}", text(&output.stderr));
    }
    let _in_use = lab_ports::take(ports::DEMO1_FRONT);
    let output = DEMO.run(&["--stay", "--no-prometheus"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("is taken"), "{}", text(&output.stderr));
}
