//! Recorded runs: they hold as they are, and not when a count is changed; bad lines are refused, not guessed.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use demo2_bpf::draw;
use demo2_bpf::facts::{Counted, Facts, Recording};
use demo2_bpf::judge::judge;
use demo2_bpf::program::Program;
use demo2_bpf::trace::{Bar, Trace, is_ready};
use demo2_bpf::witness;
use proptest::prelude::*;
use shared::report::{Output, Recorder, Report, Verdict};

fn recorded(program: Program) -> (Trace, Facts) {
    let recording = Recording::parse(program.recorded()).unwrap();
    (Trace::parse(recording.lines.iter().map(String::as_str)).unwrap(), recording.facts)
}

fn judged(program: Program, trace: &Trace, facts: &Facts) -> Report {
    let mut story = Recorder::new("demo2-bpf", "", Output::Silent);
    judge(program, trace, facts, &mut story);
    story.finish()
}

#[test]
fn every_recorded_run_holds() {
    for program in Program::ALL {
        let (trace, facts) = recorded(program);
        let report = judged(program, &trace, &facts);
        assert!(report.held && !report.claims.is_empty(), "{}: {:#?}", program.name(), report.claims);
        assert!(trace.probes >= 4, "{} attached {}", program.name(), trace.probes);
    }
}

#[test]
fn a_map_that_counts_one_more_breaks_the_claim() {
    for (program, map) in [
        (Program::Listen, "reuseport"),
        (Program::Accept, "accepted"),
        (Program::States, "downstream"),
        (Program::States, "upstream"),
        (Program::Bytes, "in"),
        (Program::Bytes, "out"),
        (Program::Requests, "line"),
        (Program::Inside, "requests"),
        (Program::Trouble, "reset_by_client"),
    ] {
        let (mut trace, facts) = recorded(program);
        for value in trace.maps.get_mut(map).unwrap().values_mut() {
            *value += 1;
        }
        assert!(!judged(program, &trace, &facts).held, "{}: @{map}", program.name());
    }
}

#[test]
fn a_map_that_is_missing_breaks_the_claim() {
    for program in Program::ALL {
        let (_, facts) = recorded(program);
        let report = judged(program, &Trace::default(), &facts);
        assert!(!report.held, "{}: {:#?}", program.name(), report.claims);
    }
}

#[test]
fn a_second_witness_who_disagrees_breaks_the_claim() {
    let (trace, mut facts) = recorded(Program::Accept);
    facts.counted.downstream_connections += 1;
    assert!(!judged(Program::Accept, &trace, &facts).held);
    // The kernel's time lies between Envoy's and the client's, and part of it between the backend's and Envoy's.
    for change in [
        |facts: &mut Facts| facts.sent.micros /= 2,
        |facts: &mut Facts| facts.sent.backend_micros *= 2,
        |facts: &mut Facts| facts.timed.as_mut().unwrap().requests_least_ms *= 2,
        |facts: &mut Facts| facts.timed.as_mut().unwrap().calls_most_ms /= 2,
        |facts: &mut Facts| facts.timed.as_mut().unwrap().requests -= 1,
    ] {
        let (trace, mut facts) = recorded(Program::Inside);
        change(&mut facts);
        assert!(!judged(Program::Inside, &trace, &facts).held, "{facts:?}");
    }
    let (trace, mut facts) = recorded(Program::Loop);
    let turns: i64 = facts.workers.keys().map(|tid| trace.of("turns", &tid.to_string())).sum();
    let turns = u64::try_from(turns).unwrap();
    for wrong in [(0, turns - 1), (turns + 1, u64::MAX)] {
        facts.turns = Some(wrong);
        assert!(!judged(Program::Loop, &trace, &facts).held, "{facts:?}");
    }
    let (trace, mut facts) = recorded(Program::Sched);
    for (slept, _) in facts.switches.values_mut() {
        *slept += 1000;
    }
    assert!(!judged(Program::Sched, &trace, &facts).held);
    let (mut trace, facts) = recorded(Program::Sched);
    for slept in trace.maps.get_mut("slept").unwrap().values_mut() {
        *slept += 1000;
    }
    assert!(!judged(Program::Sched, &trace, &facts).held);
}

#[test]
fn envoys_statistics_are_summed_whatever_its_parts_are_called_and_nothing_is_counted_twice() {
    let stats = [
        ("cluster.my.back.end.upstream_cx_total", 65),
        ("cluster.other.upstream_cx_total", 1),
        ("cluster.my.back.end.upstream_cx_rx_bytes_total", 700),
        ("http.admin.downstream_cx_total", 26),
        ("http.in.front.downstream_cx_total", 166),
        ("http.in.front.downstream_rq_total", 649),
        ("http.in.front.user_agent.ios.downstream_cx_total", 9),
        ("listener.127.0.0.1_21800.downstream_cx_total", 166),
        ("listener.127.0.0.1_21800.worker_0.downstream_cx_total", 84),
        ("listener.administration.worker_1.downstream_cx_total", 82),
        ("listener.admin.main_thread.downstream_cx_total", 26),
    ];
    let counted = witness::count(&stats.map(|(name, value)| (name.to_owned(), value)).into());
    let expected = Counted {
        downstream_connections: 166,
        downstream_requests: 649,
        upstream_connections: 66,
        upstream_in: 700,
        by_worker: [(0, 84), (1, 82)].into(),
        ..Counted::default()
    };
    assert_eq!(counted, expected);
}

#[test]
fn lost_events_leave_the_question_open() {
    let (mut trace, facts) = recorded(Program::Accept);
    trace.lost = 7;
    let report = judged(Program::Accept, &trace, &facts);
    let [claim] = report.claims.as_slice() else { panic!("{:?}", report.claims) };
    assert!(matches!(&claim.verdict, Verdict::NotChecked(why) if why.contains("lost 7 events")), "{claim:?}");
}

#[test]
fn bpftraces_lines_become_values() {
    let lines = r#"
{"type": "attached_probes", "data": {"probes": 3}}

{"type": "printf", "data": "READY\n"}
{"type": "map", "data": {"@k": {"31080": 5, "1,2": 7}}}
{"type": "map", "data": {"@n": 9}}
{"type": "hist", "data": {"@h": [{"max": -1, "count": 1}, {"min": 4, "max": 7, "count": 2}]}}
{"type": "lost_events", "data": {"events": 4}}
{"type": "something_new", "data": [1, 2]}
"#;
    let trace = Trace::parse(lines.lines()).unwrap();
    assert_eq!((trace.probes, trace.lost, trace.number("n"), trace.of("k", "1,2")), (3, 4, 9, 7));
    assert_eq!(trace.of("k", "nobody"), 0);
    assert_eq!(trace.counted("h"), 3);
    assert_eq!(trace.histograms["h"][0], Bar { min: None, max: Some(-1), count: 1 });
    assert!(is_ready(r#"{"type": "printf", "data": "READY\n"}"#));
    assert!(!is_ready(r#"{"type": "printf", "data": "READY? no\n"}"#) && !is_ready("READY"));
}

#[test]
fn a_line_that_is_not_understood_is_quoted() {
    for line in
        ["stdin:1:1-2: ERROR", "{}", r#"{"type": "map", "data": 5}"#, r#"{"type":"map","data":{"@a":"x"}}"#]
    {
        let refused = Trace::parse([line]).unwrap_err().to_string();
        assert!(refused.contains(line), "{refused}");
    }
    assert!(Recording::parse("").is_err() && Recording::parse("{\"type\":\"map\"}\n").is_err());
}

#[test]
fn a_histogram_shows_its_bars_and_nothing_around_them() {
    let bar = |min, count| Bar { min: Some(min), max: Some(2 * min - 1), count };
    let drawn = draw::histogram(&[bar(1, 0), bar(512, 10), bar(1024, 40), bar(2048, 0)], "us");
    assert_eq!(drawn.len(), 2);
    assert!(drawn[0].contains("512..1k us") && drawn[0].ends_with(&"#".repeat(10)), "{drawn:?}");
    assert!(drawn[1].ends_with(&format!("40 {}", "#".repeat(40))), "{drawn:?}");
    assert!(draw::histogram(&[], "us").is_empty());
}

proptest! {
    #[test]
    fn no_line_makes_the_parser_panic(line in ".{0,200}") {
        _ = Trace::parse([line.as_str()]);
        _ = Recording::parse(&line);
    }

    #[test]
    fn no_object_makes_the_parser_panic(kind in "map|hist|lost_events|attached_probes", data in "[\\[\\]{}:,\"@a0-9-]{0,40}") {
        _ = Trace::parse([format!("{{\"type\": \"{kind}\", \"data\": {data}}}").as_str()]);
    }
}
