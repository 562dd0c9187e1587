//! The real kernel, the real Envoy: as root, with bpftrace.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use demo2_bpf::program::Program;
use demo2_bpf::target::{self, Source, Target};
use demo2_bpf::trace::Trace;
use demo2_bpf::tracer::Tracer;
use demo2_bpf::{reference, workload};
use mesh_testkit::compose::{Plan, Stack};
use mesh_testkit::demo;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use shared::envoy::Envoy;
use shared::lifecycle::Lifecycle;

const LIMIT: Duration = Duration::from_secs(60);

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo2-bpf"));
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn held(output: &Output) -> Value {
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report:#}\n{}", stderr(output));
    assert_eq!(report["held"], true);
    // Live, and not a replay.
    assert_eq!(report["versions"]["replay of"], Value::Null, "{report:#}");
    report
}

#[test]
#[ignore = "needs root and bpftrace"]
fn every_kernel_count_agrees_with_its_reference() {
    let folder = tempfile::tempdir().unwrap();
    let report = held(&run(&["--json", "--record", folder.path().to_str().unwrap()]));
    assert_eq!(report["claims"].as_array().unwrap().len(), 20, "{report:#}");
    assert!(report["claims"].as_array().unwrap().iter().all(|claim| claim["verdict"] == "held"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 9);
}

#[test]
#[ignore = "needs root and bpftrace"]
fn a_program_that_misses_connections_breaks_its_claims() {
    let folder = tempfile::tempdir().unwrap();
    // The real bpftrace, with a condition in the program that no accepted connection meets.
    let edit = r#"exec bpftrace "${@//args->ret >= 0/args->ret >= 1000000}""#;
    let altered = folder.path().join("bpftrace");
    fs::write(&altered, format!("#!/bin/bash\n{edit}\n")).unwrap();
    fs::set_permissions(&altered, fs::Permissions::from_mode(0o755)).unwrap();
    let altered = altered.to_str().unwrap();
    let broken = ["accept-connections", "accept-by-worker"];
    let args = ["--program", "accept", "--bpftrace", altered];
    assert_eq!(demo::broken_in_summary(&run(&args)), broken);
    let report = demo::report(&run(&[&args[..], &["--json"]].concat()), 1);
    demo::assert_broken(&report, &broken);
}

#[test]
#[ignore = "needs root, bpftrace and docker"]
fn an_envoy_in_our_container_is_traced_and_removed_at_the_end() {
    let report = held(&run(&["--json", "--container"]));
    assert_eq!(report["claims"].as_array().unwrap().len(), 20, "{report:#}");
    assert_eq!(report["versions"]["envoy"], "1.40.0");
    let left =
        Command::new("docker").args(["ps", "--all", "--quiet", "--filter", "label=mesh.demo2"]).output();
    assert_eq!(String::from_utf8_lossy(&left.unwrap().stdout).trim(), "");
}

/// The claims that were not checked, by their ids.
fn not_checked_ids(report: &Value) -> Vec<&str> {
    let claims = report["claims"].as_array().unwrap().iter();
    let not_checked_ids = claims.filter(|claim| claim["verdict"] == "not checked");
    not_checked_ids.map(|claim| claim["id"].as_str().unwrap()).collect()
}

/// An Envoy that another demo could have started: here the test did.
async fn second_target(life: &Lifecycle) -> Target {
    let envoy = shared::tools::envoy(None).await.unwrap();
    Source::Process.target(Some(&envoy), false, life).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and bpftrace"]
async fn a_running_envoy_process_is_traced_by_its_pid() {
    let life = Lifecycle::default();
    let target = second_target(&life).await;
    let admin = target.admin.address().to_string();
    let pid = target.pid.to_string();
    let args = ["--json", "--pid", &pid, "--admin", &admin];
    let report = held(&run_with_other_traffic(&args).await);
    assert_eq!(not_checked_ids(&report), ["listen-reuseport"], "{report:#}");
    target.check_alive().unwrap();
    life.shut_down(LIMIT).await.unwrap();
}

/// Runs the demo while the test's own tasks go on.
async fn run_with_other_traffic(args: &[&str]) -> Output {
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    let run = move || command(&args.iter().map(String::as_str).collect::<Vec<_>>()).output().unwrap();
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and bpftrace"]
async fn connections_of_other_clients_do_not_block_tracing_and_their_requests_leave_client_claims_unchecked()
{
    let life = Lifecycle::default();
    let target = second_target(&life).await;
    let (pid, admin) = (target.pid.to_string(), target.admin.address().to_string());
    let args = ["--json", "--pid", &pid, "--admin", &admin];
    let idle = tokio::net::TcpStream::connect(target.call).await.unwrap();
    let report = held(&run_with_other_traffic(&[&args[..], &["--program", "accept"]].concat()).await);
    assert_eq!(not_checked_ids(&report), [""; 0], "{report:#}");

    let stop = life.child();
    let (token, call) = (stop.token(), target.call);
    let others = tokio::spawn(async move {
        while !token.is_cancelled() {
            workload::once(call).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let report = held(&run_with_other_traffic(&args).await);
    let open = not_checked_ids(&report);
    for id in [
        "accept-connections-client",
        "states-downstream-client",
        "states-closed",
        "bytes-client",
        "requests-read",
    ] {
        assert!(open.contains(&id), "{id} is not in {open:?}");
    }
    let claims = report["claims"].as_array().unwrap();
    let claim = |id: &str| claims.iter().find(|claim| claim["id"] == id).unwrap();
    for id in [
        "accept-connections",
        "accept-by-worker",
        "states-downstream",
        "states-upstream",
        "bytes-in",
        "bytes-out",
    ] {
        assert_eq!(claim(id)["verdict"], "held", "{report:#}");
    }
    assert!(claim("bytes-client")["why"].as_str().unwrap().starts_with("other traffic: Envoy counted"));
    stop.shut_down(LIMIT).await.unwrap();
    others.await.unwrap();
    drop(idle);
    life.shut_down(LIMIT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Linux"]
async fn the_backend_is_found_by_traffic_whatever_other_clusters_envoy_has() {
    let life = Lifecycle::default();
    let backend = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = backend.local_addr().unwrap().port();
    target::answer(backend, &life);
    let mut text = target::CONFIG.replace("12002", &port.to_string());
    for lab in ["12000", "12001"] {
        text = text.replace(lab, "0");
    }
    for (was, is) in [("name: backend", "name: back.end"), ("cluster: backend", "cluster: back.end")] {
        text = text.replace(was, is);
    }
    // Many, so that it is not by chance that none of them is taken for the backend.
    let others = (1..=8).map(|number| {
        let at = format!("address: {{ socket_address: {{ address: 127.0.0.1, port_value: {number} }} }}");
        let endpoints = format!("[{{ lb_endpoints: [{{ endpoint: {{ {at} }} }}] }}]");
        let assigned = format!("{{ cluster_name: other_{number}, endpoints: {endpoints} }}");
        format!("    - {{ name: other_{number}, type: STATIC, load_assignment: {assigned} }}\n")
    });
    text = text.replace("  clusters:\n", &format!("  clusters:\n{}", others.collect::<String>()));
    let program = shared::tools::envoy(None).await.unwrap();
    let envoy =
        Envoy::new(&program, text).concurrency(2).start(&life).await.unwrap().ready(LIMIT).await.unwrap();
    let source = Source::Pid { pid: envoy.pid(), admin: envoy.admin().address(), target: None };
    let target = source.target(None, false, &life).await.unwrap();
    assert_eq!(target.backend_port, port);
    let before = reference::envoy_counters(&target.admin).await.unwrap();
    workload::run(target.call, 0).await.unwrap();
    let counted = reference::envoy_counters(&target.admin).await.unwrap().since(&before);
    assert_eq!((counted.downstream_connections, counted.downstream_requests), (23, 92));
    assert!(counted.upstream_connections >= 9, "{counted:?}");

    // The admin interface answers 404, as would an Envoy that has no such route.
    let source =
        Source::Pid { pid: envoy.pid(), admin: target.admin.address(), target: Some(target.admin.address()) };
    let refused = format!("{:#}", source.target(None, false, &life).await.unwrap_err());
    assert!(refused.contains("does not answer GET /hello"), "{refused}");
    life.shut_down(LIMIT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and bpftrace"]
async fn an_envoy_that_exits_during_a_run_is_reported_and_nothing_hangs() {
    let life = Lifecycle::default();
    let target = second_target(&life).await;
    let admin = target.admin.address().to_string();
    let pid = target.pid.to_string();
    let args = ["--pid", &pid, "--admin", &admin, "--program", "accept"];
    let child = command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Not the one that is only asked for its version.
    let watches = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|it| it.contains("tracepoint"))
    };
    let watching = || async {
        let children = child_processes(child.id());
        if children.iter().any(|(pid, _)| watches(pid)) { Ok(()) } else { Err(format!("{children:?}")) }
    };
    shared::poll::wait_until("bpftrace to start", Duration::from_millis(2), LIMIT, watching).await.unwrap();
    life.shut_down(LIMIT).await.unwrap();
    let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let reported = format!("the Envoy that was watched (process {pid}) has ended");
    assert!(stderr(&output).contains(&reported), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, bpftrace and docker"]
async fn an_envoy_in_a_running_container_is_traced_from_the_host() {
    let plan = Plan {
        file: Path::new(env!("CARGO_MANIFEST_DIR")).join("compose.yaml"),
        programs: [env!("CARGO_BIN_EXE_demo2-backend"), env!("CARGO_BIN_EXE_demo2-bpf")]
            .map(Into::into)
            .to_vec(),
        ports: ["DEMO2_PORT", "DEMO2_ADMIN_PORT"].map(Into::into).to_vec(),
    };
    let stack: Stack = plan.up().await.unwrap();
    let envoy = stack.containers("envoy").await.unwrap().remove(0);
    let at = |variable| format!("127.0.0.1:{}", stack.port(variable));
    let (admin, target) = (at("DEMO2_ADMIN_PORT"), at("DEMO2_PORT"));
    let attach = ["--json", "--attach", &envoy.id, "--admin", &admin];
    // Its listener's own address is another one here.
    let output = run(&attach);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("--target"), "{}", stderr(&output));
    let args = [&attach[..], &["--target", &target]].concat();
    let report = held(&run(&args));
    // It had been started before, and a published port's proxy passes no reset on.
    assert_eq!(not_checked_ids(&report), ["listen-reuseport", "errors-resets"], "{report:#}");

    // From a container in Envoy's own network there is no such proxy.
    let state = ["inspect", "--format", "{{.State.Pid}}", &envoy.id];
    let pid = Command::new("docker").args(state).output().unwrap();
    let pid = String::from_utf8(pid.stdout).unwrap();
    let watch = ["demo2-bpf", "--json", "--pid", pid.trim(), "--admin", "127.0.0.1:12001"];
    stack.run(&["build", "tools"]).await.unwrap();
    let output_of = stack.run(&[&["run", "--rm", "tools"][..], &watch].concat()).await.unwrap();
    let report: Value = serde_json::from_str(&output_of).unwrap();
    assert_eq!(report["held"], true, "{report:#}");
    assert_eq!(report["versions"]["replay of"], Value::Null, "{report:#}");
    assert_eq!(not_checked_ids(&report), ["listen-reuseport"], "{report:#}");
    assert_eq!(stack.down().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, bpftrace and docker"]
async fn an_envoy_started_by_a_script_in_its_container_is_found_among_the_child_processes() {
    let life = Lifecycle::default();
    let backend = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = backend.local_addr().unwrap().port();
    target::answer(backend, &life);
    // An admin interface on port 0 could not be found from outside.
    let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut text = target::CONFIG.replace("12002", &port.to_string());
    text = text.replace("12001", &admin.port().to_string()).replace("12000", "0");
    let script = "/usr/local/bin/envoy --config-yaml \"$0\" --concurrency 2 --disable-hot-restart; true";
    let container = format!("demo2-test-{}", std::process::id());
    let run =
        ["run", "--detach", "--rm", "--network", "host", "--name", &container, "--label", "mesh.demo2.test"];
    let what = ["--pull", "never", "--entrypoint", "bash", demo2_bpf::container::IMAGE, "-c", script, &text];
    let docker = |args: &[&str]| Command::new("docker").args(args).output().unwrap();
    assert!(docker(&[&run[..], &what].concat()).status.success());
    let interface = shared::envoy::Admin::new(admin);
    let ready =
        shared::poll::wait_until("Envoy", Duration::from_millis(20), LIMIT, || interface.ready()).await;
    let (at, named) = (admin.to_string(), ["--attach", container.as_str()]);
    let output =
        run_with_other_traffic(&[&named[..], &["--json", "--admin", &at, "--program", "accept"]].concat())
            .await;
    assert!(docker(&["rm", "--force", &container]).status.success());
    ready.unwrap();
    assert_eq!(not_checked_ids(&held(&output)), [""; 0]);
    life.shut_down(LIMIT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and bpftrace"]
async fn traffic_on_the_same_ports_in_another_network_namespace_is_not_counted() {
    let life = Lifecycle::default();
    let target = second_target(&life).await;
    let (pid, listener, backend) = (target.pid, target.listener_port, target.backend_port);
    for (program, maps) in
        [(Program::States, ["downstream", "upstream"].as_slice()), (Program::Errors, &["reset_by_client"])]
    {
        let start = async |network| {
            let arguments = program.arguments(pid, listener, backend, network);
            Tracer::start(Path::new("bpftrace"), program, &arguments, &life).await.unwrap()
        };
        // The other is told of a network in which nothing happens.
        let (here, there) = (start(target.network).await, start(target.network + 1).await);
        workload::run(target.call, 1).await.unwrap();
        let (here, there) = (here.stop().await.unwrap(), there.stop().await.unwrap());
        let [here, there] = [here, there].map(|it| Trace::parse(it.iter().map(String::as_str)).unwrap());
        for map in maps {
            assert!(here.number(map) > 0, "{map}: {here:?}");
            assert_eq!(there.number(map), 0, "{map}: {there:?}");
        }
    }
    life.shut_down(LIMIT).await.unwrap();
}

#[test]
#[ignore = "needs root and bpftrace"]
fn a_missing_process_or_one_that_is_not_envoy_is_rejected() {
    for (pid, words) in [("4194304", "no process 4194304"), ("1", "is no Envoy")] {
        let output = run(&["--pid", pid, "--admin", "127.0.0.1:9"]);
        // Before any step was begun.
        assert!(!String::from_utf8_lossy(&output.stdout).contains("1. "));
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    let output = run(&["--attach", "no-such-container", "--admin", "127.0.0.1:9"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("no-such-container"), "{}", stderr(&output));
}

/// A bpftrace that tells its version, and then does as `body` says.
fn fake_envoy(folder: &Path, body: &str) -> PathBuf {
    let path = folder.join("bpftrace");
    let script =
        format!("#!/bin/sh\n[ \"$1\" = --version ] && {{ echo 'bpftrace v0.99.0'; exit 0; }}\n{body}\n");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
#[ignore = "needs root and bpftrace"]
fn a_bpftrace_that_fails_is_quoted_and_nothing_hangs() {
    let folder = tempfile::tempdir().unwrap();
    for body in [
        "echo 'no such tracepoint here' >&2; exit 1",
        "printf '{\"type\": \"printf\", \"data\": \"READY\\\\n\"}\\n'; echo 'out of probes' >&2; exit 3",
    ] {
        let bpftrace = fake_envoy(folder.path(), body);
        let output = run(&["--bpftrace", bpftrace.to_str().unwrap(), "--program", "accept"]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains("bpftrace ended by itself"), "{}", stderr(&output));
    }
}

#[test]
#[ignore = "needs root and bpftrace"]
fn ctrl_c_leaves_neither_envoy_nor_bpftrace_behind() {
    let mut child = command(&["--json"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    let children = loop {
        let children = child_processes(child.id());
        if children.iter().any(|(_, name)| name == "bpftrace")
            && children.iter().any(|(_, name)| name == "envoy")
        {
            break children;
        }
        assert!(begun.elapsed() < LIMIT && child.try_wait().unwrap().is_none(), "{children:?}");
        std::thread::sleep(Duration::from_millis(2));
    };
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    for (pid, name) in children {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{name} still runs");
    }
}

#[test]
#[ignore = "needs root, bpftrace and docker"]
fn ctrl_c_while_docker_starts_the_container_leaves_none_behind() {
    let mut child = command(&["--container"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    let starts = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|it| it.starts_with("docker\0run\0"))
    };
    while !child_processes(child.id()).iter().any(|(pid, _)| starts(pid)) {
        assert!(begun.elapsed() < LIMIT && child.try_wait().unwrap().is_none(), "docker run was not seen");
        std::thread::sleep(Duration::from_millis(2));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let filter = format!("label=mesh.demo2={}", child.id());
    let left = Command::new("docker").args(["ps", "--all", "--quiet", "--filter", &filter]).output().unwrap();
    assert!(left.status.success());
    assert_eq!(String::from_utf8_lossy(&left.stdout).trim(), "");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, bpftrace and docker"]
async fn a_killed_run_leaves_no_container_behind() {
    let mut child = command(&["--container"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let filter = format!("label=mesh.demo2={}", child.id());
    let containers = |which: &'static str| {
        let args = ["ps", which, "--quiet", "--filter", &filter];
        let listed = Command::new("docker").args(args).output().unwrap();
        assert!(listed.status.success());
        String::from_utf8(listed.stdout).unwrap().trim().to_owned()
    };
    let (every, envoys) = (Duration::from_millis(20), || {
        child_processes(child.id()).iter().any(|(_, name)| name == "bpftrace")
            && !containers("--no-trunc").is_empty()
    });
    let runs = || async { if envoys() { Ok(()) } else { Err("neither is seen") } };
    shared::poll::wait_until("its container and bpftrace", every, LIMIT, runs).await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let gone = || async {
        let left = containers("--all");
        if left.is_empty() { Ok(()) } else { Err(left) }
    };
    shared::poll::wait_until("its container to go", every, LIMIT, gone).await.unwrap();
}

/// The children of a process: number and name.
fn child_processes(parent: u32) -> Vec<(u32, String)> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let child = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        (rest.split_whitespace().nth(1)? == parent.to_string()).then(|| (pid, name.to_owned()))
    };
    processes.filter_map(|process| child(process.file_name().to_str()?.parse().ok()?)).collect()
}
