//! Describes Envoy's API, so that resources can be read from YAML and JSON: the descriptors of the messages in
//! envoy-types, from the `.proto` files that this crate ships.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumOptions, FileDescriptorProto, FileDescriptorSet,
    UninterpretedOption,
};
use protox::file::{ChainFileResolver, FileResolver, GoogleFileResolver, IncludeFileResolver};

type Failure = Box<dyn std::error::Error>;

/// Where the `.proto` files stand that others import.
const ROOTS: [&str; 7] = [
    "cel-spec/proto",
    "client_model",
    "data-plane-api",
    "googleapis",
    "opentelemetry-proto",
    "protoc-gen-validate",
    "xds",
];

/// What a resource may hold: the types that are served, and every extension that they may name.
const WANTED: [&str; 6] = [
    "envoy/config/cluster/v3",
    "envoy/config/endpoint/v3",
    "envoy/config/listener/v3",
    "envoy/config/route/v3",
    "envoy/config/trace/v3",
    "envoy/extensions",
];

fn main() -> Result<(), Failure> {
    println!("cargo:rerun-if-changed=build.rs");
    let proto = sources()?;
    let mut resolver = ChainFileResolver::new();
    resolver.add(GoogleFileResolver::new());
    for root in ROOTS {
        resolver.add(IncludeFileResolver::new(proto.join(root)));
    }
    let mut described = Described::default();
    for folder in WANTED {
        let api = proto.join("data-plane-api");
        for name in files(&api.join(folder), &api)? {
            described.load(&name, &resolver)?;
        }
    }
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("envoy.bin"), described.resolved().encode_to_vec())?;
    Ok(())
}

/// Files, each after those that it imports.
#[derive(Default)]
struct Described {
    loaded: HashSet<String>,
    files: Vec<FileDescriptorProto>,
}

impl Described {
    fn load(&mut self, name: &str, resolver: &impl FileResolver) -> Result<(), Failure> {
        if !self.loaded.insert(name.to_owned()) {
            return Ok(());
        }
        let file = resolver.open_file(name)?.file_descriptor_proto().clone();
        for import in &file.dependency {
            self.load(import, resolver)?;
        }
        self.files.push(file);
        Ok(())
    }

    /// The files with whole names.
    ///
    /// protox could do that too, but for it a package that shares the first word of a name hides what was meant:
    /// `common.aws.v3.X` would be looked for in `envoy.extensions.filters.common` alone. Envoy has many such names.
    fn resolved(mut self) -> FileDescriptorSet {
        let mut known = HashSet::new();
        for file in &self.files {
            names(file.package(), &file.message_type, &mut known);
            known.extend(file.enum_type.iter().map(|one| format!("{}.{}", file.package(), one.name())));
        }
        for file in &mut self.files {
            let package = file.package().to_owned();
            // Options are for compilers, validators and readers; none of these is here.
            file.options = None;
            file.extension.clear();
            file.service.clear();
            file.enum_type.iter_mut().for_each(plain);
            for message in &mut file.message_type {
                let scope = format!("{package}.{}", message.name());
                resolve(message, &scope, &known);
            }
        }
        FileDescriptorSet { file: self.files }
    }
}

fn names(scope: &str, messages: &[DescriptorProto], known: &mut HashSet<String>) {
    for message in messages {
        let name = format!("{scope}.{}", message.name());
        known.extend(message.enum_type.iter().map(|one| format!("{name}.{}", one.name())));
        names(&name, &message.nested_type, known);
        known.insert(name);
    }
}

fn resolve(message: &mut DescriptorProto, scope: &str, known: &HashSet<String>) {
    if let Some(options) = &mut message.options {
        options.uninterpreted_option.clear();
    }
    message.extension.clear();
    for field in &mut message.field {
        field.options = None;
        let Some(name) = field.type_name.as_deref().filter(|name| !name.starts_with('.')) else { continue };
        let scopes = std::iter::successors(Some(scope), |scope| Some(scope.rsplit_once('.')?.0));
        let mut found = scopes.map(|scope| format!("{scope}.{name}")).filter(|name| known.contains(name));
        let whole = found.next().unwrap_or_else(|| name.to_owned());
        field.type_name = Some(format!(".{whole}"));
    }
    for one in &mut message.oneof_decl {
        one.options = None;
    }
    message.enum_type.iter_mut().for_each(plain);
    for nested in &mut message.nested_type {
        let scope = format!("{scope}.{}", nested.name());
        resolve(nested, &scope, known);
    }
}

/// An enum without options, but for the one that says that two names may share a number.
fn plain(one: &mut EnumDescriptorProto) {
    let named = |option: &UninterpretedOption| option.name.iter().any(|part| part.name_part == "allow_alias");
    let alias = one.options.take().filter(|options| options.uninterpreted_option.iter().any(named));
    one.options = alias.map(|_| EnumOptions { allow_alias: Some(true), ..EnumOptions::default() });
    one.value.iter_mut().for_each(|value| value.options = None);
}

/// The folder of envoy-types' `.proto` files, wherever cargo has put it.
fn sources() -> Result<PathBuf, Failure> {
    // Cargo looks at more packages than it builds with, those for tests too, and may have to fetch them.
    let mut output = metadata(&["--offline"])?;
    if !output.status.success() {
        output = metadata(&[])?;
    }
    if !output.status.success() {
        return Err(format!("{}try: cargo fetch --locked", String::from_utf8_lossy(&output.stderr)).into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().ok_or("no packages")?;
    let package = packages.iter().find(|package| package["name"] == "envoy-types").ok_or("no envoy-types")?;
    let manifest = package["manifest_path"].as_str().ok_or("no path")?;
    Ok(Path::new(manifest).parent().ok_or("no folder")?.join("proto"))
}

fn metadata(how: &[&str]) -> Result<Output, Failure> {
    // For this target only: the packages of others need not be on this machine.
    let target = std::env::var("TARGET")?;
    let mut command = Command::new(std::env::var("CARGO")?);
    command.args(["metadata", "--format-version=1", "--locked", "--filter-platform", &target]);
    Ok(command.args(how).current_dir(std::env::var("CARGO_MANIFEST_DIR")?).output()?)
}

/// The `.proto` files in `folder` and below, by their names from `root`.
fn files(folder: &Path, root: &Path) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, root)?);
        } else if path.extension().is_some_and(|ending| ending == "proto") {
            found.push(path.strip_prefix(root)?.to_str().ok_or("not a name")?.to_owned());
        }
    }
    found.sort_unstable();
    Ok(found)
}
