//! The section `[tls]` of every program's settings.

use std::path::PathBuf;

use serde::Deserialize;

use crate::{
    config::{Kind, Setting},
    error::{Error, Result},
    exposed,
};

pub const TLS_SETTINGS: &[Setting] = &[
    Setting::new(
        "tls.cert_file",
        Kind::Text,
        "File with this program's certificate (PEM), those that lead to its authority after it",
    ),
    Setting::new(
        "tls.key_file",
        Kind::Text,
        "File with the private key (PEM) of that certificate",
    ),
    Setting::new(
        "tls.ca_file",
        Kind::Text,
        "File with the certificates (PEM) of the authorities that others' certificates must come from; with it, whoever calls over gRPC must show one",
    ),
    Setting::new(
        "tls.http_client_auth",
        Kind::Bool,
        "Whether whoever asks for /metrics, /healthz or /serving must show a certificate too",
    )
    .default("false"),
];

/// The settings that [`TLS_SETTINGS`] describes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    #[serde(default)]
    pub http_client_auth: bool,
}

impl TlsConfig {
    pub fn check(&self) -> Result<()> {
        let lacks = |is: &str, is_not: &str| {
            Error::invalid(format!("tls.{is} is set and tls.{is_not} is not"))
                .hint("A certificate and its private key belong together.")
        };
        match (&self.cert_file, &self.key_file) {
            (Some(_), None) => Err(lacks("cert_file", "key_file")),
            (None, Some(_)) => Err(lacks("key_file", "cert_file")),
            _ if self.http_client_auth && !self.demands_certificates() => Err(Error::invalid(
                "tls.http_client_auth is set, but there is nothing to check a certificate with",
            )
            .hint("Set tls.cert_file, tls.key_file and tls.ca_file.")),
            _ => Ok(()),
        }
    }

    pub fn is_on(&self) -> bool {
        self.cert_file.is_some()
    }

    pub fn demands_certificates(&self) -> bool {
        self.is_on() && self.ca_file.is_some()
    }

    pub fn scheme(&self) -> &'static str {
        if self.is_on() { "https" } else { "http" }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cert_file.is_none() && self.ca_file.is_none()
    }

    pub(super) fn exposed(&self) -> Option<String> {
        let file = self.key_file.as_ref()?;
        exposed::warning(
            &format!("the private key in {}", file.display()),
            file.as_path(),
        )
    }

    /// What to say of a listener that others than this machine reach and that has no TLS.
    pub fn check_listener(
        &self,
        key: &str,
        address: std::net::SocketAddr,
        is_insecure: bool,
    ) -> Result<()> {
        if address.ip().is_loopback() || self.is_on() || is_insecure {
            return Ok(());
        }
        Err(Error::refused(format!(
            "{key} is {address}, which is not on loopback, and there is no TLS"
        ))
        .hint(
            "Set tls.cert_file, tls.key_file and tls.ca_file (seawallctl CreateCertificates makes \
             them), or give --insecure if the network is trusted.",
        ))
    }
}
