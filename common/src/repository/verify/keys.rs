//! The wrapped keys of the sessions whose packs a backup needs.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{
    Depth,
    outline::{Outline, note, object_damage},
    report::VerifyReport,
};
use crate::{
    error::{ErrorKind, Result},
    ids::BackupName,
    repository::{
        header::Repository,
        keys::{DataKey, KEY_FILE_BYTES_MAX, Unwrapped},
        layout,
        manifest::load_key,
    },
};

/// What stands behind the header and nonce of a key file: 72 bytes and the tag of age.
const SEALED_KEY_BYTES: usize = 72 + 16;

/// The data keys that were opened.
#[derive(Default)]
pub(super) struct Keys(BTreeMap<Uuid, DataKey>);

impl Keys {
    /// Looks at every key file of every session; from [`Depth::Chunks`] on each session must open.
    pub async fn check(
        repository: &Repository,
        outline: &Outline,
        depth: Depth,
        report: &mut VerifyReport,
    ) -> Result<Self> {
        let mut keys = Self::default();
        for (backup, session) in sessions(outline) {
            check_files(repository, outline, &backup, session, report).await?;
            if depth < Depth::Chunks {
                continue;
            }
            let shard = &outline.header.shard;
            match load_key(repository, shard, &backup, session).await {
                Ok(key) => {
                    keys.0.insert(session, key);
                }
                // Which file is to blame was found before.
                Err(e) if e.kind() == ErrorKind::Corrupt => {
                    report.cannot_check(format!(
                        "what session {} of {backup} wrote: {}",
                        session.simple(),
                        e.message()
                    ));
                }
                Err(e) => return Err(e),
            }
        }
        Ok(keys)
    }

    pub fn get(&self, session: Uuid) -> Option<&DataKey> {
        self.0.get(&session)
    }
}

/// The sessions that encrypted anything of the backup, and under which names their keys lie.
fn sessions(outline: &Outline) -> BTreeSet<(BackupName, Uuid)> {
    let own = outline
        .prefix
        .encrypted
        .then(|| (outline.header.name.clone(), outline.prefix.session));
    let origins = outline.packs.iter().map(|pack| &pack.origin);
    origins
        .filter(|origin| origin.encrypted)
        .map(|origin| (origin.backup.clone(), origin.session))
        .chain(own)
        .collect()
}

async fn check_files(
    repository: &Repository,
    outline: &Outline,
    backup: &BackupName,
    session: Uuid,
    report: &mut VerifyReport,
) -> Result<()> {
    let folder = layout::keys(&outline.header.shard, backup);
    let start = format!("{}.", session.simple());
    let files = repository.store().folder(&folder).await?.objects;
    let mut count = 0;
    let mut of_others = 0;
    for file in files.iter().filter(|file| file.starts_with(&start)) {
        count += 1;
        let key = folder.clone().join(file.as_str());
        let wrapped = match repository.store().get(&key, KEY_FILE_BYTES_MAX).await {
            // Of a recipient that was removed meanwhile.
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            other => note(other, &key, report)?,
        };
        let Some(wrapped) = wrapped else { continue };
        report.bytes_read += wrapped.len() as u64;
        let name = &file[start.len()..];
        let fingerprint = name.strip_suffix(".age").unwrap_or(name);
        let opened = match repository.identities() {
            Some(identities) => {
                identities.unwrap(&wrapped, fingerprint, repository.uuid(), session)
            }
            None => Unwrapped::NotOurs,
        };
        match (opened, check_form(&wrapped)) {
            (Unwrapped::Damaged(why), _) | (_, Err(why)) => {
                report.damaged(object_damage(&key, format!("is damaged: {why}")));
            }
            (Unwrapped::Key(_), Ok(())) if !is_ours(repository, fingerprint) => {
                let why = "is damaged: it is for another recipient than its name says";
                report.damaged(object_damage(&key, why));
            }
            (Unwrapped::Key(_), Ok(())) => {}
            (Unwrapped::NotOurs, Ok(())) => of_others += 1,
        }
    }
    if count == 0 {
        let key = folder.join(format!("{start}*.age"));
        report.damaged(object_damage(
            &key,
            "is missing: no key of the session is left",
        ));
    }
    if of_others > 0 {
        report.cannot_check(format!(
            "{of_others} key files of {backup} for other recipients: only their form was looked at"
        ));
    }
    Ok(())
}

fn is_ours(repository: &Repository, fingerprint: &str) -> bool {
    let identities = repository.identities();
    identities.is_some_and(|identities| identities.has(fingerprint))
}

/// Whether a key file has the form and size of one: all that anybody but its recipient can see.
fn check_form(wrapped: &[u8]) -> std::result::Result<(), String> {
    let mut rest = wrapped;
    age::Decryptor::new_buffered(&mut rest).map_err(|e| e.to_string())?;
    match rest.len() == SEALED_KEY_BYTES {
        true => Ok(()),
        false => Err("it does not have the length of a data key".into()),
    }
}
