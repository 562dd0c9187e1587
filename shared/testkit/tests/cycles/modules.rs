//! The module tree of a library or program, read from its source files: what each module defines, imports and uses.
//!
//! Test code does not count. Names that a macro generates are unknown here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Item, UseTree};

use crate::tokens::{self, is_test};

/// One module: a file, or a part of one between `mod x {` and `}`.
#[derive(Debug, Default)]
pub(crate) struct Module {
    pub(crate) file: PathBuf,
    pub(crate) parent: Option<usize>,
    pub(crate) children: BTreeMap<String, usize>,
    /// Names that are defined here.
    pub(crate) items: BTreeSet<String>,
    pub(crate) imports: Vec<Import>,
    /// Every path in the code, for example `["topology", "PORT"]`.
    pub(crate) paths: BTreeSet<Vec<String>>,
}

/// One name of a `use` declaration.
#[derive(Debug)]
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    /// The name that it gets here; `None` for `*`.
    pub(crate) name: Option<String>,
    /// Whether it is `pub use`, or visible in some other module.
    pub(crate) reexported: bool,
}

/// Reads the modules of one target. The first one is the root.
///
/// # Panics
/// A file is missing or does not parse.
pub(crate) fn load(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Vec<Module> {
    let mut modules = vec![Module { file: root.to_owned(), ..Module::default() }];
    let folder = root.parent().unwrap_or(Path::new("")).to_owned();
    load_file(&mut modules, 0, &folder, read);
    modules
}

fn load_file(
    modules: &mut Vec<Module>,
    module: usize,
    folder: &Path,
    read: &dyn Fn(&Path) -> Option<String>,
) {
    let file = modules[module].file.clone();
    let text = read(&file).unwrap_or_else(|| panic!("cannot read {}", file.display()));
    let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut reader = Reader { modules, module, folder: folder.to_owned(), read, depth: 0 };
    reader.visit_file(&parsed);
}

struct Reader<'a> {
    modules: &'a mut Vec<Module>,
    module: usize,
    /// Where the files of child modules are.
    folder: PathBuf,
    read: &'a dyn Fn(&Path) -> Option<String>,
    /// How many functions we are inside of: what they define is not visible outside.
    depth: usize,
}

impl Reader<'_> {
    fn here(&mut self) -> &mut Module {
        &mut self.modules[self.module]
    }

    fn child(&mut self, declared: &syn::ItemMod) {
        let name = declared.ident.to_string();
        let (file, parent) = (self.here().file.clone(), Some(self.module));
        let child = self.modules.len();
        self.here().children.insert(name.clone(), child);
        let folder = self.folder.join(&name);
        self.modules.push(Module { file, parent, ..Module::default() });
        if let Some((_, items)) = &declared.content {
            let outer = (self.module, std::mem::replace(&mut self.folder, folder));
            self.module = child;
            items.iter().for_each(|item| self.visit_item(item));
            (self.module, self.folder) = outer;
            return;
        }
        let flat = self.folder.join(format!("{name}.rs"));
        let file = if (self.read)(&flat).is_some() { flat } else { folder.join("mod.rs") };
        self.modules[child].file = file;
        load_file(self.modules, child, &folder, self.read);
    }

    fn import(&mut self, tree: &UseTree, mut path: Vec<String>, reexported: bool) {
        let (last, name) = match tree {
            UseTree::Path(segment) => {
                path.push(segment.ident.to_string());
                return self.import(&segment.tree, path, reexported);
            }
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.import(tree, path.clone(), reexported));
            }
            UseTree::Name(name) => (Some(name.ident.to_string()), Some(name.ident.to_string())),
            UseTree::Rename(name) => (Some(name.ident.to_string()), Some(name.rename.to_string())),
            UseTree::Glob(_) => (None, None),
        };
        // `use a::b::{self}` imports `a::b` by the name of `b`.
        let itself = last.as_deref() == Some("self") && !path.is_empty();
        let name = if itself && name.as_deref() == Some("self") { path.last().cloned() } else { name };
        path.extend(last.filter(|_| !itself));
        self.here().imports.push(Import { path, name, reexported });
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_test(tokens::attributes(item)) {
            return;
        }
        match item {
            Item::Mod(declared) => return self.child(declared),
            Item::Use(declared) => {
                // `use ::name` can only be another crate.
                if declared.leading_colon.is_none() {
                    let reexported = !matches!(declared.vis, syn::Visibility::Inherited);
                    self.import(&declared.tree, Vec::new(), reexported);
                }
                return;
            }
            _ => {}
        }
        if self.depth == 0
            && let Some(name) = tokens::defined(item)
        {
            self.here().items.insert(name);
        }
        self.depth += 1;
        visit::visit_item(self, item);
        self.depth -= 1;
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        if !is_test(tokens::impl_attributes(item)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.here().paths.insert(segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.here().paths.extend(tokens::paths(&call.tokens));
        visit::visit_macro(self, call);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.here().paths.extend(tokens::paths(&list.tokens));
        }
    }

    /// `pub(in crate::a)` names a module, but uses nothing of it.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}
