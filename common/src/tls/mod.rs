//! TLS of every listener and of every channel: one place reads the files, one makes the listeners
//! ([`Listener`]), one the channels ([`Dialer`]).
//!
//! With `cert_file` and `key_file` a program's listeners speak TLS and nothing else; with `ca_file`
//! too, its gRPC listener demands a certificate of that authority from whoever calls. The files may
//! be replaced while the program runs: connections that begin later use the new ones. What cannot
//! be used leaves the old ones in force, and is told of.

mod certificate;
mod connection;
mod dialer;
mod farewell;
mod files;
mod identity;
mod listener;
mod numbers;
pub mod pem;
mod plain_text;
mod settings;
mod trouble;

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

pub use certificate::Certificate;
pub use connection::{Connection, Peer};
pub use dialer::{Dial, Dialer, ServerUrl, Whom};
pub use identity::{Identity, Role};
pub use listener::{ConnectionLimits, ConnectionNumbers, Listener};
pub use numbers::TlsNumbers;
pub use settings::{TLS_SETTINGS, TlsConfig};
pub use trouble::{error_of, explain};

use crate::{
    clock::now_unix_ms,
    error::{Error, Result},
};
use files::{Material, Stamp};

/// How often it is looked whether a file has been replaced.
pub const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A certificate that expires sooner is told of: when the files are read, and from then on so often.
/// The alarm `SeawallCertificateEnds` goes by the same time.
const EXPIRES_SOON_S: i64 = 14 * 24 * 3600;
const TELL_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Which of a program's listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Grpc,
    Http,
}

/// The certificates in force. Cheap to clone; clones share them.
#[derive(Clone)]
pub struct Tls {
    inner: Arc<Inner>,
}

struct Inner {
    config: TlsConfig,
    current: RwLock<Arc<Material>>,
    /// Of the files that were read last, whether they could be used or not.
    read: Mutex<Option<Stamp>>,
}

impl Tls {
    /// No TLS at all: for programs and tests that have no settings.
    pub fn off() -> Result<Self> {
        Self::load(TlsConfig::default())
    }

    /// Reads the files; what cannot be used is an error here. An expired certificate is told of and
    /// used: nobody will take it, but whoever reads the log knows why.
    pub fn load(config: TlsConfig) -> Result<Self> {
        config.check()?;
        let stamp = Stamp::of(&config);
        let material = Material::read(&config)?;
        if let Some(warning) = config.exposed() {
            tracing::warn!("{warning}");
        }
        material.tell();
        Ok(Self {
            inner: Arc::new(Inner {
                current: RwLock::new(Arc::new(material)),
                read: Mutex::new(Some(stamp)),
                config,
            }),
        })
    }

    /// Whether this program's listeners speak TLS.
    pub fn is_on(&self) -> bool {
        self.inner.config.is_on()
    }

    /// Whether whoever calls the gRPC listener must show a certificate.
    pub fn demands_certificates(&self) -> bool {
        self.inner.config.demands_certificates()
    }

    /// How the addresses of this program's listeners begin, and those of its peers.
    pub fn scheme(&self) -> &'static str {
        self.inner.config.scheme()
    }

    /// When the own certificate ends, in seconds since the epoch.
    pub fn certificate_expires_unix_s(&self) -> Option<i64> {
        let material = self.material();
        let own = material.own.as_ref()?;
        Some(own.certificate.expires_unix_s)
    }

    /// Reads the files anew; what cannot be used, or has expired, leaves the old ones in force.
    pub fn reload(&self) -> Result<()> {
        let inner = &self.inner;
        let mut read = inner.read.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = Stamp::of(&inner.config);
        *read = Some(stamp);
        let material = Material::read(&inner.config)?;
        if let Some(own) = &material.own
            && own.certificate.expires_in_s(now_unix_ms()) <= 0
        {
            return Err(Error::invalid(format!(
                "the certificate in {} has expired",
                own.file.display()
            )));
        }
        material.tell();
        *inner
            .current
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(material);
        Ok(())
    }

    /// As [`Tls::reload`], for a person who asked for it: says in the log what came of it.
    pub fn reload_and_tell(&self) {
        if self.inner.config.is_empty() {
            return;
        }
        match self.reload() {
            Ok(()) => tracing::info!("the TLS files are read anew: new connections use them"),
            Err(e) => tracing::error!("the TLS files cannot be used, the old ones stay: {e}"),
        }
    }

    /// Reads the files anew whenever one of them has been replaced, and tells of a certificate in force
    /// that ends; never ends itself.
    pub async fn watch(&self, look_every: Duration) {
        if self.inner.config.is_empty() {
            return std::future::pending().await;
        }
        let mut looks = tokio::time::interval(look_every);
        loop {
            looks.tick().await;
            let now = Stamp::of(&self.inner.config);
            let is_known = {
                let read = &self.inner.read;
                *read.lock().unwrap_or_else(PoisonError::into_inner) == Some(now)
            };
            if !is_known {
                self.reload_and_tell();
            }
            self.material().tell();
        }
    }

    fn material(&self) -> Arc<Material> {
        let current = &self.inner.current;
        current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn server(&self, port: Port) -> Option<Arc<rustls::ServerConfig>> {
        let material = self.material();
        let own = material.own.as_ref()?;
        Some(match port {
            Port::Grpc => own.grpc.clone(),
            Port::Http => own.http.clone(),
        })
    }

    fn client(&self) -> Result<Arc<rustls::ClientConfig>> {
        self.material().client()
    }
}

#[cfg(test)]
mod tests;
