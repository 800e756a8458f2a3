//! Snapshots of the state, each a file of its own.
//!
//! Written under a temporary name, synced, renamed, and the directory synced: a file with a final
//! name is whole. Its head carries lengths and a checksum, so that a damaged one is noticed. The
//! newest two are kept.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use seawall_common::{Error, Result};

use super::SnapshotMeta;

const KEPT: usize = 2;
const MAGIC: &[u8; 8] = b"SEAWSNP1";
/// Magic, length of the description (4), length of the state (8), CRC-32C of all that follows (4).
const HEAD_BYTES: usize = 24;
const SUFFIX: &str = ".snapshot";

/// What a snapshot is of, and the encoded state.
pub struct StoredSnapshot {
    pub meta: SnapshotMeta,
    pub state: Vec<u8>,
}

pub struct Snapshots {
    directory: PathBuf,
}

impl Snapshots {
    pub fn open(directory: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&directory).map_err(|e| Error::io("create", &directory, &e))?;
        Ok(Self { directory })
    }

    /// The newest one, checked; none when there is none.
    pub fn newest(&self) -> Result<Option<StoredSnapshot>> {
        self.files()?.last().map(|path| read(path)).transpose()
    }

    /// Keeps `state`, and removes all but the newest.
    pub fn put(&self, meta: &SnapshotMeta, state: &[u8]) -> Result<()> {
        let description = serde_json::to_vec(meta)
            .map_err(|e| Error::internal(format!("cannot describe a snapshot: {e}")))?;
        let index = meta.last_log_id.map_or(0, |id| id.index + 1);
        let serial = self.next_serial()?;
        let path = self.directory.join(format!("{serial:020}-{index}{SUFFIX}"));
        let temporary = self.directory.join("writing.tmp");
        write(&temporary, &description, state)
            .and_then(|()| std::fs::rename(&temporary, &path))
            .and_then(|()| File::open(&self.directory)?.sync_all())
            .map_err(|e| Error::io("write snapshot", &path, &e))?;
        let files = self.files()?;
        for old in &files[..files.len().saturating_sub(KEPT)] {
            std::fs::remove_file(old).map_err(|e| Error::io("remove snapshot", old, &e))?;
        }
        Ok(())
    }

    /// Final names in the order in which they were written.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let failed = |e| Error::io("list", &self.directory, &e);
        let mut files = Vec::new();
        for item in std::fs::read_dir(&self.directory).map_err(failed)? {
            let path = item.map_err(failed)?.path();
            if path.to_string_lossy().ends_with(SUFFIX) {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    fn next_serial(&self) -> Result<u64> {
        let files = self.files()?;
        let newest = files.last().and_then(|path| {
            let name = path.file_name()?.to_str()?;
            name.split('-').next()?.parse::<u64>().ok()
        });
        Ok(newest.map_or(0, |serial| serial + 1))
    }
}

fn write(path: &Path, description: &[u8], state: &[u8]) -> std::io::Result<()> {
    let too_long = |_| std::io::Error::other("too long");
    let description_bytes = u32::try_from(description.len()).map_err(too_long)?;
    let mut file = File::create(path)?;
    file.write_all(MAGIC)?;
    file.write_all(&description_bytes.to_be_bytes())?;
    file.write_all(&(state.len() as u64).to_be_bytes())?;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(description), state);
    file.write_all(&checksum.to_be_bytes())?;
    file.write_all(description)?;
    file.write_all(state)?;
    file.sync_all()
}

fn read(path: &Path) -> Result<StoredSnapshot> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read snapshot", path, &e))?;
    parse(&bytes).ok_or_else(|| {
        Error::corrupt(format!("snapshot {} is damaged", path.display()))
            .hint("Restore this member by removing it and adding it anew under a new id.")
    })
}

fn parse(bytes: &[u8]) -> Option<StoredSnapshot> {
    let (head, body) = bytes.split_at_checked(HEAD_BYTES)?;
    let description_bytes = u32::from_be_bytes(head[8..12].try_into().ok()?) as usize;
    let state_bytes = u64::from_be_bytes(head[12..20].try_into().ok()?);
    let checksum = u32::from_be_bytes(head[20..24].try_into().ok()?);
    let (description, state) = body.split_at_checked(description_bytes)?;
    let is_whole = head[..8] == *MAGIC
        && state.len() as u64 == state_bytes
        && crc32c::crc32c(body) == checksum;
    if !is_whole {
        return None;
    }
    Some(StoredSnapshot {
        meta: serde_json::from_slice(description).ok()?,
        state: state.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(index: u64) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: Some(openraft::LogId::new(
                openraft::CommittedLeaderId::new(1, 0),
                index,
            )),
            ..SnapshotMeta::default()
        }
    }

    #[test]
    fn the_newest_two_are_kept_and_the_last_written_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(directory.path().to_owned()).unwrap();
        assert!(snapshots.newest().unwrap().is_none());
        for index in [9, 10, 11] {
            let state = format!("state {index}");
            snapshots.put(&meta(index), state.as_bytes()).unwrap();
        }
        assert_eq!(snapshots.files().unwrap().len(), 2);
        let newest = snapshots.newest().unwrap().unwrap();
        assert_eq!(newest.meta, meta(11));
        assert_eq!(newest.state, b"state 11");
    }

    #[test]
    fn a_half_written_one_is_not_taken_for_one() {
        let directory = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(directory.path().to_owned()).unwrap();
        snapshots.put(&meta(1), b"one").unwrap();
        std::fs::write(directory.path().join("writing.tmp"), b"SEAW").unwrap();
        assert_eq!(snapshots.newest().unwrap().unwrap().state, b"one");
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(directory.path().to_owned()).unwrap();
        snapshots.put(&meta(1), b"some state").unwrap();
        let path = snapshots.files().unwrap().remove(0);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            std::fs::write(&path, damaged).unwrap();
            assert!(snapshots.newest().is_err(), "byte {at}");
            std::fs::write(&path, &whole[..at]).unwrap();
            assert!(snapshots.newest().is_err(), "cut at {at}");
        }
    }
}
