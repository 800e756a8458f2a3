//! Makes identities, and locks them with a passphrase.

use std::io::Write as _;

use age::{
    armor::{ArmoredWriter, Format},
    secrecy::ExposeSecret as _,
};
use zeroize::Zeroizing;

use super::{Passphrase, recipient::encrypt};
use crate::error::{Error, Result};

/// Work factor of scrypt as a power of two: 256 MiB and about a second, as `age` has it by default.
const WORK_FACTOR: u8 = if cfg!(test) { 10 } else { 18 };

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
    let created = jiff::Timestamp::now();
    let file = Zeroizing::new(format!(
        "# created: {created:.0}\n# public key: {recipient}\n{}\n",
        identity.to_string().expose_secret()
    ));
    GeneratedIdentity { file, recipient }
}

/// The content of an identity file that the passphrase locks, in letters: `age -d` opens it too.
pub async fn lock_identity(
    identity: &GeneratedIdentity,
    passphrase: &Passphrase,
) -> Result<Vec<u8>> {
    let locked = lock(identity, passphrase).await?;
    let mut armored = Vec::new();
    ArmoredWriter::wrap_output(&mut armored, Format::AsciiArmor)
        .and_then(|mut writer| {
            writer.write_all(&locked)?;
            writer.finish().map(drop)
        })
        .map_err(|e| Error::internal(format!("cannot write an identity: {e}")))?;
    Ok(armored)
}

/// The same, in `age`'s binary form.
pub(super) async fn lock(identity: &GeneratedIdentity, passphrase: &Passphrase) -> Result<Vec<u8>> {
    let plain = identity.file.clone();
    let secret = passphrase.secret();
    let work = move || {
        let mut locker = age::scrypt::Recipient::new(secret);
        locker.set_work_factor(WORK_FACTOR);
        encrypt(&locker, plain.as_bytes()).map_err(|e| e.context("cannot lock an identity"))
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal(format!("the thread that locks an identity died: {e}")))?
}
