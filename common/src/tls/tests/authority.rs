//! An authority for tests, and the files of whoever has a certificate of it.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::tls::{Tls, TlsConfig};

pub const DAY_S: i64 = 24 * 3600;

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

/// What is special about a certificate.
pub struct Wanted<'a> {
    pub role: &'a str,
    pub host: &'a str,
    pub valid_for_s: i64,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    pub fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// The files of somebody of this name, made anew.
    pub fn issue(&self, name: &str, wanted: &Wanted<'_>) -> TlsConfig {
        let mut params = CertificateParams::new(vec![wanted.host.to_owned()]).unwrap();
        if !wanted.role.is_empty() {
            let uri = format!("seawall:{}", wanted.role);
            let uri = SanType::URI(uri.try_into().unwrap());
            params.subject_alt_names.push(uri);
        }
        let now = OffsetDateTime::now_utc();
        params.not_before = now - time::Duration::days(30);
        params.not_after = now + time::Duration::seconds(wanted.valid_for_s);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let config = self.files(name);
        write(config.cert_file.as_deref(), &certificate.pem());
        write(config.key_file.as_deref(), &key.serialize_pem());
        config
    }

    /// Where they lie.
    pub fn files(&self, name: &str) -> TlsConfig {
        let file = |end: &str| Some(self.directory.path().join(format!("{name}.{end}")));
        TlsConfig {
            cert_file: file("crt"),
            key_file: file("key"),
            ca_file: Some(self.file()),
            http_client_auth: false,
        }
    }

    pub fn tls(&self, role: &str) -> Tls {
        let config = self.issue(&role.replace('/', "-"), &Wanted::role(role));
        Tls::load(config).unwrap()
    }
}

impl<'a> Wanted<'a> {
    pub fn role(role: &'a str) -> Self {
        Self {
            role,
            host: "127.0.0.1",
            valid_for_s: 30 * DAY_S,
        }
    }
}

fn write(file: Option<&Path>, text: &str) {
    std::fs::write(file.unwrap(), text).unwrap();
}
