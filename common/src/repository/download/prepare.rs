//! What is checked before the first byte is written: that every pack is there with its size, and
//! that there is room.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::sys::statvfs::statvfs;
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    repository::{header::Repository, layout, manifest::Manifest},
};

/// What a file takes besides its bytes, at most: its last block and its entry.
const FILE_OVERHEAD_BYTES: u64 = 4096;

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

/// Refuses a restore for which a file system has no room.
pub(super) fn check_space(manifest: &Manifest, targets: &BTreeMap<String, PathBuf>) -> Result<()> {
    let mut needed: BTreeMap<u64, (u64, PathBuf)> = BTreeMap::new();
    for (root, seen) in manifest.roots.iter().zip(&manifest.seen) {
        let Some(target) = targets.get(&root.name) else {
            return Err(Error::invalid(format!(
                "backup {} has a root {:?}, and nothing says where to restore it",
                manifest.header.name, root.name
            )));
        };
        let there = existing(target);
        let meta = std::fs::metadata(&there).map_err(|e| Error::io("examine", &there, &e))?;
        let (bytes, _) = needed.entry(meta.dev()).or_insert((0, there));
        let entries = seen.files.saturating_add(seen.directories_and_links);
        let overhead = entries.saturating_mul(FILE_OVERHEAD_BYTES);
        *bytes = bytes
            .saturating_add(seen.data_bytes)
            .saturating_add(overhead);
    }
    for (bytes, path) in needed.into_values() {
        let stat = statvfs(&path)
            .map_err(|e| Error::io("examine the file system of", &path, &e.into()))?;
        #[allow(clippy::useless_conversion)] // The types differ between platforms.
        let free = u64::from(stat.blocks_available()).saturating_mul(stat.fragment_size());
        if free < bytes {
            return Err(Error::exhausted(format!(
                "restoring {} needs {bytes} bytes below {}, and {free} are free there",
                manifest.header.name,
                path.display()
            )));
        }
    }
    Ok(())
}

/// The path itself, or the nearest directory above it that is there.
fn existing(path: &Path) -> PathBuf {
    path.ancestors()
        .find(|path| path.exists())
        .map_or_else(|| PathBuf::from("."), Path::to_owned)
}
