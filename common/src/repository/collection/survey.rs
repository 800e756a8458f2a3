//! What a shard holds: which backups exist, which are removed, and whether all that is so sure
//! that something may be deleted.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{CollectionRequest, left::pack_id, reach::Reach, stopped};
use crate::{
    error::{Error, Result},
    ids::{BackupName, ShardId},
    repository::{header::Repository, layout, store::Listed},
};

/// A shard before a batch.
pub(super) struct Survey {
    pub reach: Reach,
    /// Removed backups whose time has come and of which something may be left, with what lies
    /// beside their marks.
    pub removed: BTreeMap<BackupName, Vec<Listed>>,
    /// Removed backups that are kept for now, with all that is there of them.
    pub kept: BTreeMap<BackupName, Vec<Listed>>,
    /// Those of them of which the caller has said nothing.
    pub too_young: BTreeSet<BackupName>,
}

/// What lies under `backups/<name>/`.
#[derive(Default)]
struct Described {
    has_manifest: bool,
    has_mark: bool,
    /// All but the mark.
    objects: Vec<Listed>,
}

impl Survey {
    pub async fn of(
        repository: &Repository,
        shard: &ShardId,
        request: &CollectionRequest,
    ) -> Result<Self> {
        let survey = Self::look(repository, shard, request).await;
        // An empty mount point has no manifest either: that is another thing to be told.
        repository.check_there().await?;
        survey
    }

    async fn look(
        repository: &Repository,
        shard: &ShardId,
        request: &CollectionRequest,
    ) -> Result<Self> {
        let mut described = list_described(repository, shard, &request.expected).await?;
        let with_packs = list_with_packs(repository, shard).await?;
        for name in &with_packs {
            described.entry(name.clone()).or_default();
        }
        let mut removed = BTreeMap::new();
        let mut kept = BTreeMap::new();
        let mut too_young = BTreeSet::new();
        for (name, found) in described {
            if request.expected.contains_key(&name) {
                continue;
            }
            if !found.has_mark {
                check_nothing(repository, shard, &name, &found).await?;
                continue;
            }
            if found.objects.is_empty() && !with_packs.contains(&name) {
                continue;
            }
            let is_named = request.keep.contains(&name);
            if is_named || !request.may_go.contains(&name) {
                if !is_named {
                    too_young.insert(name.clone());
                }
                let mut objects = found.objects;
                let packs = layout::backup_packs(shard, &name);
                objects.extend(repository.store().list(&packs).await?);
                kept.insert(name, objects);
            } else {
                removed.insert(name, found.objects);
            }
        }
        let kept_names: BTreeSet<BackupName> = kept.keys().cloned().collect();
        let reach = Reach::of(repository, shard, request, &kept_names).await?;
        Ok(Self {
            reach,
            removed,
            kept,
            too_young,
        })
    }

    /// Which of these are gone once everything is deleted that may go: no manifest reaches them, and
    /// they do not lie among what is kept. Nobody refers to them any more, so none of it comes back.
    pub fn damaged_gone(&self, damaged: &BTreeSet<Uuid>) -> BTreeSet<Uuid> {
        let kept = self.kept.values().flatten();
        let kept: BTreeSet<Uuid> = kept.filter_map(|object| pack_id(&object.key)).collect();
        let stays = |id: &Uuid| self.reach.has_damaged(id) || kept.contains(id);
        damaged.iter().filter(|id| !stays(id)).copied().collect()
    }
}

/// Of backups in `expected` only that they are there.
async fn list_described(
    repository: &Repository,
    shard: &ShardId,
    expected: &BTreeMap<BackupName, String>,
) -> Result<BTreeMap<BackupName, Described>> {
    let mut described: BTreeMap<BackupName, Described> = BTreeMap::new();
    let root = layout::backups(shard);
    for object in repository.store().list(&root).await? {
        let Some(name) = name_in(&root, &object) else {
            tracing::warn!(key = %object.key, "not an object of a backup in the repository");
            continue;
        };
        let found = described.entry(name.clone()).or_default();
        if object.key == layout::removed(shard, &name) {
            found.has_mark = true;
            continue;
        }
        found.has_manifest |= object.key == layout::manifest(shard, &name);
        if !expected.contains_key(&name) {
            found.objects.push(object);
        }
    }
    Ok(described)
}

/// The backup whose folder below `root` an object lies in.
fn name_in(root: &object_store::path::Path, object: &Listed) -> Option<BackupName> {
    let mut rest = object.key.prefix_match(root)?;
    rest.next()?.as_ref().parse().ok()
}

async fn list_with_packs(repository: &Repository, shard: &ShardId) -> Result<BTreeSet<BackupName>> {
    let folders = repository.store().folder(&layout::packs(shard)).await?;
    let names = folders.folders.iter().filter_map(|folder| {
        let name = folder.parse();
        if let Err(error) = &name {
            tracing::warn!(%error, "not a backup's folder in the repository");
        }
        name.ok()
    });
    Ok(names.collect())
}

/// What is neither removed nor known to exist keeps everybody from deleting, unless it is nothing:
/// an unknown manifest needs nobody knows what; a backup that was only begun may be completed yet.
async fn check_nothing(
    repository: &Repository,
    shard: &ShardId,
    name: &BackupName,
    found: &Described,
) -> Result<()> {
    if found.has_manifest {
        return Err(stopped(
            shard,
            format!("nobody has announced the manifest of backup {name}"),
        ));
    }
    let packs = layout::backup_packs(shard, name);
    if found.objects.is_empty() && !repository.store().has_any(&packs).await? {
        return Ok(());
    }
    Err(Error::refused(format!(
        "nothing is deleted in {shard} while backup {name} is begun and neither complete nor given up"
    ))
    .hint("RemoveBackup gives it up; without, that is done a day after it began."))
}
