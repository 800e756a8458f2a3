//! Data keys, and how `age` wraps them: one small file for each recipient, so that a node that
//! only writes needs no secret, and recipients come and go without touching any data.

use std::{
    fmt,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use age::secrecy::ExposeSecret;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::{Error, Result, chain};

const MAGIC: &[u8; 8] = b"SWLLKEY1";
/// Magic, repository id, session id, key.
const WRAPPED_BYTES: usize = 8 + 16 + 16 + 32;
/// No wrapped key is larger: RSA-4096 recipients make about 900 bytes.
pub(super) const KEY_FILE_BYTES_MAX: u64 = 16 << 10;
const IDENTITY_FILE_BYTES_MAX: u64 = 1 << 20;

/// The random key of one session. Everything that the session writes is sealed under keys derived
/// from it.
#[derive(Clone)]
pub(super) struct DataKey(Zeroizing<[u8; 32]>);

impl DataKey {
    pub fn generate() -> Self {
        Self(Zeroizing::new(rand::random()))
    }

    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(..)")
    }
}

/// Whom a session's data key is wrapped for.
#[derive(Debug, Default)]
pub(super) struct Recipients(Vec<Recipient>);

#[derive(Debug)]
pub(super) struct Recipient {
    /// First 16 hexadecimal digits of the BLAKE3 hash of the public key as text.
    pub fingerprint: String,
    key: PublicKey,
}

enum PublicKey {
    X25519(age::x25519::Recipient),
    Ssh(age::ssh::Recipient),
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PublicKey::X25519(key) => write!(f, "{key}"),
            PublicKey::Ssh(key) => write!(f, "{key}"),
        }
    }
}

impl Recipients {
    pub fn parse(texts: &[String]) -> Result<Self> {
        let mut recipients: Vec<Recipient> = Vec::with_capacity(texts.len());
        for text in texts {
            let recipient = Recipient::parse(text.trim())?;
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
    fn parse(text: &str) -> Result<Self> {
        // A private key pasted here must not reach a log.
        let shown: String = if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY") {
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
        let hash = blake3::hash(format!("{key:?}").as_bytes()).to_hex();
        Ok(Self {
            fingerprint: hash[..16].to_owned(),
            key,
        })
    }

    /// The content of the key file for this recipient.
    pub fn wrap(&self, key: &DataKey, repository: Uuid, session: Uuid) -> Result<Vec<u8>> {
        let mut plain = Zeroizing::new(Vec::with_capacity(WRAPPED_BYTES));
        plain.extend_from_slice(MAGIC);
        plain.extend_from_slice(repository.as_bytes());
        plain.extend_from_slice(session.as_bytes());
        plain.extend_from_slice(key.bytes());
        let recipient: &dyn age::Recipient = match &self.key {
            PublicKey::X25519(key) => key,
            PublicKey::Ssh(key) => key,
        };
        let failed =
            |e: String| Error::internal(format!("cannot wrap a key for {}: {e}", self.fingerprint));
        let encryptor = age::Encryptor::with_recipients(std::iter::once(recipient))
            .map_err(|e| failed(chain(&e)))?;
        let mut wrapped = Vec::new();
        let mut writer = encryptor
            .wrap_output(&mut wrapped)
            .map_err(|e| failed(e.to_string()))?;
        writer
            .write_all(&plain)
            .and_then(|()| writer.finish().map(drop))
            .map_err(|e| failed(e.to_string()))?;
        Ok(wrapped)
    }
}

/// The private keys that open what was wrapped.
pub(super) struct Identities {
    path: PathBuf,
    keys: Vec<Box<dyn age::Identity + Send + Sync>>,
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({})", self.path.display())
    }
}

impl Identities {
    pub async fn read(path: &Path) -> Result<Self> {
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || Self::read_now(path))
            .await
            .map_err(|e| Error::internal(format!("the thread that reads identities died: {e}")))?
    }

    fn read_now(path: PathBuf) -> Result<Self> {
        let cannot = |e: &std::io::Error| {
            Error::invalid(format!("cannot read identity file {}: {e}", path.display()))
                .hint("Check repository.identity_file.")
        };
        let file = std::fs::File::open(&path).map_err(|e| cannot(&e))?;
        let mut text = Zeroizing::new(String::new());
        file.take(IDENTITY_FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|e| cannot(&e))?;
        let keys = parse_identities(&text).map_err(|why| {
            Error::invalid(format!("identity file {} {why}", path.display())).hint(
                "It holds lines AGE-SECRET-KEY-1... or one SSH private key without a passphrase; seawallctl GenerateIdentity makes one.",
            )
        })?;
        Ok(Self { path, keys })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The data key in a key file; `None`: it was wrapped for somebody else.
    pub fn unwrap(
        &self,
        wrapped: &[u8],
        repository: Uuid,
        session: Uuid,
    ) -> std::result::Result<Option<DataKey>, String> {
        let decryptor = age::Decryptor::new_buffered(wrapped).map_err(|e| e.to_string())?;
        let keys = self
            .keys
            .iter()
            .map(|key| key.as_ref() as &dyn age::Identity);
        let reader = match decryptor.decrypt(keys) {
            Ok(reader) => reader,
            Err(age::DecryptError::NoMatchingKeys) => return Ok(None),
            Err(e) => return Err(e.to_string()),
        };
        let mut plain = Zeroizing::new(Vec::with_capacity(WRAPPED_BYTES + 1));
        reader
            .take(WRAPPED_BYTES as u64 + 1)
            .read_to_end(&mut plain)
            .map_err(|e| e.to_string())?;
        if plain.len() != WRAPPED_BYTES || plain[..8] != MAGIC[..] {
            return Err("it does not hold a data key".into());
        }
        if plain[8..24] != repository.as_bytes()[..] || plain[24..40] != session.as_bytes()[..] {
            return Err("it belongs to another repository or session".into());
        }
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(&plain[40..]);
        Ok(Some(DataKey(key)))
    }
}

fn parse_identities(
    text: &str,
) -> std::result::Result<Vec<Box<dyn age::Identity + Send + Sync>>, String> {
    let start = text.trim_start();
    if start.starts_with("age-encryption.org/") || start.starts_with("-----BEGIN AGE ENCRYPTED") {
        return Err("is locked with a passphrase, which is not supported yet".into());
    }
    if start.starts_with("-----BEGIN") {
        return match age::ssh::Identity::from_buffer(text.as_bytes(), None) {
            Ok(key @ age::ssh::Identity::Unencrypted(_)) => Ok(vec![Box::new(key)]),
            Ok(age::ssh::Identity::Encrypted(_)) => {
                Err("is locked with a passphrase, which is not supported yet".into())
            }
            Ok(age::ssh::Identity::Unsupported(_)) => {
                Err("holds an SSH key of a kind that cannot be used".into())
            }
            Err(_) => Err("does not hold a valid SSH private key".into()),
        };
    }
    let keys = age::IdentityFile::from_buffer(text.as_bytes())
        .map_err(|e| e.to_string())
        .and_then(|file| file.into_identities().map_err(|e| e.to_string()))
        .map_err(|_| "does not hold a valid private key".to_owned())?;
    if keys.is_empty() {
        return Err("holds no private key".into());
    }
    Ok(keys)
}

/// A new X25519 key pair, as `age-keygen` would write it.
pub struct GeneratedIdentity {
    /// The content of an identity file: secret.
    pub file: Zeroizing<String>,
    /// The public half: what goes into `repository.recipients`.
    pub recipient: String,
}

/// Makes a key pair for a repository. Nothing is written anywhere.
pub fn generate_identity() -> GeneratedIdentity {
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let file = Zeroizing::new(format!(
        "# public key: {recipient}\n{}\n",
        identity.to_string().expose_secret()
    ));
    GeneratedIdentity { file, recipient }
}
