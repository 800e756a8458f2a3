//! Recipients: the public keys that data keys are wrapped for.

use std::{fmt, io::Write};

use bytes::Bytes;
use uuid::Uuid;

use super::DataKey;
use crate::{
    error::{Error, ErrorKind, Result, chain},
    repository::{header::Repository, layout},
};

/// An RSA key of 16384 bits has about 2800.
const TEXT_BYTES_MAX: u64 = 4 << 10;

/// Whom a session's data key is wrapped for.
#[derive(Debug, Default)]
pub(in super::super) struct Recipients(Vec<Recipient>);

#[derive(Debug)]
pub(in super::super) struct Recipient {
    /// First 16 hexadecimal digits of the BLAKE3 hash of [`Self::text`].
    pub fingerprint: String,
    key: PublicKey,
}

enum PublicKey {
    X25519(age::x25519::Recipient),
    Ssh(age::ssh::Recipient),
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PublicKey::X25519(key) => write!(f, "{key}"),
            PublicKey::Ssh(key) => write!(f, "{key}"),
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Recipients {
    pub fn parse(texts: &[String]) -> Result<Self> {
        let mut recipients: Vec<Recipient> = Vec::with_capacity(texts.len());
        for text in texts {
            let recipient = Recipient::parse(text)?;
            if !recipients
                .iter()
                .any(|r| r.fingerprint == recipient.fingerprint)
            {
                recipients.push(recipient);
            }
        }
        Ok(Self(recipients))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Recipient> {
        self.0.iter()
    }
}

impl Recipient {
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        // A private key pasted here must not reach a log.
        let shown: String =
            if text.to_ascii_uppercase().contains("SECRET-KEY") || text.contains("PRIVATE KEY") {
                "(a private key)".into()
            } else {
                format!("{text:?}")
            };
        let malformed = |why: &str| {
            Error::invalid(format!("malformed recipient {shown}: {why}")).hint(
                "A recipient is a public key: age1..., ssh-ed25519 ... or ssh-rsa ...; seawallctl GenerateIdentity makes one.",
            )
        };
        let key = if text.starts_with("ssh-") {
            text.parse()
                .map(PublicKey::Ssh)
                .map_err(|_| malformed("not a usable SSH public key"))?
        } else {
            text.parse().map(PublicKey::X25519).map_err(malformed)?
        };
        Ok(Self::new(key))
    }

    pub(super) fn of_x25519(identity: &age::x25519::Identity) -> Self {
        Self::new(PublicKey::X25519(identity.to_public()))
    }

    /// `None`: of a kind for which nothing can be encrypted.
    pub(super) fn of_ssh(identity: age::ssh::Identity) -> Option<Self> {
        let key = age::ssh::Recipient::try_from(identity).ok()?;
        Some(Self::new(PublicKey::Ssh(key)))
    }

    fn new(key: PublicKey) -> Self {
        let hash = blake3::hash(key.to_string().as_bytes()).to_hex();
        Self {
            fingerprint: hash[..16].to_owned(),
            key,
        }
    }

    /// As it stands in a configuration, without a comment.
    pub fn text(&self) -> String {
        self.key.to_string()
    }

    /// The content of the key file for this recipient.
    pub fn wrap(&self, key: &DataKey, repository: Uuid, session: Uuid) -> Result<Vec<u8>> {
        self.encrypt(&key.encode(repository, session))
    }

    pub(super) fn encrypt(&self, plain: &[u8]) -> Result<Vec<u8>> {
        let recipient: &dyn age::Recipient = match &self.key {
            PublicKey::X25519(key) => key,
            PublicKey::Ssh(key) => key,
        };
        encrypt(recipient, plain)
            .map_err(|e| e.context(format_args!("cannot wrap a key for {}", self.fingerprint)))
    }
}

/// An `age` file for one recipient, or for one passphrase.
pub(super) fn encrypt(recipient: &dyn age::Recipient, plain: &[u8]) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| Error::internal(e.to_string());
    let encryptor = age::Encryptor::with_recipients(std::iter::once(recipient))
        .map_err(|e| Error::internal(chain(&e)))?;
    let mut wrapped = Vec::new();
    let mut writer = encryptor.wrap_output(&mut wrapped).map_err(failed)?;
    writer
        .write_all(plain)
        .and_then(|()| writer.finish().map(drop))
        .map_err(failed)?;
    Ok(wrapped)
}

/// Says whether a text is a recipient, and answers it as it stands in a configuration.
pub fn check_recipient(text: &str) -> Result<String> {
    Recipient::parse(text).map(|recipient| recipient.text())
}

/// Keeps the public key's text in the repository, so that people can read whose a key file is.
pub(in super::super) async fn note_recipient(
    repository: &Repository,
    recipient: &Recipient,
) -> Result<()> {
    let key = layout::recipient(&recipient.fingerprint);
    repository
        .store()
        .put_if_absent(&key, Bytes::from(format!("{}\n", recipient.text())))
        .await
        .map(drop)
}

/// The public key behind a fingerprint, where the repository knows it. What does not fit the
/// fingerprint is not believed.
pub(in super::super) async fn known_recipient(
    repository: &Repository,
    fingerprint: &str,
) -> Result<Option<Recipient>> {
    let key = layout::recipient(fingerprint);
    let bytes = match repository.store().get(&key, TEXT_BYTES_MAX).await {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => return Ok(None),
        other => other?,
    };
    Ok(std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| Recipient::parse(text).ok())
        .filter(|recipient| recipient.fingerprint == fingerprint))
}
