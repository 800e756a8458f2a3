//! The data directory: locked by one process, and some member's.

use std::{
    fs::File,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use seawall_common::{Error, Result};

use crate::raft::{Identity, Members};

/// What a member's state takes, and may take still.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// With the room that its files have set aside.
    pub log_bytes: u64,
    pub snapshot_bytes: u64,
    /// None: cannot be found out.
    pub free_bytes: Option<u64>,
}

const LOCK_FILE: &str = "lock";
/// In which files count what they take.
const BLOCK_BYTES: u64 = 512;
/// The only member of a group that nobody made with `init`.
const SINGLE_MEMBER: u64 = 1;

/// A data directory that no other process uses while this lives.
pub struct DataDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl DataDir {
    pub fn open(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(|e| Error::io("create data directory", path, &e))?;
        let lock_path = path.join(LOCK_FILE);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|e| Error::io("write to data directory", path, &e))?;
        let lock =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| match e {
                Errno::EWOULDBLOCK => Error::conflict(format!(
                    "data directory {} is in use by another process",
                    path.display()
                ))
                .hint("Is another coordinator running on it?"),
                e => Error::io("lock", &lock_path, &e.into()),
            })?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it that of member `id` of a group of `members`.
    pub fn init(&self, id: u64, members: Members) -> Result<Identity> {
        if Identity::open(&self.path)?.is_none() && self.has_log() {
            return Err(self.orphaned());
        }
        Identity::create(&self.path, id, members)
    }

    /// Makes it that of member `id`, to be added to the group of the members at `addresses`.
    pub fn join(&self, id: u64, addresses: Vec<String>) -> Result<Identity> {
        if Identity::open(&self.path)?.is_none() && self.has_log() {
            return Err(self.orphaned());
        }
        Identity::create_to_join(&self.path, id, addresses)
    }

    /// Whose it is. An empty one becomes that of the only member of a group of one, at `address`,
    /// unless a group of several was spoken of.
    pub fn identity(&self, address: String, peers: &Members) -> Result<Identity> {
        if let Some(identity) = Identity::open(&self.path)? {
            return Ok(identity);
        }
        if self.has_log() {
            return Err(self.orphaned());
        }
        if !peers.is_empty() {
            return Err(Error::refused(format!(
                "data directory {} is empty, and this coordinator belongs to a group of {}",
                self.path.display(),
                peers.len()
            ))
            .hint(
                "To make a new group, run seawall-coordinator init on every member. To add a member to \
                 a group that is there, run seawall-coordinator join and seawallctl AddMember: one that \
                 has lost its directory comes back under a new id.",
            ));
        }
        Identity::create(&self.path, SINGLE_MEMBER, [(SINGLE_MEMBER, address)].into())
    }

    /// Refuses when it belongs to a member, or holds what one has left.
    pub fn check_nobodys(&self) -> Result<()> {
        if Identity::open(&self.path)?.is_none() && !self.has_log() {
            return Ok(());
        }
        Err(Error::refused(format!(
            "data directory {} is not empty",
            self.path.display()
        ))
        .hint("Name an empty directory; if a restore into this one was cut off, empty it first."))
    }

    /// Whether its member has been part of a group that had come into being, or is to be.
    pub fn has_group(&self) -> Result<bool> {
        let identity = Identity::open(&self.path)?;
        Ok(identity.is_some_and(|it| it.has_group() || !it.join().is_empty()))
    }

    fn has_log(&self) -> bool {
        self.path.join("log").exists() || self.path.join("snapshots").exists()
    }

    fn orphaned(&self) -> Error {
        Error::corrupt(format!(
            "data directory {} has a log but no identity.json",
            self.path.display()
        ))
        .hint("Restore the file, or remove the member and add it anew under a new id.")
    }
}

/// Of the data directory at `path`. What cannot be seen is not counted.
#[allow(clippy::useless_conversion)] // The types differ between platforms.
pub fn usage(path: &Path) -> Usage {
    let free = |stat: nix::sys::statvfs::Statvfs| {
        u64::from(stat.blocks_available()).saturating_mul(stat.fragment_size())
    };
    Usage {
        log_bytes: bytes_in(&path.join("log")),
        snapshot_bytes: bytes_in(&path.join("snapshots")),
        free_bytes: nix::sys::statvfs::statvfs(path).ok().map(free),
    }
}

fn bytes_in(directory: &Path) -> u64 {
    walkdir::WalkDir::new(directory)
        .into_iter()
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .filter(std::fs::Metadata::is_file)
        .map(|file| file.blocks() * BLOCK_BYTES)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers() -> Members {
        [(1, "a:1".to_owned()), (2, "b:1".to_owned())].into()
    }

    #[test]
    fn only_one_process_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let first = DataDir::open(directory.path()).unwrap();
        let error = DataDir::open(directory.path()).err().unwrap();
        assert!(error.message().contains("in use"), "{error}");
        drop(first);
        DataDir::open(directory.path()).unwrap();
    }

    #[test]
    fn an_empty_one_in_a_group_is_refused_without_init() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(directory.path()).unwrap();
        assert!(data_dir.identity("a:1".into(), &peers()).is_err());
        data_dir.init(2, peers()).unwrap();
        assert_eq!(data_dir.identity("a:1".into(), &peers()).unwrap().id(), 2);
        assert!(data_dir.init(2, peers()).is_err());
    }

    #[test]
    fn one_that_joins_is_a_members_once_and_belongs_to_a_group_that_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(directory.path()).unwrap();
        assert!(!data_dir.has_group().unwrap());
        data_dir.join(4, vec!["a:1".to_owned()]).unwrap();
        assert_eq!(data_dir.identity("d:1".into(), &peers()).unwrap().id(), 4);
        assert!(data_dir.has_group().unwrap());
        assert!(data_dir.join(4, vec!["a:1".to_owned()]).is_err());
        assert!(data_dir.init(1, peers()).is_err());
    }

    #[test]
    fn a_log_without_an_identity_is_nobodys() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(directory.path()).unwrap();
        std::fs::create_dir(directory.path().join("log")).unwrap();
        assert!(data_dir.identity("a:1".into(), &Members::new()).is_err());
        assert!(data_dir.init(1, peers()).is_err());
    }
}
