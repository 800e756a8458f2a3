//! What can be seen of a key file without being its recipient: enough to notice that it was damaged
//! before somebody relies on it.

use uuid::Uuid;

use super::{KEY_FILE_BYTES_MAX, Unwrapped};
use crate::{
    error::{ErrorKind, Result},
    ids::{BackupName, ShardId},
    repository::{header::Repository, layout},
};

/// What stands behind the header and nonce of a key file: 72 bytes and the tag of age.
const SEALED_KEY_BYTES: usize = 72 + 16;

/// Whether a key file has the form and size of one: all that anybody but its recipient can see.
pub(in super::super) fn check_form(wrapped: &[u8]) -> std::result::Result<(), String> {
    let mut rest = wrapped;
    age::Decryptor::new_buffered(&mut rest).map_err(|e| e.to_string())?;
    match rest.len() == SEALED_KEY_BYTES {
        true => Ok(()),
        false => Err("it does not have the length of a data key".into()),
    }
}

impl Repository {
    /// Whether a recipient's key file of a session is there and, as far as can be seen from here,
    /// whole: it opens where this is the recipient, and has the form of one elsewhere.
    pub(in super::super) async fn has_good_key_file(
        &self,
        shard: &ShardId,
        backup: &BackupName,
        session: Uuid,
        fingerprint: &str,
    ) -> Result<bool> {
        let key = layout::key(shard, backup, session, fingerprint);
        let wrapped = match self.store().get(&key, KEY_FILE_BYTES_MAX).await {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
                return Ok(false);
            }
            other => other?,
        };
        let is_damaged = self.identities().is_some_and(|own| {
            let opened = own.unwrap(&wrapped, fingerprint, self.uuid(), session);
            matches!(opened, Unwrapped::Damaged(_))
        });
        Ok(!is_damaged && check_form(&wrapped).is_ok())
    }
}
