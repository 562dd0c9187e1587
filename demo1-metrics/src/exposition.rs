//! Prometheus' text format, read: a page of samples in, sums out. Pure.
//!
//! For a machine without Prometheus, and for counting series. It reads what this demo's pages have; a line that is no
//! sample is passed over, as nothing that a page says may stop the demo.
//! Source: "Exposition formats" in Prometheus' documentation.

use std::collections::BTreeMap;

/// One sample of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The metric's name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// All samples of a page.
pub fn samples(page: &str) -> Vec<Sample> {
    page.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

/// The sum of all samples of this name whose labels are among others these.
pub fn sum(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let wanted = |sample: &&Sample| {
        sample.name == name
            && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|is| is == value))
    };
    samples.iter().filter(wanted).map(|sample| sample.value).fold(0.0, |sum, value| sum + value)
}

fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    let mut rest = rest;
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches([',', ' ']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(label.to_owned(), value);
            rest = after;
        }
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The text up to the closing quote, with its escapes resolved, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match letters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: &str = "# HELP x A thing.\n# TYPE x counter\nx{a=\"1\",b=\"q\\\"},{\\n\"} 4\nx{a=\"2\"} 3e2 1700000000\n\
                        y 1\nbroken{ 7\nalso broken\nz{} +Inf\n";

    #[test]
    fn samples_are_parsed_with_labels_and_other_lines_are_ignored() {
        let samples = samples(PAGE);
        assert_eq!(samples.len(), 4, "{samples:?}");
        assert_eq!(samples[0].labels["b"], "q\"},{\n");
        assert_eq!(sum(&samples, "x", &[]), 304.0);
        assert_eq!(sum(&samples, "x", &[("a", "1")]), 4.0);
        assert_eq!(sum(&samples, "x", &[("a", "3")]), 0.0);
        assert!(samples[3].value.is_infinite());
    }

    proptest! {
        #[test]
        fn no_input_makes_the_parser_panic(page in any::<String>(), odd in "[a-z{}\\\\\",= \n#]{0,80}") {
            samples(&page);
            samples(&odd);
        }

        #[test]
        fn formatted_samples_parse_back(
            name in "[a-z_:][a-z0-9_:]{0,12}",
            labels in proptest::collection::btree_map("[a-z_][a-z0-9_]{0,8}", any::<String>(), 0..4),
            value in -1e12..1e12,
        ) {
            let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let written: Vec<String> =
                labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
            let page = format!("# HELP {name} x\n{name}{{{}}} {value}\n", written.join(","));
            // A carriage return and other ends of lines are letters to Prometheus, and to `lines` one of them is not.
            prop_assume!(!page.contains('\r'));
            prop_assert_eq!(samples(&page), vec![Sample { name, labels, value }]);
        }
    }
}
