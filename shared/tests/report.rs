//! What a report counts, and its JSON form. How it is printed is tested in `testkit/tests/printed.rs`.

use shared::report::{Claim, Output, Recorder, Report, Step, Verdict};

fn story() -> Recorder {
    Recorder::new("demo0", "", Output::Silent)
}

#[test]
fn a_report_holds_unless_a_claim_is_broken() {
    let mut held = story();
    held.claim("a", "A holds", 1, 1, true);
    held.not_checked("b", "B holds", 1, "no root");
    assert!(held.has_claim("a") && !held.has_claim("c"));
    let held = held.finish();
    assert!(held.held && held.broken().count() == 0);
    assert_eq!(held.claim("b").unwrap().verdict, Verdict::NotChecked("no root".to_owned()));

    let mut broken = story();
    broken.claim("a", "A holds", 1, 1, true);
    broken.claim("b", "B holds", 1, 2, false);
    let broken = broken.finish();
    assert!(!broken.held);
    assert_eq!(broken.broken().map(|claim| claim.id.as_str()).collect::<Vec<_>>(), ["b"]);
    assert!(story().finish().held, "a run without claims breaks none");
}

#[test]
fn a_run_that_was_cut_short_does_not_hold_even_if_every_claim_does() {
    let mut story = story();
    story.step("The first one");
    story.claim("a", "A holds", 1, 1, true);
    let report = story.abort("out of files");
    assert!(!report.held);
    assert_eq!(report.error.as_deref(), Some("out of files"));
    assert_eq!((report.steps.len(), report.claims.len()), (1, 1));
}

#[test]
fn json_has_exactly_the_documented_shape() {
    let claim = |id: &str, seen: &str, verdict| Claim {
        id: id.to_owned(),
        claim: format!("The claim {id}"),
        expected: "1".to_owned(),
        seen: seen.to_owned(),
        verdict,
    };
    let mut report = Report {
        demo: "demo0".to_owned(),
        held: false,
        versions: [("envoy".to_owned(), "1.40.0".to_owned())].into(),
        steps: vec![Step { step: "First".to_owned(), seconds: 0.25 }],
        claims: vec![
            claim("a", "1", Verdict::Held),
            claim("b", "2", Verdict::Broken),
            claim("c", "", Verdict::NotChecked("no root".to_owned())),
        ],
        error: None,
    };
    let beginning = r#"{"demo":"demo0","held":false,"versions":{"envoy":"1.40.0"},"steps":[{"step":"First","seconds":0.25}],"claims":["#;
    let claims = [
        r#"{"id":"a","claim":"The claim a","expected":"1","seen":"1","verdict":"held"}"#,
        r#"{"id":"b","claim":"The claim b","expected":"1","seen":"2","verdict":"broken"}"#,
        r#"{"id":"c","claim":"The claim c","expected":"1","seen":"","verdict":"not checked","why":"no root"}"#,
    ];
    let expected = format!("{beginning}{}]}}", claims.join(","));
    assert_eq!(serde_json::to_string(&report).unwrap(), expected);
    report.error = Some("out of files".to_owned());
    let expected = expected.replace("]}", "],\"error\":\"out of files\"}");
    assert_eq!(serde_json::to_string(&report).unwrap(), expected);
}
