//! Snapshots of the state, each a file of its own.
//!
//! Written under a temporary name, synced, renamed, and the directory synced: a file with a final
//! name is whole. Its head carries lengths and a checksum, so that a damaged one is noticed. The
//! newest is the one that reaches furthest into the log, whenever it was written: one that is built
//! may be ready only after a later one was received. The newest two are kept.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use seawall_common::{Error, Result};
use tokio::sync::watch;

use super::SnapshotMeta;
use crate::platform::files;

const KEPT: usize = 2;
const MAGIC: &[u8; 8] = b"SEAWSNP1";
/// Magic, length of the description (4), length of the state (8), CRC-32C of all that follows (4).
const HEAD_BYTES: usize = 24;
const SUFFIX: &str = ".snapshot";
const UNFINISHED: &str = ".tmp";

/// What a snapshot is of, and the encoded state.
pub struct StoredSnapshot {
    pub meta: SnapshotMeta,
    pub state: Vec<u8>,
}

pub struct Snapshots {
    directory: PathBuf,
    writing: Mutex<()>,
    covered: watch::Sender<u64>,
}

/// A file with a final name.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stored {
    /// How many entries it covers: the index of the last and one more.
    covers: u64,
    serial: u64,
    path: PathBuf,
}

impl Snapshots {
    /// Nothing else may write in `directory` meanwhile: what was left half-written there is removed.
    pub fn open(directory: PathBuf) -> Result<Self> {
        files::create_directory(&directory).map_err(|e| Error::io("create", &directory, &e))?;
        for path in list(&directory)? {
            if path.to_string_lossy().ends_with(UNFINISHED) {
                files::remove(&path).map_err(|e| Error::io("remove", &path, &e))?;
            }
        }
        // What was renamed just before a kill is believed from now on.
        files::sync_directory(&directory).map_err(|e| Error::io("sync", &directory, &e))?;
        let snapshots = Self {
            directory,
            writing: Mutex::new(()),
            covered: watch::Sender::new(0),
        };
        snapshots.note_covered(&snapshots.files()?);
        Ok(snapshots)
    }

    /// How many entries the newest one covers: the index of the last and one more.
    pub fn covered(&self) -> watch::Receiver<u64> {
        self.covered.subscribe()
    }

    fn note_covered(&self, files: &[Stored]) {
        let covers = files.last().map_or(0, |newest| newest.covers);
        self.covered.send_replace(covers);
    }

    /// The newest one, checked; none when there is none.
    pub fn newest(&self) -> Result<Option<StoredSnapshot>> {
        // With the lock, so that the file is not removed before it is read.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.files()?
            .last()
            .map(|file| read(&file.path))
            .transpose()
    }

    /// Keeps `state`, unless one is kept that covers as much, and removes all but the newest.
    pub fn put(&self, meta: &SnapshotMeta, state: &[u8]) -> Result<()> {
        let description = serde_json::to_vec(meta)
            .map_err(|e| Error::internal(format!("cannot describe a snapshot: {e}")))?;
        let covers = meta.last_log_id.map_or(0, |id| id.index + 1);
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let files = self.files()?;
        if files.last().is_some_and(|newest| newest.covers >= covers) {
            return Ok(());
        }
        let serial = files.iter().map(|file| file.serial + 1).max().unwrap_or(0);
        let path = self
            .directory
            .join(format!("{serial:020}-{covers}{SUFFIX}"));
        let temporary = self
            .directory
            .join(format!("{}{UNFINISHED}", uuid::Uuid::new_v4()));
        write(&temporary, &description, state)
            .and_then(|()| files::rename(&temporary, &path))
            .and_then(|()| files::sync_directory(&self.directory))
            .map_err(|e| Error::io("write snapshot", &path, &e))?;
        let files = self.files()?;
        self.note_covered(&files);
        for old in &files[..files.len().saturating_sub(KEPT)] {
            files::remove(&old.path).map_err(|e| Error::io("remove snapshot", &old.path, &e))?;
        }
        Ok(())
    }

    /// Those with a final name, the newest last.
    fn files(&self) -> Result<Vec<Stored>> {
        let mut files: Vec<_> = list(&self.directory)?
            .into_iter()
            .filter_map(Stored::at)
            .collect();
        files.sort();
        Ok(files)
    }
}

impl Stored {
    fn at(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
        let (serial, covers) = name.split_once('-')?;
        Some(Self {
            covers: covers.parse().ok()?,
            serial: serial.parse().ok()?,
            path,
        })
    }
}

fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    files::list(directory).map_err(|e| Error::io("list", directory, &e))
}

fn write(path: &Path, description: &[u8], state: &[u8]) -> std::io::Result<()> {
    let too_long = |_| std::io::Error::other("too long");
    let description_bytes = u32::try_from(description.len()).map_err(too_long)?;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(description), state);
    let parts: [&[u8]; 6] = [
        MAGIC,
        &description_bytes.to_be_bytes(),
        &(state.len() as u64).to_be_bytes(),
        &checksum.to_be_bytes(),
        description,
        state,
    ];
    files::write_synced(path, &parts)
}

fn read(path: &Path) -> Result<StoredSnapshot> {
    let bytes = files::read(path).map_err(|e| Error::io("read snapshot", path, &e))?;
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
    fn the_newest_two_are_kept_and_the_newest_is_found() {
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
    fn a_stale_one_that_is_ready_late_does_not_become_the_newest() {
        let directory = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(directory.path().to_owned()).unwrap();
        snapshots.put(&meta(11), b"received").unwrap();
        snapshots.put(&meta(9), b"built").unwrap();
        snapshots.put(&meta(11), b"built").unwrap();
        assert_eq!(snapshots.newest().unwrap().unwrap().state, b"received");

        // As an earlier version may have left them.
        let newest = snapshots.files().unwrap().remove(0).path;
        let stale = directory.path().join(format!("{:020}-5{SUFFIX}", 7));
        std::fs::write(stale, "not read").unwrap();
        assert_eq!(snapshots.newest().unwrap().unwrap().state, b"received");
        snapshots.put(&meta(12), b"next").unwrap();
        let files = snapshots.files().unwrap();
        assert_eq!((files[0].path.clone(), files[1].serial), (newest, 8));
        assert_eq!(snapshots.newest().unwrap().unwrap().state, b"next");
    }

    #[test]
    fn those_that_are_written_at_once_do_not_tear_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(directory.path().to_owned()).unwrap();
        for round in 0..10 {
            std::thread::scope(|scope| {
                for writer in 1..=4_u64 {
                    let (index, snapshots) = (round * 4 + writer, &snapshots);
                    let state = vec![index as u8; 100_000];
                    scope.spawn(move || {
                        snapshots.put(&meta(index), &state).unwrap();
                        snapshots.newest().unwrap().unwrap();
                    });
                }
            });
            let newest = snapshots.newest().unwrap().unwrap();
            assert_eq!(newest.meta, meta(round * 4 + 4));
            assert_eq!(newest.state, vec![(round * 4 + 4) as u8; 100_000]);
        }
        std::fs::write(directory.path().join("left.tmp"), "SEAW").unwrap();
        Snapshots::open(directory.path().to_owned()).unwrap();
        assert_eq!(list(directory.path()).unwrap().len(), 2);
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(directory.path().to_owned()).unwrap();
        snapshots.put(&meta(1), b"some state").unwrap();
        let path = snapshots.files().unwrap().remove(0).path;
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
