//! Certificates as a stranger makes them, past our own types. Does not know what is wrong with which.

use mesh_pki::{Roots, Untrusted, verify};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};

use super::{DAY, now, server};

/// Certificates that our own types refuse to make.
pub(crate) struct TestCertificate {
    params: CertificateParams,
    key: KeyPair,
    pub(crate) pem: String,
}

impl TestCertificate {
    /// `change` says what is wrong with it; without an issuer it vouches for itself.
    pub(crate) fn new(
        name: &str,
        issuer: Option<&TestCertificate>,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = (now() - DAY).into();
        params.not_after = (now() + DAY).into();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let made = match issuer {
            None => params.self_signed(&key).unwrap(),
            Some(by) => params.signed_by(&key, &Issuer::from_params(&by.params, &by.key)).unwrap(),
        };
        Self { pem: made.pem(), params, key }
    }

    pub(crate) fn root() -> Self {
        Self::new("test root", None, authority(None))
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::from_pem(&self.pem).unwrap()
    }

    /// Verifies `chain` against this root, for the server web.example.
    pub(crate) fn rejects(&self, chain: &[&TestCertificate]) -> Untrusted {
        let chain: String = chain.iter().map(|one| one.pem.as_str()).collect();
        verify(chain, &self.roots(), now(), &server()).unwrap_err()
    }
}

pub(crate) fn authority(path_length: Option<u8>) -> impl FnOnce(&mut CertificateParams) {
    move |params| {
        params.is_ca =
            IsCa::Ca(path_length.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
    }
}

pub(crate) fn serves_web(params: &mut CertificateParams) {
    params.subject_alt_names = vec![SanType::DnsName("web.example".try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
}
