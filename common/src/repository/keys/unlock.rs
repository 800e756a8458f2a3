//! From the content of an identity file to private keys, opening what a passphrase locks: identity
//! files that `age -p` made, and SSH private keys.

use std::io::{self, Read};

use age::{DecryptError, ssh::UnsupportedKey};
use zeroize::Zeroizing;

use super::{
    Passphrase, Prompt, identity::PrivateKey, passphrase::configured_with, recipient::Recipient,
};
use crate::{
    error::{Error, Result, one_line},
    repository::config::RepositoryConfig,
};

/// The largest work factor of scrypt that is accepted, as a power of two: a gibibyte of memory and
/// some seconds. Without a bound, whoever writes to the store could make a reader work for hours.
pub(super) const WORK_FACTOR_MAX: u8 = 20;
const PLAIN_BYTES_MAX: u64 = 64 << 10;
const HINT: &str = "It holds lines AGE-SECRET-KEY-1... or one SSH private key, perhaps locked with a passphrase; seawallctl GenerateIdentity makes one.";

/// What a file holds, as far as that can be seen without a passphrase.
enum Content {
    Keys(Vec<PrivateKey>),
    /// An `age` file.
    Locked(Zeroizing<Vec<u8>>),
    LockedSsh(Box<age::ssh::Identity>),
}

/// The keys of an identity. `whence` names it in messages; a passphrase is looked for only when one
/// is needed.
pub(super) async fn unlock(
    whence: &str,
    content: Zeroizing<Vec<u8>>,
    config: &RepositoryConfig,
    prompt: &dyn Prompt,
) -> Result<Vec<PrivateKey>> {
    let content = look(whence, content)?;
    if let Content::Keys(keys) = content {
        return Ok(keys);
    }
    let environment = |name: &str| std::env::var(name).ok();
    let passphrase = match configured_with(config, environment, prompt).await? {
        Some(passphrase) => passphrase,
        None => prompt.ask(whence).await?,
    };
    let whence = whence.to_owned();
    tokio::task::spawn_blocking(move || match content {
        Content::Keys(keys) => Ok(keys),
        Content::Locked(file) => open_file(&whence, &file, &passphrase),
        Content::LockedSsh(key) => open_ssh(&whence, *key, &passphrase),
    })
    .await
    .map_err(|e| Error::internal(format!("the thread that unlocks an identity died: {e}")))?
}

fn look(whence: &str, content: Zeroizing<Vec<u8>>) -> Result<Content> {
    let start = content.trim_ascii_start();
    if start.starts_with(b"age-encryption.org/") || start.starts_with(b"-----BEGIN AGE ENCRYPTED") {
        return Ok(Content::Locked(content));
    }
    let text = std::str::from_utf8(&content)
        .map_err(|_| Error::corrupt(format!("{whence} is no text")).hint(HINT))?;
    if !text.trim_start().starts_with("-----BEGIN") {
        return parse_keys(whence, text).map(Content::Keys);
    }
    let unusable = || {
        Error::invalid(format!("{whence} holds an SSH key of a kind that cannot be used")).hint("Usable are ed25519 and RSA, in the format that ssh-keygen writes today (ssh-keygen -p -f FILE converts).")
    };
    match age::ssh::Identity::from_buffer(text.as_bytes(), None) {
        Ok(key @ age::ssh::Identity::Unencrypted(_)) => {
            let recipient = Recipient::of_ssh(key.clone()).ok_or_else(unusable)?;
            let key = whole_ssh_key(whence, key, recipient)?;
            Ok(Content::Keys(vec![key]))
        }
        Ok(key @ age::ssh::Identity::Encrypted(_)) => Ok(Content::LockedSsh(Box::new(key))),
        Ok(age::ssh::Identity::Unsupported(key)) if is_known(&key) => Err(unusable()),
        _ => Err(
            Error::corrupt(format!("{whence} does not hold a valid SSH private key")).hint(HINT),
        ),
    }
}

/// Whether such keys are made, though none that could be used here. Of any other kind: damage.
fn is_known(key: &UnsupportedKey) -> bool {
    match key {
        UnsupportedKey::Type(kind) => kind == "ssh-dss" || kind.starts_with("ecdsa-sha2-"),
        UnsupportedKey::EncryptedPem
        | UnsupportedKey::EncryptedSsh(_)
        | UnsupportedKey::Hardware(_) => true,
    }
}

/// Lines `AGE-SECRET-KEY-1...`, comments and empty lines, as `age-keygen` writes them.
fn parse_keys(whence: &str, text: &str) -> Result<Vec<PrivateKey>> {
    let mut keys = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The line itself may be secret.
        let identity: age::x25519::Identity = line.parse().map_err(|_| {
            Error::corrupt(format!(
                "{whence} does not hold a valid private key in line {}",
                number + 1
            ))
            .hint(HINT)
        })?;
        keys.push(PrivateKey {
            recipient: Recipient::of_x25519(&identity),
            identity: Box::new(identity),
        });
    }
    if keys.is_empty() {
        return Err(Error::invalid(format!("{whence} holds no private key")).hint(HINT));
    }
    Ok(keys)
}

/// What `age` says, in one line.
pub(super) fn said(error: &dyn std::fmt::Display) -> String {
    one_line(&error.to_string())
}

fn wrong_passphrase(whence: &str) -> Error {
    Error::invalid(format!("the passphrase does not open {whence}")).hint(
        "If it is the right one, the locked part of the file is damaged: use another copy of it.",
    )
}

fn open_file(whence: &str, file: &[u8], passphrase: &Passphrase) -> Result<Vec<PrivateKey>> {
    let damaged =
        |why: &dyn std::fmt::Display| Error::corrupt(format!("{whence} is damaged: {}", said(why)));
    let armored = age::armor::ArmoredReader::new(file);
    let decryptor =
        age::Decryptor::new_buffered(io::BufReader::new(armored)).map_err(|e| damaged(&e))?;
    if !decryptor.is_scrypt() {
        return Err(Error::invalid(format!(
            "{whence} is encrypted for a key, not with a passphrase"
        ))
        .hint(HINT));
    }
    let mut opener = age::scrypt::Identity::new(passphrase.secret());
    opener.set_max_work_factor(WORK_FACTOR_MAX);
    let reader = match decryptor.decrypt(std::iter::once(&opener as &dyn age::Identity)) {
        Ok(reader) => reader,
        Err(DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed) => {
            return Err(wrong_passphrase(whence));
        }
        Err(DecryptError::ExcessiveWork { required, .. }) => {
            return Err(Error::refused(format!(
                "{whence} asks for a work factor of 2^{required}, at most 2^{WORK_FACTOR_MAX} is accepted"
            ))
            .hint("Open it with age and lock it again; if it lies in the repository, somebody may mean harm."));
        }
        Err(e) => return Err(damaged(&e)),
    };
    let mut plain = Zeroizing::new(String::new());
    reader
        .take(PLAIN_BYTES_MAX)
        .read_to_string(&mut plain)
        .map_err(|e| damaged(&e))?;
    parse_keys(whence, &plain)
}

fn open_ssh(
    whence: &str,
    key: age::ssh::Identity,
    passphrase: &Passphrase,
) -> Result<Vec<PrivateKey>> {
    let age::ssh::Identity::Encrypted(locked) = &key else {
        return Err(Error::internal(format!("{whence} is not locked")));
    };
    let opened = match locked.decrypt(passphrase.secret()) {
        Ok(opened) => opened,
        Err(DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed) => {
            return Err(wrong_passphrase(whence));
        }
        Err(e) => {
            let why = said(&e);
            return Err(Error::corrupt(format!("{whence} is damaged: {why}")));
        }
    };
    let opened = age::ssh::Identity::from(opened);
    let recipient = Recipient::of_ssh(opened.clone())
        .ok_or_else(|| Error::corrupt(format!("{whence} has a damaged public half")))?;
    Ok(vec![whole_ssh_key(whence, opened, recipient)?])
}

/// Nothing in an SSH key's file protects it from damage: so it has to open something.
fn whole_ssh_key(
    whence: &str,
    identity: age::ssh::Identity,
    recipient: Recipient,
) -> Result<PrivateKey> {
    let wrapped = recipient.encrypt(b"a try")?;
    let opens = age::Decryptor::new_buffered(wrapped.as_slice())
        .and_then(|tried| tried.decrypt(std::iter::once(&identity as &dyn age::Identity)))
        .is_ok();
    if !opens {
        return Err(Error::corrupt(format!(
            "{whence} is damaged: its two halves do not belong together"
        )));
    }
    Ok(PrivateKey {
        recipient,
        identity: Box::new(identity),
    })
}
