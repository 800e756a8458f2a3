//! Whose certificates are trusted beside those that the system trusts.

use std::path::Path;

use aws_smithy_http_client::tls;
use object_store::{Certificate, ClientOptions};
use rustls::pki_types::CertificateDer;

use crate::{
    error::{Error, Result},
    repository::config::RepositoryConfig,
    tls::pem,
};

/// Their certificates; none: only the system's.
#[derive(Default)]
pub(super) struct Authorities {
    pem: Vec<u8>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    pub async fn configured(config: &RepositoryConfig) -> Result<Self> {
        match &config.ca_file {
            None => Ok(Self::default()),
            Some(file) => Self::read(file, "repository.ca_file").await,
        }
    }

    /// `named_by`: what said that it is this file.
    pub async fn read(file: &Path, named_by: &str) -> Result<Self> {
        let unusable = |why: &str| {
            let file = file.display();
            Error::invalid(format!("cannot use {file}, which {named_by} names: {why}"))
                .hint("It is a file of certificates in PEM, those of the authorities.")
        };
        let pem = tokio::fs::read(file)
            .await
            .map_err(|e| unusable(&e.to_string()))?;
        let certificates = pem::certificates(&pem).map_err(|why| unusable(&why))?;
        pem::roots(&certificates).map_err(|why| unusable(&why))?;
        Ok(Self { pem, certificates })
    }

    /// For the requests to the store.
    pub fn trusted_by(&self, options: ClientOptions) -> Result<ClientOptions> {
        self.certificates.iter().try_fold(options, |options, der| {
            let certificate = Certificate::from_der(der).map_err(|e| {
                Error::internal(format!("cannot use the certificate of an authority: {e}"))
            })?;
            Ok(options.with_root_certificate(certificate))
        })
    }

    /// For the requests that get credentials.
    pub fn for_credentials(&self) -> Result<tls::TlsContext> {
        let mut store = tls::TrustStore::default();
        store.add_pem_certificate(self.pem.clone());
        tls::TlsContext::builder()
            .with_trust_store(store)
            .build()
            .map_err(|e| Error::internal(format!("cannot prepare TLS: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_without_certificates_is_refused_and_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        let read = async || {
            let read = Authorities::read(&file, "repository.ca_file").await;
            read.err().unwrap()
        };
        let error = read().await;
        assert!(error.message().contains("ca.pem"), "{error}");
        for content in ["nothing", "!", "AAAA"] {
            let pem =
                format!("-----BEGIN CERTIFICATE-----\n{content}\n-----END CERTIFICATE-----\n");
            let content = if content == "nothing" { content } else { &pem };
            std::fs::write(&file, content).unwrap();
            let error = read().await;
            assert!(error.message().contains("repository.ca_file"), "{error}");
        }
    }
}
