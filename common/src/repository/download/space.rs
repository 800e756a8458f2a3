//! Whether there is room for a restore, and what is said when there is none.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::sys::statvfs::statvfs;

use super::{Destinations, fresh};
use crate::{
    error::{Error, Result},
    repository::manifest::Manifest,
};

/// What a file takes besides its bytes, at most: its last block and its entry.
const FILE_OVERHEAD_BYTES: u64 = 4096;
/// In which files count their blocks.
const BLOCK_BYTES: u64 = 512;

/// A file system that a restore writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    pub path: PathBuf,
    /// What the restore writes there in all.
    pub bytes: u64,
    /// What a restore that was cut off has left there, and this one goes on with.
    pub there_bytes: u64,
    pub free_bytes: u64,
}

impl Space {
    /// What has to be free. What is copied from the old directory needs its room as well: both are
    /// there until the new one has started.
    pub fn needed_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.there_bytes)
    }

    fn described(&self) -> String {
        let there = match self.there_bytes {
            0 => String::new(),
            there => format!(" more ({there} are there already)"),
        };
        format!(
            "{} bytes{there} below {}, and {} are free there",
            self.needed_bytes(),
            self.path.display(),
            self.free_bytes
        )
    }
}

/// What is needed and what is there, for each file system.
pub(super) fn look(manifest: &Manifest, destinations: &Destinations) -> Result<Vec<Space>> {
    let mut found: BTreeMap<u64, Space> = BTreeMap::new();
    for (root, seen) in manifest.roots.iter().zip(&manifest.seen) {
        let Some(destination) = destinations.get(&root.name) else {
            return Err(Error::invalid(format!(
                "backup {} has a root {:?}, and nothing says where to restore it",
                manifest.header.name, root.name
            )));
        };
        let path = existing(&destination.directory);
        let meta = std::fs::metadata(&path).map_err(|e| Error::io("examine", &path, &e))?;
        let free_bytes = free_bytes(&path)?;
        let space = found.entry(meta.dev()).or_insert(Space {
            path,
            bytes: 0,
            there_bytes: 0,
            free_bytes,
        });
        let entries = seen.files.saturating_add(seen.directories_and_links);
        let overhead = entries.saturating_mul(FILE_OVERHEAD_BYTES);
        space.bytes = space
            .bytes
            .saturating_add(seen.data_bytes)
            .saturating_add(overhead);
        if destination.resume {
            space.there_bytes += allocated(&destination.directory);
        }
    }
    Ok(found.into_values().collect())
}

/// Refuses a restore for which a file system has no room.
pub(super) fn check(manifest: &Manifest, destinations: &Destinations) -> Result<()> {
    let short = look(manifest, destinations)?
        .into_iter()
        .find(|space| space.free_bytes < space.needed_bytes());
    match short {
        None => Ok(()),
        Some(space) => Err(Error::exhausted(format!(
            "restoring {} needs {}",
            manifest.header.name,
            space.described()
        ))
        .hint("Make room there, or give the database a directory on a larger file system.")),
    }
}

/// Left free at most by what is only tried out: whoever else lives there is to notice nothing of it.
const RESERVE_BYTES_MAX: u64 = 16 << 30;

/// Refuses to restore a backup aside, where databases at work may write too, when that would leave
/// them less than it takes itself (or, where it takes much, less than 16 GiB). A part of the whole
/// file system would be no measure: a small test harms nobody on a large disk that is nearly full.
pub fn check_room_aside(manifest: &Manifest, targets: &BTreeMap<String, PathBuf>) -> Result<()> {
    for space in look(manifest, &fresh(targets))? {
        let reserve = reserve_bytes(space.needed_bytes());
        if space.free_bytes < space.needed_bytes().saturating_add(reserve) {
            return Err(Error::exhausted(format!(
                "restoring {} aside needs {}; {reserve} bytes of them are left to others",
                manifest.header.name,
                space.described()
            ))
            .hint("Make room there, or set scratch_dir to a directory on a larger file system."));
        }
    }
    Ok(())
}

fn reserve_bytes(needed: u64) -> u64 {
    needed.min(RESERVE_BYTES_MAX)
}

/// The same error, with what was still needed and there when a file system filled up.
pub(super) fn explain(error: Error, manifest: &Manifest, destinations: &Destinations) -> Error {
    let resumed = destinations.iter().map(|(name, destination)| {
        let mut destination = destination.clone();
        destination.resume = true;
        (name.clone(), destination)
    });
    // What cannot be told any more must not hide what went wrong.
    let Ok(spaces) = look(manifest, &resumed.collect()) else {
        return error;
    };
    let needs: Vec<_> = spaces.iter().map(Space::described).collect();
    Error::exhausted(format!(
        "{}: restoring {} needs {}",
        error.message(),
        manifest.header.name,
        needs.join("; ")
    ))
    .hint("Something else writes to that file system: make room there.")
}

#[allow(clippy::useless_conversion)] // The types differ between platforms.
fn free_bytes(path: &Path) -> Result<u64> {
    let stat =
        statvfs(path).map_err(|e| Error::io("examine the file system of", path, &e.into()))?;
    Ok(u64::from(stat.blocks_available()).saturating_mul(stat.fragment_size()))
}

/// What the files below a directory take. What cannot be seen is not counted.
fn allocated(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let mut bytes = 0;
    for entry in entries.filter_map(std::result::Result::ok) {
        let Ok(meta) = entry.metadata() else { continue };
        bytes += if meta.is_dir() {
            allocated(&entry.path())
        } else {
            meta.blocks() * BLOCK_BYTES
        };
    }
    bytes
}

/// The path itself, or the nearest directory above it that is there.
fn existing(path: &Path) -> PathBuf {
    path.ancestors()
        .find(|path| path.exists())
        .map_or_else(|| PathBuf::from("."), Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_what_is_taken_and_no_more_than_its_bound() {
        assert_eq!(reserve_bytes(16 << 10), 16 << 10);
        assert_eq!(reserve_bytes(10 << 30), 10 << 30);
        assert_eq!(reserve_bytes(10 << 40), 16 << 30);
    }
}
