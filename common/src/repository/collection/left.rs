//! What one removed backup has left: what of it goes, in which order, and what stays.

use std::collections::BTreeSet;

use object_store::path::Path;
use uuid::Uuid;

use super::{Batch, LeftOf, reach::Reach};
use crate::{
    error::Result,
    ids::{BackupName, ShardId},
    repository::{header::Repository, layout, store::Listed},
};

pub(super) struct Left {
    shard: ShardId,
    name: BackupName,
    /// In the order in which they go; each is gone before the next begins.
    stages: [Vec<Listed>; STAGES],
    staying: Vec<Listed>,
}

const STAGES: usize = 4;
/// The manifest first: what is half deleted must not look like a backup that lost its packs.
const MANIFEST: usize = 0;
const PARTS: usize = 1;
const PACKS: usize = 2;
/// The keys last: until then they open what is left.
const KEYS: usize = 3;

impl Left {
    /// `described`: what lies beside the mark.
    pub async fn of(
        repository: &Repository,
        shard: &ShardId,
        name: &BackupName,
        described: &[Listed],
        reach: &Reach,
    ) -> Result<Self> {
        let store = repository.store();
        store.check_no_links(&layout::backup(shard, name)).await?;
        let packs = layout::backup_packs(shard, name);
        store.check_no_links(&packs).await?;
        let mut left = Self {
            shard: shard.clone(),
            name: name.clone(),
            stages: Default::default(),
            staying: Vec::new(),
        };
        let manifest = layout::manifest(shard, name);
        for object in described {
            let stage = if object.key == manifest {
                MANIFEST
            } else {
                PARTS
            };
            left.stages[stage].push(object.clone());
        }
        let keys = layout::keys(shard, name);
        for object in store.list(&packs).await? {
            let (stage, stays) = if object.key.prefix_matches(&keys) {
                (KEYS, reach.has_session(name, session_of(&object.key)))
            } else {
                let id = pack_id(&object.key);
                (PACKS, id.is_some_and(|id| reach.has_pack(name, id)))
            };
            if stays {
                left.staying.push(object);
            } else {
                left.stages[stage].push(object);
            }
        }
        Ok(left)
    }

    pub fn summary(&self, needed_by: BTreeSet<BackupName>) -> LeftOf {
        let bytes = |objects: &[Listed]| objects.iter().map(|object| object.bytes).sum::<u64>();
        LeftOf {
            objects: self.stages.iter().map(|stage| stage.len() as u64).sum(),
            bytes: self.stages.iter().map(|stage| bytes(stage)).sum(),
            staying_objects: self.staying.len() as u64,
            staying_bytes: bytes(&self.staying),
            needed_by,
            is_kept: false,
        }
    }

    /// Deletes what still fits into the batch; whether that was all.
    pub async fn delete(&self, repository: &Repository, batch: &mut Batch) -> Result<bool> {
        for stage in &self.stages {
            let fitting: Vec<Path> = stage
                .iter()
                .take_while(|object| batch.takes(object.bytes))
                .map(|object| object.key.clone())
                .collect();
            let whole = fitting.len() == stage.len();
            let deletes = !fitting.is_empty();
            repository.store().delete(fitting).await?;
            if deletes {
                crate::fault::reach("coordinator.sweep.middle").await?;
            }
            if !whole {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes what killed writers left where no listing shows it. Only when nobody needs anything
    /// of it, by the manifests: a listing that shows nothing may have been cut short.
    pub async fn clear(&self, repository: &Repository) -> Result<()> {
        let store = repository.store();
        store
            .clear_leftovers(&layout::parts(&self.shard, &self.name))
            .await?;
        store
            .clear_leftovers(&layout::backup_packs(&self.shard, &self.name))
            .await
    }
}

/// Of an object below a backup's packs; not of a key file there.
pub(super) fn pack_id(key: &Path) -> Option<Uuid> {
    Uuid::try_parse(key.filename()?).ok()
}

/// Of `<session id>.<recipient>.age`.
fn session_of(key: &Path) -> Option<Uuid> {
    let (session, _) = key.filename()?.split_once('.')?;
    Uuid::try_parse(session).ok()
}
