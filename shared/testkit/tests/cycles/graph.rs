//! Which file uses something that another file of the same library or program defines.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::modules::{Import, Module};

/// From a file to the files that define what it uses, with the paths by which it does.
pub(crate) type Arrows = BTreeMap<(PathBuf, PathBuf), BTreeSet<String>>;

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Module(usize),
    /// Something that this module defines.
    Item(usize),
}

/// Returns the arrows between the files of one target.
///
/// Naming a module is not a use. Neither is `pub use` of what a descendant defines, until the code beside it uses that, too.
pub(crate) fn arrows(modules: &[Module]) -> Arrows {
    let mut arrows = Arrows::new();
    for from in 0..modules.len() {
        let mut add = |to: usize, path: &[String]| {
            let (from, to) = (&modules[from].file, &modules[to].file);
            if from != to {
                arrows.entry((from.clone(), to.clone())).or_default().insert(path.join("::"));
            }
        };
        for import in &modules[from].imports {
            let to = match resolve(modules, from, &import.path, &mut Vec::new()) {
                Some(Found::Item(to)) => to,
                Some(Found::Module(to)) if import.name.is_none() => to,
                _ => continue,
            };
            if !(import.reexported && is_below(modules, to, from)) {
                add(to, &import.path);
            }
        }
        for path in &modules[from].paths {
            if let Some(Found::Item(to)) = resolve(modules, from, path, &mut Vec::new()) {
                add(to, path);
            }
        }
    }
    arrows
}

fn is_below(modules: &[Module], mut module: usize, ancestor: usize) -> bool {
    while let Some(parent) = modules[module].parent {
        if parent == ancestor {
            return true;
        }
        module = parent;
    }
    false
}

/// Lookups that are under way, so that imports in a circle end.
type Pending = Vec<(usize, String)>;

fn resolve(modules: &[Module], at: usize, path: &[String], pending: &mut Pending) -> Option<Found> {
    let (first, rest) = path.split_first()?;
    let mut found = match first.as_str() {
        "crate" => Found::Module(0),
        "self" => Found::Module(at),
        "super" => Found::Module(modules[at].parent?),
        name => lookup(modules, at, name, pending)?,
    };
    for segment in rest {
        let Found::Module(module) = found else { break };
        found = match segment.as_str() {
            "super" => Found::Module(modules[module].parent?),
            "self" => found,
            name => match lookup(modules, module, name, pending) {
                Some(found) => found,
                // It is imported from another crate.
                None if imports(&modules[module], name).next().is_some() => return None,
                // A macro defines it.
                None => Found::Item(module),
            },
        };
    }
    Some(found)
}

/// Finds a name in a module: what it defines, then what it imports.
fn lookup(modules: &[Module], at: usize, name: &str, pending: &mut Pending) -> Option<Found> {
    let module = &modules[at];
    if let Some(child) = module.children.get(name) {
        return Some(Found::Module(*child));
    }
    if module.items.contains(name) {
        return Some(Found::Item(at));
    }
    let this = (at, name.to_owned());
    if pending.contains(&this) {
        return None;
    }
    pending.push(this);
    let found =
        imports(module, name).find_map(|import| resolve(modules, at, &import.path, pending)).or_else(|| {
            let mut globs = module.imports.iter().filter(|import| import.name.is_none());
            globs.find_map(|import| match resolve(modules, at, &import.path, pending) {
                Some(Found::Module(module)) => lookup(modules, module, name, pending),
                _ => None,
            })
        });
    pending.pop();
    found
}

fn imports<'a>(module: &'a Module, name: &'a str) -> impl Iterator<Item = &'a Import> {
    module.imports.iter().filter(move |import| import.name.as_deref() == Some(name))
}

/// Returns the sets of files in which every file reaches every other one.
pub(crate) fn cycles(arrows: &Arrows) -> BTreeSet<BTreeSet<&Path>> {
    let files = arrows.keys().map(|(from, _)| from.as_path());
    let reached: BTreeMap<&Path, BTreeSet<&Path>> =
        files.map(|file| (file, reachable(arrows, file))).collect();
    let mut cycles = BTreeSet::new();
    for (file, others) in &reached {
        let back = |other: &&Path| reached.get(other).is_some_and(|reached| reached.contains(file));
        let cycle: BTreeSet<&Path> = others.iter().copied().filter(back).collect();
        cycles.extend((!cycle.is_empty()).then_some(cycle));
    }
    cycles
}

fn reachable<'a>(arrows: &'a Arrows, file: &'a Path) -> BTreeSet<&'a Path> {
    let mut reached = BTreeSet::new();
    let mut open = vec![file];
    while let Some(file) = open.pop() {
        let next = arrows.keys().filter(|(from, _)| from == file).map(|(_, to)| to.as_path());
        open.extend(next.filter(|to| reached.insert(*to)));
    }
    reached
}
