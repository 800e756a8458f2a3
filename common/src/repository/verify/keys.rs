//! The wrapped keys of the sessions whose packs a backup needs.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{
    Depth,
    outline::{Outline, note, object_damage},
    report::{Damage, VerifyReport},
};
use crate::{
    error::{ErrorKind, Result},
    ids::BackupName,
    repository::{
        header::Repository,
        keys::{DataKey, KEY_FILE_BYTES_MAX, Unwrapped, check_form},
        layout,
        manifest::load_key,
    },
};

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
            if !check_files(repository, outline, &backup, session, report).await? {
                // No later backup may rely on what somebody can open no more.
                note_packs_of(outline, session, report);
            }
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

fn note_packs_of(outline: &Outline, session: Uuid, report: &mut VerifyReport) {
    let packs = outline.packs.iter();
    for pack in packs.filter(|pack| pack.origin.session == session) {
        let what = format!(
            "cannot be opened by every recipient: a key file of session {} is damaged or missing",
            session.simple()
        );
        report.damaged(Damage {
            pack: Some(pack.id),
            ..object_damage(&outline.pack_key(pack), what)
        });
    }
}

/// Whether every key file of a session is whole, and there is one.
async fn check_files(
    repository: &Repository,
    outline: &Outline,
    backup: &BackupName,
    session: Uuid,
    report: &mut VerifyReport,
) -> Result<bool> {
    let folder = layout::keys(&outline.header.shard, backup);
    let start = format!("{}.", session.simple());
    let files = repository.store().folder(&folder).await?.objects;
    let (mut count, mut of_others, mut are_whole) = (0, 0, true);
    for file in files.iter().filter(|file| file.starts_with(&start)) {
        count += 1;
        let key = folder.clone().join(file.as_str());
        let wrapped = match repository.store().get(&key, KEY_FILE_BYTES_MAX).await {
            // Of a recipient that was removed meanwhile.
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            other => note(other, &key, report)?,
        };
        let Some(wrapped) = wrapped else {
            are_whole = false;
            continue;
        };
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
                are_whole = false;
            }
            (Unwrapped::Key(_), Ok(())) if !is_ours(repository, fingerprint) => {
                let why = "is damaged: it is for another recipient than its name says";
                report.damaged(object_damage(&key, why));
                are_whole = false;
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
    Ok(are_whole && count > 0)
}

fn is_ours(repository: &Repository, fingerprint: &str) -> bool {
    let identities = repository.identities();
    identities.is_some_and(|identities| identities.has(fingerprint))
}
