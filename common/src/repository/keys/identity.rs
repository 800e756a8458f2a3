//! Identities: the private keys that open what was wrapped for their recipients.

use std::{fmt, io::Read, path::Path};

use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    DataKey, Prompt,
    data_key::PLAIN_BYTES,
    recipient::Recipient,
    unlock::{said, unlock},
};
use crate::{
    error::{Error, Result},
    exposed,
    repository::config::RepositoryConfig,
};

const FILE_BYTES_MAX: u64 = 1 << 20;

/// The private keys of one identity file, or of one identity in the repository.
pub(in super::super) struct Identities {
    /// "identity file /x", for messages.
    whence: String,
    keys: Vec<PrivateKey>,
}

/// One private key, with the name that its key files bear.
pub(super) struct PrivateKey {
    pub recipient: Recipient,
    pub identity: Box<dyn age::Identity + Send + Sync>,
}

/// What a key file is to an identity.
pub(in super::super) enum Unwrapped {
    Key(DataKey),
    /// It was wrapped for somebody else.
    NotOurs,
    Damaged(String),
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({})", self.whence)
    }
}

/// As messages name it: `identity file /x`, `identity "ops"`.
impl fmt::Display for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.whence)
    }
}

impl Identities {
    pub(super) fn new(whence: String, keys: Vec<PrivateKey>) -> Self {
        Self { whence, keys }
    }

    /// Reads the file that `repository.identity_file` names; a passphrase is looked for only when
    /// the file is locked.
    pub(super) async fn read(
        path: &Path,
        config: &RepositoryConfig,
        prompt: &dyn Prompt,
    ) -> Result<Self> {
        let whence = format!("identity file {}", path.display());
        let owned = path.to_owned();
        let of_file = whence.clone();
        let read = move || (read_file(&owned), exposed::warning(&of_file, &owned));
        let (content, warning) = tokio::task::spawn_blocking(read)
            .await
            .map_err(|e| Error::internal(format!("the thread that reads identities died: {e}")))?;
        let content = content?;
        if let Some(warning) = warning {
            prompt.warn(&warning);
        }
        let keys = unlock(&whence, content, config, prompt).await?;
        Ok(Self::new(whence, keys))
    }

    pub fn has(&self, fingerprint: &str) -> bool {
        self.keys
            .iter()
            .any(|key| key.recipient.fingerprint == fingerprint)
    }

    /// The data key in a key file that bears the name of the recipient `fingerprint`.
    pub fn unwrap(
        &self,
        wrapped: &[u8],
        fingerprint: &str,
        repository: Uuid,
        session: Uuid,
    ) -> Unwrapped {
        let decryptor = match age::Decryptor::new_buffered(wrapped) {
            Ok(decryptor) => decryptor,
            Err(e) => return Unwrapped::Damaged(said(&e)),
        };
        let identities = self.keys.iter().map(|key| &*key.identity as _);
        let reader = match decryptor.decrypt(identities) {
            Ok(reader) => reader,
            // It bears our name: so it was wrapped for us.
            Err(age::DecryptError::NoMatchingKeys) if self.has(fingerprint) => {
                return Unwrapped::Damaged("it does not open with the identity of its name".into());
            }
            Err(age::DecryptError::NoMatchingKeys) => return Unwrapped::NotOurs,
            Err(e) => return Unwrapped::Damaged(said(&e)),
        };
        let mut plain = Zeroizing::new(Vec::with_capacity(PLAIN_BYTES + 1));
        if let Err(e) = reader.take(PLAIN_BYTES as u64 + 1).read_to_end(&mut plain) {
            return Unwrapped::Damaged(said(&e));
        }
        match DataKey::decode(&plain, repository, session) {
            Ok(key) => Unwrapped::Key(key),
            Err(why) => Unwrapped::Damaged(why.into()),
        }
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let cannot = |e: &dyn fmt::Display| {
        Error::invalid(format!("cannot read identity file {}: {e}", path.display()))
            .hint("Check repository.identity_file.")
    };
    let file = std::fs::File::open(path).map_err(|e| cannot(&e))?;
    let mut content = Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut content)
        .map_err(|e| cannot(&e))?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(cannot(&format_args!(
            "it has more than {FILE_BYTES_MAX} bytes"
        )));
    }
    Ok(content)
}
