//! Identities that lie in the repository, locked with a passphrase: for those who want to remember
//! no file. Beside each lies a clear record with its public half and the hash of the locked file, so
//! that damage is not taken for a wrong passphrase.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    GeneratedIdentity, Identities, Passphrase, Prompt, generate,
    recipient::{Recipient, note_recipient},
    unlock::unlock,
};
use crate::{
    clock,
    error::{Error, ErrorKind, Result},
    repository::{config::RepositoryConfig, header::Repository, layout, store::Store},
};

const LOCKED_BYTES_MAX: u64 = 64 << 10;
const RECORD_BYTES_MAX: u64 = 64 << 10;
const NAME_CHARS_MAX: usize = 64;

/// What the repository says of an identity that lies in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredIdentity {
    pub name: String,
    /// The public half: what goes into `repository.recipients`.
    pub recipient: String,
    /// BLAKE3 of the locked file, hexadecimal.
    pub hash: String,
    pub created_unix_ms: u64,
}

/// Letters, digits, `-` and `_`, at most 64: it becomes part of a key.
pub fn check_identity_name(name: &str) -> Result<()> {
    let is_good = (1..=NAME_CHARS_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if is_good {
        return Ok(());
    }
    Err(Error::invalid(format!("malformed identity name {name:?}"))
        .hint("Letters, digits, - and _, at most 64."))
}

impl Repository {
    /// Puts an identity, locked with a passphrase. The name must be free: [`ErrorKind::Conflict`].
    pub async fn put_identity(
        &self,
        name: &str,
        identity: &GeneratedIdentity,
        passphrase: &Passphrase,
    ) -> Result<StoredIdentity> {
        check_identity_name(name)?;
        let key = layout::identity(name);
        let taken = || {
            Error::conflict(format!("identity {name:?} exists already in {}", self.url())).hint(
                "An identity is never overwritten: what was encrypted for it would be lost. Choose another name.",
            )
        };
        if self.store().exists(&key).await? {
            return Err(taken());
        }
        let locked = generate::lock(identity, passphrase).await?;
        let record = StoredIdentity {
            name: name.to_owned(),
            recipient: identity.recipient.clone(),
            hash: blake3::hash(&locked).to_hex().to_string(),
            created_unix_ms: clock::now_unix_ms(),
        };
        let mut json = serde_json::to_vec_pretty(&record)
            .map_err(|e| Error::internal(format!("cannot write an identity's record: {e}")))?;
        json.push(b'\n');
        // The locked file first: without its record it can still be opened.
        self.store()
            .put_create(&key, Bytes::from(locked))
            .await
            .map_err(|e| match e.kind() {
                ErrorKind::Conflict => taken(),
                _ => e,
            })?;
        self.store()
            .put_create(&layout::identity_record(name), Bytes::from(json))
            .await?;
        note_recipient(self, &Recipient::parse(&identity.recipient)?).await?;
        Ok(record)
    }

    /// The identities that lie in the repository, by name. A record that cannot be read is left out.
    pub async fn stored_identities(&self) -> Result<Vec<StoredIdentity>> {
        let mut found = Vec::new();
        for object in self.store().folder(&layout::identities()).await?.objects {
            let name = match object.strip_suffix(".age") {
                Some(name) if check_identity_name(name).is_ok() => name,
                _ => continue,
            };
            match read_record(self.store(), name).await? {
                Some(record) => found.push(record),
                None => tracing::warn!("the record of identity {name:?} cannot be read"),
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }
}

/// Opens an identity that lies in the repository.
pub(super) async fn read_stored(
    store: &Store,
    name: &str,
    config: &RepositoryConfig,
    prompt: &dyn Prompt,
) -> Result<Identities> {
    check_identity_name(name).map_err(|e| e.context("repository.identity"))?;
    let key = layout::identity(name);
    let locked = match store.get(&key, LOCKED_BYTES_MAX).await {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(
                Error::invalid(format!("there is no identity {name:?} in {}", config.url)).hint(
                    "Check repository.identity; ListRecipients shows the identities that there are.",
                ),
            );
        }
        other => other?,
    };
    let record = read_record(store, name).await?;
    let is_damaged = record
        .as_ref()
        .is_some_and(|record| blake3::hash(&locked).to_hex()[..] != record.hash[..]);
    if is_damaged {
        return Err(Error::corrupt(format!(
            "object {key} is damaged: it is not the one that was written"
        )));
    }
    let whence = format!("identity {name:?}");
    // Nothing else is ever put there, and nothing else has a bound of the work that it asks for.
    if !locked.starts_with(b"age-encryption.org/") {
        return Err(Error::corrupt(format!(
            "object {key} is no key that was locked with a passphrase"
        )));
    }
    let keys = unlock(&whence, Zeroizing::new(locked.to_vec()), config, prompt).await?;
    let identities = Identities::new(whence, keys);
    match record {
        Some(record) if !is_for(&identities, &record) => Err(Error::corrupt(format!(
            "object {key} holds another key than its record says"
        ))),
        _ => Ok(identities),
    }
}

fn is_for(identities: &Identities, record: &StoredIdentity) -> bool {
    Recipient::parse(&record.recipient)
        .is_ok_and(|recipient| identities.has(&recipient.fingerprint))
}

/// `None`: there is none that could be believed; the locked file may be good all the same.
async fn read_record(store: &Store, name: &str) -> Result<Option<StoredIdentity>> {
    let bytes = match store
        .get(&layout::identity_record(name), RECORD_BYTES_MAX)
        .await
    {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => return Ok(None),
        other => other?,
    };
    let record = serde_json::from_slice::<StoredIdentity>(&bytes).ok();
    Ok(record.filter(|record| record.name == name))
}
