//! Reads the three files, and makes of them what listeners and channels need.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use tokio::time::Instant;

use super::{Certificate, EXPIRES_SOON_S, TELL_EVERY, TlsConfig, pem};
use crate::{
    clock::now_unix_ms,
    error::{Error, Result},
};

const GRPC_PROTOCOL: &[u8] = b"h2";
const HTTP_PROTOCOL: &[u8] = b"http/1.1";

/// What a file was like when it was read: another one in its place shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Vec<Option<(u64, u64, i64, i64)>>);

impl Stamp {
    pub fn of(config: &TlsConfig) -> Self {
        let files = [&config.cert_file, &config.key_file, &config.ca_file];
        let stamps = files.into_iter().map(|file| {
            let meta = std::fs::metadata(file.as_ref()?).ok()?;
            Some((meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
        });
        Self(stamps.collect())
    }
}

/// What the files came to.
pub(super) struct Material {
    pub own: Option<Own>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// None: the system's.
    authorities: Option<RootCertStore>,
    client: OnceLock<Arc<ClientConfig>>,
    /// When it was last said that the own certificate ends.
    told: Mutex<Option<Instant>>,
}

/// The own certificate, as listeners use it.
pub(super) struct Own {
    pub file: PathBuf,
    pub certificate: Certificate,
    pub grpc: Arc<ServerConfig>,
    pub http: Arc<ServerConfig>,
}

impl Material {
    pub fn read(config: &TlsConfig) -> Result<Self> {
        let authorities = match &config.ca_file {
            None => None,
            Some(file) => {
                let unusable = |why: String| unusable(file, "tls.ca_file", &why);
                let certificates = pem::certificates(&read(file, "tls.ca_file")?);
                Some(pem::roots(&certificates.map_err(unusable)?).map_err(unusable)?)
            }
        };
        let identity = match (&config.cert_file, &config.key_file) {
            (Some(cert_file), Some(key_file)) => Some(identity(cert_file, key_file)?),
            _ => None,
        };
        let own = match (&config.cert_file, &identity) {
            (Some(file), Some((chain, key))) => {
                Some(own(config, file, chain, key, authorities.as_ref())?)
            }
            _ => None,
        };
        let material = Self {
            own,
            identity,
            authorities,
            client: OnceLock::new(),
            told: Mutex::default(),
        };
        if config.ca_file.is_some() {
            // What is wrong shows now, not at the first call.
            material.client()?;
        }
        Ok(material)
    }

    /// Says in the log how long the own certificate is good for, when that is not long and has not
    /// been said within a day.
    pub fn tell(&self) {
        let Some(own) = &self.own else { return };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            return;
        }
        let (file, left_s) = (
            own.file.display(),
            own.certificate.expires_in_s(now_unix_ms()),
        );
        if left_s <= 0 {
            tracing::error!("the certificate in {file} has expired: nobody will take it");
        } else if left_s < EXPIRES_SOON_S {
            tracing::warn!(
                "the certificate in {file} expires in {} hours",
                left_s / 3600
            );
        } else {
            return;
        }
        *told = Some(Instant::now());
    }

    /// For channels. The system's authorities are read when they are first needed.
    pub fn client(&self) -> Result<Arc<ClientConfig>> {
        if let Some(made) = self.client.get() {
            return Ok(made.clone());
        }
        let roots = match &self.authorities {
            Some(roots) => roots.clone(),
            None => system_authorities()?,
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| defect(&e))?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(|e| defect(&e))?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![GRPC_PROTOCOL.to_vec()];
        Ok(self.client.get_or_init(|| Arc::new(config)).clone())
    }
}

fn identity(
    cert_file: &Path,
    key_file: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = pem::certificates(&read(cert_file, "tls.cert_file")?)
        .map_err(|why| unusable(cert_file, "tls.cert_file", &why))?;
    let key = pem::private_key(&read(key_file, "tls.key_file")?)
        .map_err(|why| unusable(key_file, "tls.key_file", &why))?;
    Ok((chain, key))
}

fn own(
    config: &TlsConfig,
    file: &Path,
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    authorities: Option<&RootCertStore>,
) -> Result<Own> {
    let server = |callers: Option<&RootCertStore>, protocol: &[u8]| {
        server(chain, key, callers, protocol).map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => unusable(
                file,
                "tls.cert_file",
                "the private key in tls.key_file is not that of the certificate",
            ),
            other => unusable(file, "tls.cert_file", &other.to_string()),
        })
    };
    let http_callers = authorities.filter(|_| config.http_client_auth);
    Ok(Own {
        file: file.to_owned(),
        certificate: Certificate::read(&chain[0]).map_err(|e| e.context(file.display()))?,
        grpc: server(authorities, GRPC_PROTOCOL)?,
        http: server(http_callers, HTTP_PROTOCOL)?,
    })
}

/// `callers`: the authorities of those who may call, who must show a certificate then.
fn server(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    callers: Option<&RootCertStore>,
    protocol: &[u8],
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match callers {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let roots = Arc::new(roots.clone());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(|e| rustls::Error::General(e.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain.to_vec(), key.clone_key())?;
    config.alpn_protocols = vec![protocol.to_vec()];
    // A session that is taken up again is not checked again: an expired certificate would pass.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn system_authorities() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(
            Error::invalid("this system trusts no authority to check certificates with")
                .hint("Set tls.ca_file to the certificate of the authority."),
        );
    }
    Ok(roots)
}

fn read(file: &Path, named_by: &str) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|e| unusable(file, named_by, &e.to_string()))
}

fn unusable(file: &Path, named_by: &str, why: &str) -> Error {
    Error::invalid(format!(
        "cannot use {}, which {named_by} names: {why}",
        file.display()
    ))
}

fn defect(error: &rustls::Error) -> Error {
    Error::invalid(format!("cannot prepare TLS: {error}"))
}
