//! Looks at a repository as a whole, with no coordinator in sight and without writing to it: what is
//! damaged, what is missing, what nobody refers to, what nobody knows, and what could not be
//! checked. Needs no key; with one it looks further.
//!
//! What fails for another reason than damage is an error. What is found is bounded: all is counted,
//! the first of it is named.

mod backup;
mod coordinator;
mod key;
mod reach;
mod shard;

use object_store::path::Path;
use tokio_util::sync::CancellationToken;

use super::{
    header::Repository,
    layout,
    progress::Progress,
    scan::{StoredBackup, StoredState},
    store::Listed,
    verify::{Seen, Verifier, VerifyReport},
};
use crate::{
    error::{Error, ErrorKind, Result},
    ids::{BackupName, ShardId},
};

/// Objects that are named of each sort.
const NAMED_MAX: usize = 1000;
const OWNER_BYTES_MAX: u64 = 64 << 10;
/// What may lie beside the keyspaces: of this version, or of a later one.
const PLACES: [&str; 7] = [
    "keyspaces",
    "owners",
    "probes",
    "identities",
    "recipients",
    "snapshots",
    "coordinator",
];

/// How much is looked at.
#[derive(Clone, Debug, Default)]
pub struct InspectOptions {
    /// Unset: all of them.
    pub shard: Option<ShardId>,
    /// Unset: all of them, and whatever else lies there.
    pub backup: Option<BackupName>,
    /// Read every byte, not only what describes it.
    pub read_data: bool,
    /// Packs in memory at once.
    pub concurrency: usize,
}

/// An object with which something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its key.
    pub object: String,
    pub what: String,
}

/// Objects of one sort.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    pub count: u64,
    pub bytes: u64,
    /// The keys of the first of them.
    pub named: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct InspectedBackup {
    pub shard: ShardId,
    pub name: BackupName,
    pub state: StoredState,
    /// What was read of it; of complete ones only.
    pub report: Option<VerifyReport>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Inspection {
    pub backups: Vec<InspectedBackup>,
    /// Each object once, the first thousand of them.
    pub damage: Vec<Finding>,
    pub damaged: u64,
    seen: Seen,
    /// What removed backups have left, and whatever else no backup refers to.
    pub unneeded: Objects,
    /// Of backups without manifest and mark.
    pub unfinished: Objects,
    /// No object of the format has such a key.
    pub unknown: Objects,
    pub notes: Vec<String>,
    /// What could not be checked, and why.
    pub unchecked: Vec<String>,
}

struct Inspector<'a> {
    repository: &'a Repository,
    options: &'a InspectOptions,
    verifier: Verifier<'a>,
}

/// Looks at the repository, or at a part of it.
///
/// A backup that is asked for by name and is not complete is [`ErrorKind::NotFound`].
pub async fn inspect(
    repository: &Repository,
    options: &InspectOptions,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Inspection> {
    let mut inspector = Inspector {
        repository,
        options,
        verifier: Verifier::new(repository, progress, cancel),
    };
    let mut found = Inspection::default();
    let shards = match &options.shard {
        Some(shard) => vec![shard.clone()],
        None => {
            inspector.look_around(&mut found).await?;
            repository.shards().await?
        }
    };
    for shard in &shards {
        if cancel.is_cancelled() {
            return Err(Error::cancelled("the check was cancelled"));
        }
        let backups = repository.scan(shard).await?;
        // First, because reading back may take hours, and what lies there changes.
        if options.backup.is_none() {
            shard::inspect(&inspector, shard, &backups, &mut found).await?;
        }
        inspector.read_back(shard, &backups, &mut found).await?;
    }
    repository.check_there().await?;
    Ok(found)
}

impl Inspector<'_> {
    async fn read_back(
        &mut self,
        shard: &ShardId,
        backups: &[StoredBackup],
        found: &mut Inspection,
    ) -> Result<()> {
        let options = self.options;
        let wanted = |backup: &&StoredBackup| match &options.backup {
            Some(name) => backup.name == *name,
            None => true,
        };
        let mut is_there = options.backup.is_none();
        for backup in backups.iter().filter(wanted) {
            is_there |= matches!(
                backup.state,
                StoredState::Complete { .. } | StoredState::Broken { .. }
            );
            backup::inspect(self, shard, backup, found).await?;
        }
        match (&options.backup, is_there) {
            (Some(name), false) => Err(Error::not_found(format!(
                "{shard} has no complete backup {name}"
            ))),
            _ => Ok(()),
        }
    }

    /// What lies beside the shards.
    async fn look_around(&self, found: &mut Inspection) -> Result<()> {
        let store = self.repository.store();
        let top = store.folder(&Path::default()).await?;
        let unknown = top
            .folders
            .iter()
            .filter(|name| !PLACES.contains(&name.as_str()))
            .chain(top.objects.iter().filter(|name| *name != "seawall.json"));
        for name in unknown {
            for listed in store.list(&Path::from(name.as_str())).await? {
                found.unknown.add(listed);
            }
            if top.objects.contains(name) {
                found.unknown.add(Listed {
                    key: Path::from(name.as_str()),
                    bytes: 0,
                });
            }
        }
        let mut has_owner = false;
        for listed in store.list(&layout::owners()).await? {
            let key = listed.key.clone();
            let name = key.filename().unwrap_or_default();
            let Some(number) = layout::number(name, 20) else {
                found.unknown.add(listed);
                continue;
            };
            has_owner = true;
            let Some(bytes) = found.read(&key, store.get(&key, OWNER_BYTES_MAX).await)? else {
                continue;
            };
            match serde_json::from_slice::<super::Owner>(&bytes) {
                Ok(owner) if owner.number == number => {}
                Ok(owner) => {
                    found.damaged(&key, format!("says that it is number {}", owner.number))
                }
                Err(e) => found.damaged(&key, format!("cannot be understood: {e}")),
            }
        }
        coordinator::inspect(store, found).await?;
        if !has_owner {
            found
                .notes
                .push("no coordinator group owns the repository".to_owned());
        }
        Ok(())
    }
}

impl Inspection {
    /// Nothing is damaged or missing of what was looked at.
    pub fn is_clean(&self) -> bool {
        self.damaged == 0
    }

    fn damaged(&mut self, key: &Path, what: impl Into<String>) {
        self.note_damage(key.to_string(), what.into());
    }

    fn note_damage(&mut self, object: String, what: String) {
        // Several backups may reach it.
        if !self.seen.add(&object) {
            return;
        }
        self.damaged += 1;
        if self.damage.len() < NAMED_MAX {
            self.damage.push(Finding { object, what });
        }
    }

    /// What was found in one backup. A report names only the first of it, too; what it remembers of
    /// the rest is not kept for each backup.
    fn add_report(&mut self, shard: &ShardId, mut report: VerifyReport) -> VerifyReport {
        for damage in &report.damage {
            self.note_damage(damage.object.clone(), damage.what.clone());
        }
        let seen = std::mem::take(&mut report.seen);
        self.damaged += self.seen.add_all(seen);
        for what in &report.unchecked {
            self.cannot_check(format!("{} of {shard}: {what}", report.backup));
        }
        report
    }

    fn cannot_check(&mut self, what: String) {
        if self.unchecked.len() < NAMED_MAX {
            self.unchecked.push(what);
        }
    }

    /// What was read; what is damaged is noted, what has gone since it was listed is nothing.
    fn read<T>(&mut self, key: &Path, read: Result<T>) -> Result<Option<T>> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) if e.kind() == ErrorKind::Corrupt => {
                self.note_damage(key.to_string(), e.message().to_owned());
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }
}

impl Objects {
    fn add(&mut self, listed: Listed) {
        self.count += 1;
        self.bytes += listed.bytes;
        if self.named.len() < NAMED_MAX {
            self.named.push(listed.key.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::verify::Damage;

    /// Named is a thousand of them, by the report and by the whole.
    #[test]
    fn what_is_found_beyond_a_thousand_is_counted_and_counts_once() {
        let shard: ShardId = "commerce/0".parse().unwrap();
        let backup = "2026-11-21.031500.zone1-101".parse().unwrap();
        let mut report = VerifyReport::new(&backup, 100, 0);
        for n in 0..1500 {
            report.damaged(Damage {
                object: format!("packs/{n}"),
                what: "is missing".into(),
                pack: None,
            });
        }
        let mut found = Inspection::default();
        found.note_damage("packs/7".into(), "is cut short".into());
        for _ in 0..2 {
            let kept = found.add_report(&shard, report.clone());
            assert_eq!(kept.seen, Seen::default());
        }
        assert_eq!((found.damaged, found.damage.len()), (1500, NAMED_MAX));
        found.note_damage("packs/1499".into(), "is cut short".into());
        assert_eq!(found.damaged, 1500);
    }
}
