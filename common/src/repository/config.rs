//! Where the repository is and with which keys it is written and read.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    config::{Kind, Setting},
    error::{Error, Result},
};

/// The section `[repository]` of every program's settings.
pub const REPOSITORY_SETTINGS: &[Setting] = &[
    Setting::new(
        "repository.url",
        Kind::Text,
        "Where the repository is: file:///path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix",
    )
    .flag("repository")
    .default(""),
    Setting::new(
        "repository.recipients",
        Kind::List,
        "Public keys (age1..., ssh-ed25519 ..., ssh-rsa ...) that backups are encrypted for; none: not encrypted",
    )
    .default(""),
    Setting::new(
        "repository.identity_file",
        Kind::Text,
        "File with the private key that opens encrypted backups",
    ),
    Setting::new(
        "repository.endpoint",
        Kind::Text,
        "Address of the object store, where it is not the cloud's own: https://host:port",
    ),
    Setting::new(
        "repository.region",
        Kind::Text,
        "Region of an s3:// bucket",
    ),
    Setting::new(
        "repository.allow_http",
        Kind::Bool,
        "Whether an endpoint that is not on this machine may be spoken to without TLS",
    )
    .default("false"),
    Setting::new(
        "repository.ca_file",
        Kind::Text,
        "File with the certificates (PEM) of authorities that the store's certificate may come from, beside the system's",
    ),
    Setting::new(
        "repository.identity",
        Kind::Text,
        "Name of an identity in the repository, locked with a passphrase, that opens encrypted backups",
    ),
    Setting::new(
        "repository.passphrase_file",
        Kind::Text,
        "File with the passphrase of the identity (also: SEAWALL_PASSPHRASE in the environment)",
    ),
    Setting::new(
        "repository.passphrase_fd",
        Kind::Integer,
        "File descriptor from which the passphrase of the identity is read",
    ),
    Setting::new(
        "repository.trusted_writers",
        Kind::List,
        "Keys of the writers whose backups are restored (ListWriters shows them); none: any writer's",
    )
    .default(""),
    Setting::new(
        "repository.request_timeout",
        Kind::Text,
        "How long one request to the store may take; one with data gets longer, by its size",
    )
    .default("30s"),
    Setting::new(
        "repository.retry_limit",
        Kind::Text,
        "How long a failing request is tried again before it counts as failed",
    )
    .default("2m"),
];

/// The settings that [`REPOSITORY_SETTINGS`] describes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryConfig {
    pub url: String,
    #[serde(default)]
    pub recipients: Vec<String>,
    #[serde(default)]
    pub identity_file: Option<PathBuf>,
    /// Of the object store; none: the cloud's own, or what its environment variables say.
    #[serde(default)]
    pub endpoint: Option<String>,
    #[serde(default)]
    pub region: Option<String>,
    /// Also for an endpoint that is not on this machine.
    #[serde(default)]
    pub allow_http: bool,
    /// Certificates in PEM that are trusted beside the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Name of an identity that lies in the repository.
    #[serde(default)]
    pub identity: Option<String>,
    #[serde(default)]
    pub passphrase_file: Option<PathBuf>,
    #[serde(default)]
    pub passphrase_fd: Option<u32>,
    /// Public keys of writers, hexadecimal.
    #[serde(default)]
    pub trusted_writers: Vec<String>,
    /// As humantime writes it (`30s`); empty: the default.
    #[serde(default)]
    pub request_timeout: String,
    /// As humantime writes it (`2m`); empty: the default.
    #[serde(default)]
    pub retry_limit: String,
}

const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
const RETRY_LIMIT_DEFAULT: Duration = Duration::from_secs(120);

impl RepositoryConfig {
    /// A repository at `url` with everything else as it is by default.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ..Self::default()
        }
    }

    /// Whether something is named that opens encrypted backups.
    pub fn has_identity(&self) -> bool {
        self.identity_file.is_some() || self.identity.is_some()
    }

    pub(super) fn request_timeout(&self) -> Result<Duration> {
        duration(
            "repository.request_timeout",
            &self.request_timeout,
            REQUEST_TIMEOUT_DEFAULT,
        )
    }

    pub(super) fn retry_limit(&self) -> Result<Duration> {
        duration(
            "repository.retry_limit",
            &self.retry_limit,
            RETRY_LIMIT_DEFAULT,
        )
    }
}

fn duration(key: &str, text: &str, default: Duration) -> Result<Duration> {
    if text.is_empty() {
        return Ok(default);
    }
    let value = humantime::parse_duration(text).map_err(|e| {
        Error::invalid(format!(
            "{key} is a duration such as 30s, not {text:?}: {e}"
        ))
    })?;
    if value.is_zero() {
        return Err(Error::invalid(format!("{key} must not be zero")));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_that_is_none_is_named() {
        let mut config = RepositoryConfig::at("file:///a");
        assert_eq!(config.request_timeout().unwrap(), REQUEST_TIMEOUT_DEFAULT);
        config.retry_limit = "soon".into();
        let error = config.retry_limit().unwrap_err();
        assert!(
            error.message().contains("repository.retry_limit"),
            "{error}"
        );
        config.retry_limit = "0s".into();
        assert!(config.retry_limit().is_err());
    }
}
