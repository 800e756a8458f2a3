//! The few things that are done with files. Small ones are written whole, synced and renamed, so that
//! after a power loss each is there as it was written or not at all.

use std::{
    io::{Error, Result, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// Does the same with the simulator's files where there is a simulation.
macro_rules! simulated {
    ($function:ident($($argument:expr),*)) => {
        #[cfg(feature = "sim")]
        if turmoil::in_simulation() {
            return crate::sim::files::$function($($argument),*);
        }
    };
}

/// A file of which parts are written and read.
#[derive(Clone)]
pub enum DataFile {
    Real(Arc<std::fs::File>),
    #[cfg(feature = "sim")]
    Simulated(crate::sim::files::DataFile),
}

/// Does the same with the file of the one kind or the other.
macro_rules! either {
    ($self:ident, $file:ident => $done:expr) => {
        match $self {
            Self::Real($file) => $done,
            #[cfg(feature = "sim")]
            Self::Simulated($file) => $done,
        }
    };
}

impl DataFile {
    /// A file of that length that there was not, with room on the disk for all of it.
    pub fn create(path: &Path, room: u64) -> Result<Self> {
        #[cfg(feature = "sim")]
        if turmoil::in_simulation() {
            return crate::sim::files::DataFile::create(path, room).map(Self::Simulated);
        }
        let mut options = std::fs::OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(path)?;
        let room = i64::try_from(room).unwrap_or(i64::MAX);
        loop {
            match nix::fcntl::posix_fallocate(&file, 0, room) {
                Err(Errno::EINTR) => {}
                // A file system that cannot: it has the room or not when it is written.
                Err(Errno::EOPNOTSUPP | Errno::EINVAL) => {
                    file.set_len(room.unsigned_abs())?;
                    break;
                }
                set_aside => {
                    set_aside?;
                    break;
                }
            }
        }
        Ok(Self::Real(Arc::new(file)))
    }

    pub fn open(path: &Path) -> Result<Self> {
        #[cfg(feature = "sim")]
        if turmoil::in_simulation() {
            return crate::sim::files::DataFile::open(path).map(Self::Simulated);
        }
        let mut options = std::fs::OpenOptions::new();
        let file = options.read(true).write(true).open(path)?;
        Ok(Self::Real(Arc::new(file)))
    }

    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        either!(self, file => file.write_all_at(bytes, offset))
    }

    pub fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        either!(self, file => file.read_exact_at(bytes, offset))
    }

    pub fn set_length(&self, length: u64) -> Result<()> {
        either!(self, file => file.set_len(length))
    }

    /// What was written is on disk when this returns, and the length.
    pub fn sync(&self) -> Result<()> {
        either!(self, file => file.sync_data())
    }
}

/// A directory that no other has while this lives. In a simulation nobody else wants it.
pub struct DirectoryLock {
    _lock: Option<Flock<std::fs::File>>,
}

impl DirectoryLock {
    pub fn take(directory: &Path) -> seawall_common::Result<Self> {
        #[cfg(feature = "sim")]
        if turmoil::in_simulation() {
            return Ok(Self { _lock: None });
        }
        let failed = |e: &Error| seawall_common::Error::io("open", directory, e);
        let file = std::fs::File::open(directory).map_err(|e| failed(&e))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { _lock: Some(lock) }),
            Err((_, Errno::EWOULDBLOCK)) => Err(seawall_common::Error::conflict(format!(
                "{} is in use by another process",
                directory.display()
            ))),
            Err((_, e)) => Err(failed(&e.into())),
        }
    }
}

pub fn create_directory(path: &Path) -> Result<()> {
    simulated!(create_directory(path));
    std::fs::create_dir_all(path)
}

pub fn read(path: &Path) -> Result<Vec<u8>> {
    simulated!(read(path));
    std::fs::read(path)
}

/// Writes a file that nobody has opened, and syncs it. Its name is durable after
/// [`sync_directory`].
pub fn write_synced(path: &Path, parts: &[&[u8]]) -> Result<()> {
    simulated!(write_synced(path, parts));
    let mut file = std::fs::File::create(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()
}

pub fn rename(from: &Path, to: &Path) -> Result<()> {
    simulated!(rename(from, to));
    std::fs::rename(from, to)
}

/// The names in it are durable when this returns.
pub fn sync_directory(path: &Path) -> Result<()> {
    simulated!(sync_directory(path));
    std::fs::File::open(path)?.sync_all()
}

pub fn remove(path: &Path) -> Result<()> {
    simulated!(remove(path));
    std::fs::remove_file(path)
}

pub fn exists(path: &Path) -> bool {
    simulated!(exists(path));
    path.exists()
}

pub fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    simulated!(list(directory));
    std::fs::read_dir(directory)?
        .map(|item| Ok(item?.path()))
        .collect()
}
