//! One shard: its backups, what they need, and every object that lies there.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Inspection, Inspector,
    key::{Object, object},
    reach::Reach,
};
use crate::{
    error::{ErrorKind, Result},
    ids::{BackupName, ShardId},
    repository::{
        EpochRecord, StoredBackup, StoredState, layout,
        object::{ObjectKind, PREFIX_BYTES, Prefix},
        store::Listed,
    },
};

const EPOCH_BYTES_MAX: u64 = 64 << 10;
const PREFIX: std::ops::Range<u64> = 0..PREFIX_BYTES as u64;

/// Looks at a shard as a whole: every object in it is needed, or unneeded, or unknown.
pub(super) async fn inspect(
    inspector: &Inspector<'_>,
    shard: &ShardId,
    backups: &[StoredBackup],
    found: &mut Inspection,
) -> Result<()> {
    let repository = inspector.repository;
    let complete = backups.iter().filter_map(|backup| match &backup.state {
        StoredState::Complete { .. } => Some(&backup.name),
        _ => None,
    });
    let reach = Reach::of(repository, shard, complete).await?;
    let states: BTreeMap<&BackupName, &StoredState> = backups
        .iter()
        .map(|backup| (&backup.name, &backup.state))
        .collect();
    for (name, refers_to) in &reach.refers {
        for other in refers_to {
            if matches!(states.get(other), None | Some(StoredState::Incomplete)) {
                found.damaged(
                    &layout::manifest(shard, other),
                    format!("is missing: backup {name} needs what {other} wrote, which is neither complete nor removed"),
                );
            }
        }
    }
    let listed = repository.store().list(&layout::shard(shard)).await?;
    let sorter = Sorter {
        shard,
        states: &states,
        reach: &reach,
        all_is_known: reach.unknown.is_empty()
            && !backups
                .iter()
                .any(|backup| matches!(backup.state, StoredState::Broken { .. })),
    };
    if !sorter.all_is_known {
        found.cannot_check(format!(
            "which packs of {shard} nobody refers to: what a damaged backup needs is not known"
        ));
    }
    let mut last_parts: BTreeMap<BackupName, u32> = BTreeMap::new();
    let mut manifests: BTreeSet<BackupName> = BTreeSet::new();
    for listed in listed {
        let object = object(shard, &listed.key);
        if let Object::Part(name, number) = &object {
            let last = last_parts.entry(name.clone()).or_default();
            *last = (*last).max(*number);
        }
        if let Object::Manifest(name) = &object {
            manifests.insert(name.clone());
        }
        if let Object::Epoch(number) = object {
            check_epoch(inspector, shard, number, found).await?;
        }
        sorter.sort(object, listed, found);
    }
    for backup in backups {
        // With a manifest it was completed since it was looked at.
        if backup.state == StoredState::Incomplete && !manifests.contains(&backup.name) {
            let last = last_parts.get(&backup.name).copied();
            check_incomplete(inspector, shard, backup, last, found).await?;
        }
    }
    repository.check_there().await
}

/// Puts each object where it belongs.
struct Sorter<'a> {
    shard: &'a ShardId,
    states: &'a BTreeMap<&'a BackupName, &'a StoredState>,
    reach: &'a Reach,
    all_is_known: bool,
}

impl Sorter<'_> {
    fn sort(&self, object: Object, listed: Listed, found: &mut Inspection) {
        let (of, is_needed) = match object {
            Object::Epoch(_) | Object::Removed(_) | Object::Later => return,
            Object::Unknown => return found.unknown.add(listed),
            Object::Manifest(name) => {
                let is_removed = matches!(self.state(&name), Some(StoredState::Removed { .. }));
                (name, !is_removed)
            }
            Object::Part(name, number) => {
                let is_needed = self.reach.has_part(&name, number);
                (name, is_needed)
            }
            Object::Pack(name, id) => {
                let is_needed = self.reach.has_pack(&name, id);
                (name, is_needed)
            }
            Object::Key(name, session) => {
                let is_needed = self.reach.has_session(&name, session);
                (name, is_needed)
            }
        };
        if is_needed {
            return;
        }
        match self.state(&of) {
            Some(StoredState::Incomplete) | None => found.unfinished.add(listed),
            // Of a damaged backup, or perhaps needed by one.
            Some(StoredState::Broken { .. }) => {}
            Some(StoredState::Complete { .. }) if self.reach.unknown.contains(&of) => {}
            _ if self.all_is_known => found.unneeded.add(listed),
            _ => tracing::debug!(shard = %self.shard, key = %listed.key, "perhaps needed"),
        }
    }

    fn state(&self, name: &BackupName) -> Option<&StoredState> {
        self.states.get(name).copied()
    }
}

/// A backup without manifest and mark is under way, or was cut off. Its manifest was lost if
/// everything was there that is written before it.
async fn check_incomplete(
    inspector: &Inspector<'_>,
    shard: &ShardId,
    backup: &StoredBackup,
    last_part: Option<u32>,
    found: &mut Inspection,
) -> Result<()> {
    let (repository, name) = (inspector.repository, &backup.name);
    let is_whole = match last_part {
        None => false,
        Some(number) => {
            let key = layout::part(shard, name, number);
            match repository.store().get_range(&key, PREFIX).await {
                Ok(bytes) => {
                    Prefix::decode(&bytes, ObjectKind::PackList, repository.uuid()).is_ok()
                }
                Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => false,
                Err(e) => return Err(e),
            }
        }
    };
    if is_whole {
        found.damaged(
            &layout::manifest(shard, name),
            "is missing, and everything that is written before it is there: it was lost, or is put this very moment",
        );
    } else {
        found.notes.push(format!(
            "backup {name} of {shard} has no manifest: it is under way, or was cut off and nobody gave it up"
        ));
    }
    Ok(())
}

async fn check_epoch(
    inspector: &Inspector<'_>,
    shard: &ShardId,
    number: u64,
    found: &mut Inspection,
) -> Result<()> {
    let key = layout::epoch(shard, number);
    let store = inspector.repository.store();
    let Some(bytes) = found.read(&key, store.get(&key, EPOCH_BYTES_MAX).await)? else {
        return Ok(());
    };
    match serde_json::from_slice::<EpochRecord>(&bytes) {
        Ok(record) if record.number == number => {}
        Ok(record) => found.damaged(&key, format!("says that it is number {}", record.number)),
        Err(e) => found.damaged(&key, format!("cannot be understood: {e}")),
    }
    Ok(())
}
