//! What Seawall reads from a certificate. Whether it is to be trusted has been decided before.

use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use super::identity::{Identity, URI_SCHEME};
use crate::error::{Error, Result};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// None when it names no role, or not clearly one.
    pub identity: Option<Identity>,
    /// For people only.
    pub subject: String,
    pub expires_unix_s: i64,
}

impl Certificate {
    pub fn read(der: &CertificateDer<'_>) -> Result<Self> {
        let unreadable =
            |why: &dyn std::fmt::Display| Error::invalid(format!("unreadable certificate: {why}"));
        let (_, parsed) = X509Certificate::from_der(der).map_err(|e| unreadable(&e))?;
        let names = parsed
            .subject_alternative_name()
            .map_err(|e| unreadable(&e))?;
        let uris = names.iter().flat_map(|names| &names.value.general_names);
        let mut roles = uris.filter_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(URI_SCHEME),
            _ => None,
        });
        // Two roles would be a choice that nobody has made.
        let identity = match (roles.next(), roles.next()) {
            (Some(only), None) => only.parse().ok(),
            _ => None,
        };
        Ok(Self {
            identity,
            subject: parsed.subject().to_string(),
            expires_unix_s: parsed.validity().not_after.timestamp(),
        })
    }

    pub fn expires_in_s(&self, now_unix_ms: u64) -> i64 {
        let now_unix_s = i64::try_from(now_unix_ms / 1000).unwrap_or(i64::MAX);
        self.expires_unix_s.saturating_sub(now_unix_s)
    }

    /// Who it is, in a few words.
    pub fn who(&self) -> String {
        match &self.identity {
            Some(identity) => identity.to_string(),
            None if self.subject.is_empty() => "a certificate without a role".to_owned(),
            None => format!("a certificate without a role ({})", self.subject),
        }
    }
}
