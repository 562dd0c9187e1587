//! SPDX licence expressions, as far as packages use them: `AND`, `OR`, `WITH`, parentheses, and `/` for `OR`.

/// Returns whether the expression can be met with these licences only.
///
/// An exception is part of its licence: `Apache-2.0 WITH LLVM-exception` must be in the list as a whole.
///
/// # Errors
/// The expression is not well formed.
pub(crate) fn is_met(expression: &str, allowed: &[&str]) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let met = any(&mut words, allowed);
    match (met, words.next()) {
        (Ok(met), None) => Ok(met),
        (Ok(_), Some(word)) => Err(format!("unexpected {word:?} in licence {expression:?}")),
        (Err(why), _) => Err(format!("{why} in licence {expression:?}")),
    }
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

/// `all OR all ...`: `AND` binds tighter.
fn any(words: &mut Words<'_>, allowed: &[&str]) -> Result<bool, String> {
    let mut met = all(words, allowed)?;
    while words.next_if_eq(&"OR").is_some() {
        met |= all(words, allowed)?;
    }
    Ok(met)
}

fn all(words: &mut Words<'_>, allowed: &[&str]) -> Result<bool, String> {
    let mut met = one(words, allowed)?;
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed)?;
    }
    Ok(met)
}

fn one(words: &mut Words<'_>, allowed: &[&str]) -> Result<bool, String> {
    match words.next() {
        Some("(") => {
            let met = any(words, allowed)?;
            words.next_if_eq(&")").map(|_| met).ok_or_else(|| "missing ')'".to_owned())
        }
        None | Some(")" | "AND" | "OR" | "WITH") => Err("missing name".to_owned()),
        Some(name) if words.next_if_eq(&"WITH").is_some() => {
            let exception = words.next().ok_or("missing exception")?;
            Ok(allowed.contains(&format!("{name} WITH {exception}").as_str()))
        }
        Some(name) => Ok(allowed.contains(&name)),
    }
}

#[test]
fn one_alternative_is_enough_and_every_part_of_it_is_needed() {
    let met = |expression| is_met(expression, &["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"]);
    assert_eq!(met("MIT"), Ok(true));
    assert_eq!(met("GPL-3.0-only"), Ok(false));
    assert_eq!(met("GPL-3.0-only OR MIT"), Ok(true));
    assert_eq!(met("GPL-3.0-only/MIT"), Ok(true));
    assert_eq!(met("GPL-3.0-only AND MIT"), Ok(false));
    assert_eq!(met("MIT OR GPL-3.0-only AND MPL-2.0"), Ok(true));
    assert_eq!(met("(MIT OR GPL-3.0-only) AND MPL-2.0"), Ok(false));
    assert_eq!(met("(MIT OR GPL-3.0-only) AND ISC"), Ok(true));
    assert_eq!(met("Apache-2.0 WITH LLVM-exception"), Ok(true));
    assert_eq!(met("Apache-2.0"), Ok(false));
    assert_eq!(met("MIT WITH LLVM-exception"), Ok(false));
}

#[test]
fn an_expression_that_is_not_well_formed_is_an_error() {
    for expression in ["", "MIT OR", "AND MIT", "(MIT", "MIT)", "MIT ISC", "MIT WITH"] {
        assert!(is_met(expression, &["MIT", "ISC"]).is_err(), "{expression}");
    }
}
