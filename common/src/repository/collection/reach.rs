//! What the backups that exist need of what others have put.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures::{StreamExt, TryStreamExt};
use uuid::Uuid;

use super::{CollectionRequest, stopped};
use crate::{
    error::{Error, ErrorKind, Result},
    ids::{BackupName, ShardId},
    repository::{
        header::Repository,
        manifest::{PackRecord, read_needed_packs},
    },
};

/// Manifests that are read at once: each may be of 4 MiB, and a part of its pack list of 8 MiB.
const READ_AT_ONCE: usize = 4;

/// Packs and keys that must stay. Bounded by the number of packs: 16 bytes each.
#[derive(Debug, Default)]
pub(super) struct Reach {
    of: BTreeMap<BackupName, Needed>,
    /// The damaged packs among all that is reached.
    damaged: BTreeSet<Uuid>,
}

/// What is needed of what lies under one backup's name.
#[derive(Debug, Default)]
struct Needed {
    by: BTreeSet<BackupName>,
    packs: HashSet<Uuid>,
    sessions: BTreeSet<Uuid>,
}

impl Reach {
    /// Of the backups that exist, whose manifests must be the catalogue's, and of those in
    /// `kept`, which somebody may still be reading and of which nobody depends on.
    pub async fn of(
        repository: &Repository,
        shard: &ShardId,
        request: &CollectionRequest,
        kept: &BTreeSet<BackupName>,
    ) -> Result<Self> {
        let mut reach = Self::default();
        let mut read = futures::stream::iter(request.expected.clone())
            .map(|(name, hash)| async move {
                match read_needed_packs(repository, shard, &name, Some(&hash)).await {
                    Ok(packs) => Ok((name, packs)),
                    Err(e) => Err(not_believed(shard, &name, &e)),
                }
            })
            .buffer_unordered(READ_AT_ONCE);
        while let Some((name, packs)) = read.try_next().await? {
            reach.add(&name, &packs, request);
        }
        for name in kept {
            match read_needed_packs(repository, shard, name, None).await {
                Ok(packs) => reach.add(name, &packs, request),
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
                    tracing::debug!(%shard, backup = %name, "a removed backup protects only what it wrote: {e}");
                }
                Err(e) => return Err(e),
            }
        }
        Ok(reach)
    }

    /// What lies under the name of a backup that exists is not deleted, and not noted here.
    fn add(&mut self, by: &BackupName, packs: &[PackRecord], request: &CollectionRequest) {
        for pack in packs {
            let origin = &pack.origin;
            if request.damaged.contains(&pack.id) {
                self.damaged.insert(pack.id);
            }
            if request.expected.contains_key(&origin.backup) {
                continue;
            }
            let needed = self.of.entry(origin.backup.clone()).or_default();
            needed.packs.insert(pack.id);
            needed.sessions.insert(origin.session);
            if !needed.by.contains(by) {
                needed.by.insert(by.clone());
            }
        }
    }

    /// Whether anything that lies under the name of `origin` is needed.
    pub fn has(&self, origin: &BackupName) -> bool {
        self.of.contains_key(origin)
    }

    pub fn has_damaged(&self, id: &Uuid) -> bool {
        self.damaged.contains(id)
    }

    pub fn has_pack(&self, origin: &BackupName, id: Uuid) -> bool {
        self.of
            .get(origin)
            .is_some_and(|needed| needed.packs.contains(&id))
    }

    /// Whether the keys of a session open anything that is needed. Those of an unknown one may.
    pub fn has_session(&self, origin: &BackupName, session: Option<Uuid>) -> bool {
        self.of
            .get(origin)
            .is_some_and(|needed| session.is_none_or(|id| needed.sessions.contains(&id)))
    }

    /// The backups that need something of what `origin` put.
    pub fn needing(&self, origin: &BackupName) -> BTreeSet<BackupName> {
        self.of
            .get(origin)
            .map(|needed| needed.by.clone())
            .unwrap_or_default()
    }
}

fn not_believed(shard: &ShardId, name: &BackupName, error: &Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => stopped(shard, format!("the manifest of backup {name} is missing")),
        ErrorKind::Corrupt => stopped(
            shard,
            format!("backup {name} cannot be believed: {}", error.message()),
        ),
        _ => error.clone(),
    }
}
