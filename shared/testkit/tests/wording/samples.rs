//! Bad wording, which the guard must report, and good wording, which it must not.

use crate::budget::Hits;
use crate::{examine, report};

#[test]
fn a_hit_is_reported_with_its_line_and_replacement() {
    let file = ("a.md".to_owned(), "Envoy retries.\nNobody is told.\n".to_owned());
    let findings = examine([file]);
    assert_eq!(findings.counts(), Hits::from([("a.md".to_owned(), 1)]));
    let shown = report(&findings, &Hits::new());
    assert!(shown.contains("a.md:2: \"is told\": receives"), "{shown}");
    assert_eq!(report(&findings, &findings.counts()), "");
    let stale = report(&findings, &Hits::from([("a.md".to_owned(), 2)]));
    assert!(stale.contains("lower it with UPDATE_WORDING=1"), "{stale}");
}

#[test]
fn an_exception_is_not_a_hit() {
    let hits = |text: &str| examine([("a.md".to_owned(), text.to_owned())]).counts().values().sum::<usize>();
    assert_eq!(hits("The service is well. There is no token: it is no token."), 3);
    assert_eq!(hits("The crate is well kept. It is no longer used. Who has the key?"), 0);
    assert_eq!(hits("Who has no role is denied."), 1);
    assert_eq!(hits("The second try hangs on a sick one. Envoy retries."), 3);
}

#[test]
fn each_rule_is_a_pattern_with_a_replacement() {
    let rules = crate::rules::rules();
    assert!(rules.len() > 20, "{}", rules.len());
    assert!(rules.iter().all(|rule| rule.replacement.len() > 3));
}
