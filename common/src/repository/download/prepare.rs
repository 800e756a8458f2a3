//! What is checked before the first byte is written: that every pack is there with its size.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use crate::{
    error::{Error, Result},
    repository::{header::Repository, layout, manifest::Manifest},
};

/// Finds packs that are missing or cut short before anything is restored.
pub(super) async fn check_packs(repository: &Repository, manifest: &Manifest) -> Result<()> {
    let shard = &manifest.header.shard;
    let backups: BTreeSet<_> = manifest.packs.iter().map(|p| &p.origin.backup).collect();
    let mut sizes: HashMap<Uuid, u64> = HashMap::new();
    for backup in backups {
        let prefix = layout::backup_packs(shard, backup);
        for object in repository.store().list(&prefix).await? {
            if let Some(id) = object.key.filename().and_then(|n| Uuid::try_parse(n).ok()) {
                sizes.insert(id, object.bytes);
            }
        }
    }
    for pack in &manifest.packs {
        let key = layout::pack(shard, &pack.origin.backup, pack.id);
        let name = &manifest.header.name;
        match sizes.get(&pack.id) {
            Some(bytes) if *bytes == u64::from(pack.bytes) => {}
            Some(bytes) => {
                return Err(Error::corrupt(format!(
                    "object {key}, which backup {name} needs, is damaged: it has {bytes} bytes, not {}",
                    pack.bytes
                )));
            }
            None => {
                return Err(Error::corrupt(format!(
                    "object {key} is missing, which backup {name} needs"
                )));
            }
        }
    }
    Ok(())
}
