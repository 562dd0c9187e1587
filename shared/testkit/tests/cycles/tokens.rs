//! What syn leaves to its user: paths in the arguments of macros, the attributes and the name of an item.

use proc_macro2::{TokenStream, TokenTree};
use syn::{Attribute, ImplItem, Item};

/// Returns the paths in the arguments of a macro, for example `a::b` in `format!("{}", a::b)`.
pub(crate) fn paths(tokens: &TokenStream) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut path = Vec::<String>::new();
    let mut colons = 0;
    for token in tokens.clone() {
        match token {
            TokenTree::Ident(word) => {
                if colons != 2 {
                    found.extend((!path.is_empty()).then(|| std::mem::take(&mut path)));
                }
                path.push(word.to_string());
                colons = 0;
            }
            TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
            other => {
                found.extend((!path.is_empty()).then(|| std::mem::take(&mut path)));
                colons = 0;
                if let TokenTree::Group(group) = other {
                    found.extend(paths(&group.stream()));
                }
            }
        }
    }
    found.extend((!path.is_empty()).then_some(path));
    found
}

/// Returns whether code with these attributes is compiled for tests only.
pub(crate) fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let condition = match &attribute.meta {
            syn::Meta::List(list) if list.path.is_ident("cfg") => list.tokens.to_string().replace(' ', ""),
            _ => return false,
        };
        let all = condition.strip_prefix("all(").and_then(|rest| rest.strip_suffix(')'));
        condition == "test" || all.is_some_and(|all| all.split(',').any(|one| one == "test"))
    })
}

/// Returns the name that an item defines in its module.
pub(crate) fn defined(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

pub(crate) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

pub(crate) fn impl_attributes(item: &ImplItem) -> &[Attribute] {
    match item {
        ImplItem::Const(item) => &item.attrs,
        ImplItem::Fn(item) => &item.attrs,
        ImplItem::Macro(item) => &item.attrs,
        ImplItem::Type(item) => &item.attrs,
        _ => &[],
    }
}

#[test]
fn paths_in_the_arguments_of_a_macro_are_found() {
    let tokens: TokenStream = r#""{}", super::a::f(crate::B { c: d }), $crate::e"#.parse().expect("tokens");
    let found: Vec<String> = paths(&tokens).iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["super::a::f", "crate::B", "c", "d", "crate::e"]);
}
