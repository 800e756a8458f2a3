//! What the complete backups of a shard need, by their clear headers and pack lists: no key is
//! needed to know it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use uuid::Uuid;

use crate::{
    error::{Error, ErrorKind, Result},
    ids::{BackupName, ShardId},
    repository::{
        header::Repository,
        layout,
        manifest::{MANIFEST_BYTES_MAX, check_origins, decode_header, get_pack_list},
    },
};

/// What is needed of what lies under the backups' names.
#[derive(Debug, Default)]
pub(super) struct Reach {
    parts: BTreeMap<BackupName, BTreeSet<u32>>,
    packs: HashSet<(BackupName, Uuid)>,
    sessions: BTreeSet<(BackupName, Uuid)>,
    /// Who needs packs of whom.
    pub refers: BTreeMap<BackupName, BTreeSet<BackupName>>,
    /// Backups of which it could not be read: what they need is not known.
    pub unknown: Vec<BackupName>,
}

impl Reach {
    pub async fn of(
        repository: &Repository,
        shard: &ShardId,
        complete: impl Iterator<Item = &BackupName>,
    ) -> Result<Self> {
        let mut reach = Self::default();
        for name in complete {
            match reach.add(repository, shard, name).await {
                Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                    reach.unknown.push(name.clone());
                }
                other => other?,
            }
        }
        Ok(reach)
    }

    async fn add(
        &mut self,
        repository: &Repository,
        shard: &ShardId,
        name: &BackupName,
    ) -> Result<()> {
        let key = layout::manifest(shard, name);
        let object = repository.store().get(&key, MANIFEST_BYTES_MAX).await?;
        let damaged = |why: String| Error::corrupt(format!("object {key} {why}"));
        let (prefix, header, _) =
            decode_header(&object, repository.uuid(), shard, name).map_err(damaged)?;
        let mut packs = Vec::new();
        for part in &header.pack_lists {
            packs.extend(get_pack_list(repository, &header, &prefix, part).await?);
        }
        check_origins(&header, &prefix, &packs).map_err(damaged)?;
        let parts = header.lists.iter().chain(&header.pack_lists);
        self.parts
            .insert(name.clone(), parts.map(|part| part.number).collect());
        self.sessions.insert((name.clone(), prefix.session));
        for pack in &packs {
            let origin = &pack.origin;
            self.packs.insert((origin.backup.clone(), pack.id));
            if !self
                .sessions
                .contains(&(origin.backup.clone(), origin.session))
            {
                self.sessions
                    .insert((origin.backup.clone(), origin.session));
            }
        }
        self.refers
            .insert(name.clone(), header.refers_to.into_iter().collect());
        Ok(())
    }

    pub fn has_part(&self, of: &BackupName, number: u32) -> bool {
        self.parts
            .get(of)
            .is_some_and(|parts| parts.contains(&number))
    }

    pub fn has_pack(&self, of: &BackupName, id: Uuid) -> bool {
        self.packs.contains(&(of.clone(), id))
    }

    pub fn has_session(&self, of: &BackupName, session: Uuid) -> bool {
        self.sessions.contains(&(of.clone(), session))
    }
}
