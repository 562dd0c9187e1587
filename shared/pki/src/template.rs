//! What is to stand in a certificate before it is signed.

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose, SanType};

use super::{Names, PkiError, Usage, Validity};

/// An authority that may have `max_path_length` levels of authorities below it.
pub(super) fn authority(
    name: &str,
    validity: Validity,
    max_path_length: u8,
) -> Result<CertificateParams, PkiError> {
    let length = name.chars().count();
    if !(1..=64).contains(&length) || name.chars().any(char::is_control) {
        return Err(PkiError::AuthorityName);
    }
    let mut params = params(validity)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(max_path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// A server, a client, or both.
pub(super) fn leaf(names: &Names, usage: Usage, validity: Validity) -> Result<CertificateParams, PkiError> {
    let mut params = params(validity)?;
    // "Explicit": states that it is no authority, and has rcgen add the subject key identifier.
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![Usage::KEY_USAGE];
    params.extended_key_usages = usage.purposes();
    params.subject_alt_names = alternative_names(names)?;
    // For people only: no client of today looks for a host in the subject.
    if let Some(name) = names.dns_names().iter().find(|name| name.len() <= 64) {
        params.distinguished_name.push(DnType::CommonName, name.as_str());
    }
    Ok(params)
}

/// What all have in common.
fn params(validity: Validity) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "service mesh examples");
    (params.not_before, params.not_after) = validity.dates()?;
    params.use_authority_key_identifier_extension = true;
    // 128 random bits: unique without a register, and nothing that an attacker could have a signature
    // prepared for.
    let mut serial = [0; 16];
    let random = crate::provider::provider().secure_random.fill(&mut serial);
    random.map_err(|_| PkiError::Make { why: "the system has no randomness".to_owned() })?;
    params.serial_number = Some(serial.to_vec().into());
    Ok(params)
}

fn alternative_names(names: &Names) -> Result<Vec<SanType>, PkiError> {
    let mut all = Vec::new();
    for name in names.dns_names() {
        all.push(SanType::DnsName(name.as_str().try_into().map_err(PkiError::generation_error)?));
    }
    all.extend(names.ip_addresses().iter().copied().map(SanType::IpAddress));
    if let Some(id) = names.spiffe_id() {
        all.push(SanType::URI(id.as_str().try_into().map_err(PkiError::generation_error)?));
    }
    Ok(all)
}
