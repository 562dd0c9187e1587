//! How many hits each file may have: `wording-budget.txt`, one `HITS PATH` a line. It only falls.

use std::collections::BTreeMap;

/// Hits by file; files without a hit are absent.
pub(crate) type Hits = BTreeMap<String, usize>;

/// Reads a budget.
pub(crate) fn parse(text: &str) -> Hits {
    let entry = |line: &str| {
        let (hits, path) = line.split_once(' ').unwrap_or_else(|| panic!("no path in {line:?}"));
        (path.to_owned(), hits.parse().unwrap_or_else(|_| panic!("no number in {line:?}")))
    };
    text.lines().map(entry).collect()
}

/// Writes a budget.
pub(crate) fn print(hits: &Hits) -> String {
    hits.iter().map(|(path, hits)| format!("{hits} {path}\n")).collect()
}

/// Returns the files whose hits differ from the budget, with both figures: `(path, hits, budget)`.
pub(crate) fn differences(hits: &Hits, budget: &Hits) -> Vec<(String, usize, usize)> {
    let of = |hits: &Hits, path: &str| hits.get(path).copied().unwrap_or_default();
    let all = hits.iter().chain(budget).map(|(path, _)| path.as_str());
    let paths: std::collections::BTreeSet<&str> = all.collect();
    let compared = paths.into_iter().map(|path| (path.to_owned(), of(hits, path), of(budget, path)));
    compared.filter(|(_, hits, budget)| hits != budget).collect()
}

/// Returns the budget for these hits: lower where a file has fewer.
///
/// A file that is not in the old budget brings its hits with it, since it may have been renamed or split; but only while
/// the total does not rise. Without an old budget, all hits are accepted.
pub(crate) fn lowered(hits: &Hits, old: Option<&Hits>) -> Hits {
    let Some(old) = old else { return hits.clone() };
    let allowed = |(path, hits): (&String, &usize)| {
        let hits = old.get(path).map_or(*hits, |old| *old.min(hits));
        (path.clone(), hits)
    };
    let new: Hits = hits.iter().map(allowed).collect();
    let total = |hits: &Hits| hits.values().sum::<usize>();
    if total(&new) <= total(old) {
        return new;
    }
    new.into_iter().filter(|(path, _)| old.contains_key(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits<const N: usize>(entries: [(&str, usize); N]) -> Hits {
        entries.map(|(path, hits)| (path.to_owned(), hits)).into()
    }

    #[test]
    fn a_budget_reads_as_it_was_written() {
        let budget = hits([("a.md", 3), ("b c.rs", 1)]);
        assert_eq!(print(&budget), "3 a.md\n1 b c.rs\n");
        assert_eq!(parse(&print(&budget)), budget);
    }

    #[test]
    fn more_hits_fewer_hits_and_a_removed_file_differ_from_the_budget() {
        let found =
            differences(&hits([("a", 2), ("b", 1), ("new", 1)]), &hits([("a", 1), ("b", 1), ("gone", 4)]));
        let expected = [("a", 2, 1), ("gone", 0, 4), ("new", 1, 0)];
        assert_eq!(found, expected.map(|(path, hits, budget)| (path.to_owned(), hits, budget)));
    }

    #[test]
    fn a_budget_is_lowered_and_never_raised() {
        let old = hits([("a", 2), ("b", 5), ("gone", 1)]);
        assert_eq!(lowered(&hits([("a", 9), ("b", 4)]), Some(&old)), hits([("a", 2), ("b", 4)]));
        assert_eq!(lowered(&hits([("a", 9)]), None), hits([("a", 9)]));
        assert_eq!(lowered(&hits([("a", 9)]), Some(&Hits::new())), Hits::new());
    }

    #[test]
    fn a_new_file_brings_its_hits_only_while_the_total_does_not_rise() {
        let old = hits([("a", 2), ("gone", 3)]);
        assert_eq!(lowered(&hits([("a", 2), ("new", 3)]), Some(&old)), hits([("a", 2), ("new", 3)]));
        assert_eq!(lowered(&hits([("a", 2), ("new", 4)]), Some(&old)), hits([("a", 2)]));
    }
}
