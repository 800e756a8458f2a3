//! Gets what lies beside a manifest: its parts, and the key of the session that wrote it.

use bytes::Bytes;
use object_store::path::Path;
use uuid::Uuid;

use super::{ManifestHeader, PART_BYTES_MAX, PartRecord};
use crate::{
    error::{Error, ErrorKind, Result},
    ids::{BackupName, ShardId},
    repository::{
        header::Repository,
        keys::{DataKey, KEY_FILE_BYTES_MAX, Unwrapped, WAYS_TO_AN_IDENTITY},
        layout,
        object::{ObjectKind, PREFIX_BYTES, Prefix},
        seal::Sealer,
    },
};

/// The bytes of a part: its size and hash were checked, which needs no key.
pub(in super::super) async fn get_part_object(
    repository: &Repository,
    header: &ManifestHeader,
    part: &PartRecord,
) -> Result<Bytes> {
    let key = layout::part(&header.shard, &header.name, part.number);
    let object = match repository.store().get(&key, PART_BYTES_MAX).await {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(Error::corrupt(format!(
                "object {key} is missing, which backup {} needs",
                header.name
            )));
        }
        other => other?,
    };
    let part = part.clone();
    let check = move || {
        let is_it = object.len() as u64 == part.bytes
            && blake3::hash(&object).to_hex()[..] == part.hash[..];
        match is_it {
            true => Ok(object),
            false => Err(Error::corrupt(format!(
                "object {key} is damaged: it is not the one that was written"
            ))),
        }
    };
    tokio::task::spawn_blocking(check)
        .await
        .map_err(|e| Error::internal(format!("the thread that checks a part died: {e}")))?
}

/// The payload of a part: its size, hash and seal were checked.
pub(in super::super) async fn get_part(
    repository: &Repository,
    header: &ManifestHeader,
    part: &PartRecord,
    kind: ObjectKind,
    session: (Uuid, Option<DataKey>),
) -> Result<Bytes> {
    let key = layout::part(&header.shard, &header.name, part.number);
    let object = get_part_object(repository, header, part).await?;
    let number = part.number;
    let repository_id = repository.uuid();
    let open = move || {
        let damaged = |why: String| Error::corrupt(format!("object {key} {why}"));
        let prefix = Prefix::decode(&object, kind, repository_id).map_err(damaged)?;
        let (session, data_key) = session;
        if prefix.session != session || (prefix.encrypted && data_key.is_none()) {
            return Err(damaged("belongs to another session".into()));
        }
        let sealer = Sealer::new(&prefix, data_key.as_ref())?;
        let mut sealed = object[PREFIX_BYTES..].to_vec();
        let length = sealer
            .open_with_tag(u64::from(number), &[], &mut sealed)
            .map_err(|_| damaged("is damaged: its seal does not fit".into()))?;
        sealed.truncate(length);
        Ok(Bytes::from(sealed))
    };
    tokio::task::spawn_blocking(open)
        .await
        .map_err(|e| Error::internal(format!("the thread that opens a part died: {e}")))?
}

const NOBODY_OPENS: &str = "Nobody can open it: take another one.";
const OTHER_KEYS: &str = "Use the identity of another of its recipients; with it, taking this one out and in again (docs/alarms.md) makes the file anew.";

/// The data key of a session, opened with the repository's identity.
pub(in super::super) async fn load_key(
    repository: &Repository,
    shard: &ShardId,
    name: &BackupName,
    session: Uuid,
) -> Result<DataKey> {
    let folder = layout::keys(shard, name);
    open_key(repository, &format!("backup {name}"), &folder, session)
        .await
        .map_err(|e| match e.kind() {
            ErrorKind::Corrupt if e.hint_text() == Some(NOBODY_OPENS) => e.hint("Nobody can open it: restore another backup, and take this one out of use with MarkBackupBroken."),
            _ => e,
        })
}

/// The data key of the session that wrote `what`, from the key files in `folder`.
pub(in super::super) async fn open_key(
    repository: &Repository,
    what: &str,
    folder: &Path,
    session: Uuid,
) -> Result<DataKey> {
    let Some(identities) = repository.identities() else {
        return Err(
            Error::invalid(format!("{what} is encrypted and no identity is configured")).hint(
                format!("The private key that opens it: {WAYS_TO_AN_IDENTITY}."),
            ),
        );
    };
    let files = key_files(repository, folder, session).await?;
    let mut others = 0;
    let mut broken: Option<Error> = None;
    for (file, fingerprint) in &files {
        let key = folder.clone().join(file.as_str());
        let unusable = match repository.store().get(&key, KEY_FILE_BYTES_MAX).await {
            Ok(wrapped) => {
                match identities.unwrap(&wrapped, fingerprint, repository.uuid(), session) {
                    Unwrapped::Key(data_key) => return Ok(data_key),
                    Unwrapped::NotOurs => {
                        others += 1;
                        continue;
                    }
                    Unwrapped::Damaged(why) => {
                        Error::corrupt(format!("object {key} is damaged: {why}")).hint(OTHER_KEYS)
                    }
                }
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                Error::corrupt(format!("object {key} was listed and is gone"))
                    .hint("Try again: its recipient may have been removed this very moment.")
            }
            Err(e) => e,
        };
        // Another file may still open. If none does, what may pass is the better reason.
        if !broken.as_ref().is_some_and(Error::is_retryable) {
            broken = Some(unusable);
        }
    }
    if let Some(broken) = broken {
        return Err(broken);
    }
    if others == 0 {
        return Err(
            Error::corrupt(format!("no key of {what} is left under {folder}")).hint(NOBODY_OPENS),
        );
    }
    Err(Error::refused(format!(
        "{identities} does not open {what}, which is encrypted for {others} other recipient{}",
        if others == 1 { "" } else { "s" }
    ))
    .hint("Use the private key of one of its recipients; AddRecipient opens it for another one."))
}

/// The key files of a session with the fingerprints in their names; those of our own first.
async fn key_files(
    repository: &Repository,
    folder: &Path,
    session: Uuid,
) -> Result<Vec<(String, String)>> {
    let start = format!("{}.", session.simple());
    let mut files: Vec<(String, String)> = Vec::new();
    for file in repository.store().folder(folder).await?.objects {
        if let Some(rest) = file.strip_prefix(&start) {
            let fingerprint = rest.strip_suffix(".age").unwrap_or(rest).to_owned();
            files.push((file, fingerprint));
        }
    }
    if let Some(identities) = repository.identities() {
        files.sort_by_key(|(_, fingerprint)| !identities.has(fingerprint));
    }
    Ok(files)
}
