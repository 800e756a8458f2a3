//! Writers: who wrote a backup. Each agent has an Ed25519 key and signs its manifests; a restore may
//! pin the public keys of the writers that it trusts.

use std::{fmt, str::FromStr, sync::Arc};

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

const FIRST_LINE: &str = "seawall writer key";

/// The secret half: it signs.
#[derive(Clone)]
pub struct WriterKey {
    pair: Arc<Ed25519KeyPair>,
    seed: Zeroizing<[u8; 32]>,
}

/// The public half. As text: 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WriterPublicKey([u8; 32]);

impl WriterKey {
    pub fn generate() -> Result<Self> {
        Self::from_seed(Zeroizing::new(rand::random()))
    }

    fn from_seed(seed: Zeroizing<[u8; 32]>) -> Result<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice())
            .map_err(|e| Error::internal(format!("cannot make a writer's key: {e}")))?;
        Ok(Self {
            pair: Arc::new(pair),
            seed,
        })
    }

    pub fn public(&self) -> WriterPublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        WriterPublicKey(bytes)
    }

    pub(in super::super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.pair.sign(message).as_ref());
        bytes
    }

    /// The content of its file: secret.
    pub fn encode(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(hex(&*self.seed));
        Zeroizing::new(format!(
            "{FIRST_LINE}\nsecret {}\npublic {}\n",
            *secret,
            self.public()
        ))
    }

    /// From the content of its file, which holds both halves, so that damage shows.
    pub fn decode(text: &str) -> Result<Self> {
        let damaged = || Error::corrupt("it holds no writer's key");
        let mut lines = text.lines();
        if lines.next() != Some(FIRST_LINE) {
            return Err(damaged());
        }
        let mut member = |name: &str| {
            lines
                .next()
                .and_then(|line| line.strip_prefix(name))
                .and_then(unhex)
                .ok_or_else(damaged)
        };
        let seed = Zeroizing::new(member("secret ")?);
        let public = member("public ")?;
        let key = Self::from_seed(seed)?;
        if key.public().0 != public {
            return Err(Error::corrupt("its two halves do not belong together"));
        }
        Ok(key)
    }
}

impl fmt::Debug for WriterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriterKey({})", self.public())
    }
}

impl WriterPublicKey {
    pub(in super::super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(in super::super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(in super::super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(message, signature)
            .is_ok()
    }
}

impl fmt::Display for WriterPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for WriterPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for WriterPublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        unhex(text).map(Self).ok_or_else(|| {
            Error::invalid(format!("malformed writer key {text:?}")).hint(
                "It is written with 64 hexadecimal digits: ListWriters shows those of all agents.",
            )
        })
    }
}

/// The writers whose backups a reader restores; none: any, signed or not.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct TrustedWriters(Vec<WriterPublicKey>);

impl TrustedWriters {
    pub fn parse(texts: &[String]) -> Result<Self> {
        let keys: Result<_> = texts.iter().map(|text| text.trim().parse()).collect();
        keys.map(Self)
            .map_err(|e: Error| e.context("repository.trusted_writers"))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Why a manifest is not to be believed. `key`: that of its signature, which was verified; empty
    /// when it is not signed.
    pub fn check(&self, key: &str) -> std::result::Result<(), String> {
        if self.0.is_empty() || self.0.iter().any(|trusted| trusted.to_string() == key) {
            return Ok(());
        }
        Err(match key {
            "" => "is forged, or older than the pins: it is not signed".into(),
            key => format!(
                "is forged: it is signed by {key}, which is not among repository.trusted_writers"
            ),
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}
