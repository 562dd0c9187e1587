//! `pki show`: what is in a certificate or a chain.

use std::path::PathBuf;

use comfy_table::{ContentArrangement, Table, presets};
use mesh_pki::Certificate;

use super::failure::Failure;
use super::trust::{NotReadable, read};

/// The file to show.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  pki show certs/chain.pem")]
pub(crate) struct Args {
    /// A file with certificates, as PEM
    file: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<String, Failure> {
    let bad = |error| Failure::unusable(NotReadable::pem(&args.file, &error));
    let certificates = Certificate::read_pem(read(&args.file)?).map_err(bad)?;
    Ok(certificates.iter().map(|certificate| format!("{}\n", table(certificate))).collect())
}

fn table(certificate: &Certificate) -> Table {
    let stated =
        |list: Option<&[String]>| list.map_or_else(|| "not stated".to_owned(), |list| list.join(", "));
    let kind = match (certificate.is_authority(), certificate.path_length()) {
        (false, _) => "leaf".to_owned(),
        (true, None) => "authority, any number of authorities below it".to_owned(),
        (true, Some(0)) => "authority, issues leaves only (path length 0)".to_owned(),
        (true, Some(n)) => format!("authority, at most {n} below it (path length {n})"),
    };
    let mut names = vec![certificate.names().to_string()];
    names.extend(certificate.other_names().iter().cloned());
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(110);
    table.add_row(["subject".to_owned(), certificate.subject().to_owned()]);
    table.add_row(["issuer".to_owned(), certificate.issuer().to_owned()]);
    table.add_row(["kind".to_owned(), kind]);
    table.add_row(["names".to_owned(), names.join(", ")]);
    table.add_row(["for".to_owned(), stated(certificate.purposes())]);
    table.add_row(["key usage".to_owned(), stated(certificate.key_usages())]);
    table.add_row(["valid".to_owned(), certificate.validity().to_string()]);
    table.add_row(["serial".to_owned(), certificate.serial().to_string()]);
    table.add_row(["key".to_owned(), certificate.key().to_owned()]);
    table
}
