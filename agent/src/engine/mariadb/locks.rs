//! Who has the database's files open: told by the locks that every MariaDB server keeps on
//! InnoDB's system tablespace and on Aria's control file while it runs.
//!
//! A server takes classic POSIX locks. The guard takes open-file-description locks, which conflict
//! with those and, unlike them, are not lost when some other descriptor of the same file is closed
//! in this process: the copy opens and closes every file.

use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
};
use seawall_common::{Error, Result};

use crate::engine::{StoppedGuard, process::ProcessId};

/// Who keeps a file locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A server; its process where it can be seen from here.
    Server(Option<ProcessId>),
    /// A guard, of this agent or of another.
    Guard,
}

fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Whoever holds the first of `files` that is locked.
pub(super) fn owner(files: &[PathBuf]) -> Result<Option<Owner>> {
    for path in files {
        if let Some(owner) = owner_of(path)? {
            return Ok(Some(owner));
        }
    }
    Ok(None)
}

fn owner_of(path: &Path) -> Result<Option<Owner>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("open", path, &e)),
    };
    let mut lock = whole_file();
    fcntl(&file, FcntlArg::F_GETLK(&mut lock)).map_err(|e| lock_error(path, e))?;
    Ok(if lock.l_type == libc::F_UNLCK as libc::c_short {
        None
    } else if lock.l_pid == -1 {
        Some(Owner::Guard)
    } else {
        Some(Owner::Server(ProcessId::of(lock.l_pid)))
    })
}

fn lock_error(path: &Path, errno: Errno) -> Error {
    Error::io("lock", path, &io::Error::from(errno))
}

/// Holds the locks that a server would need, and notices whether one has been there.
#[derive(Debug)]
pub(super) struct Guard {
    held: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    path: PathBuf,
    /// Keeps the lock.
    _file: File,
    seen: Seen,
}

/// What changes about a file when a server has been on it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    device: u64,
    inode: u64,
    size: u64,
    modified_ns: i128,
}

impl From<&Metadata> for Seen {
    fn from(data: &Metadata) -> Self {
        Self {
            device: data.dev(),
            inode: data.ino(),
            size: data.size(),
            modified_ns: i128::from(data.mtime()) * 1_000_000_000 + i128::from(data.mtime_nsec()),
        }
    }
}

impl Guard {
    pub fn take(files: &[PathBuf]) -> Result<Self> {
        let mut held = Vec::with_capacity(files.len());
        for path in files {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .map_err(|e| Error::io("open", path, &e))?;
            match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
                Ok(_) => {}
                Err(Errno::EAGAIN | Errno::EACCES) => {
                    return Err(Error::refused(format!(
                        "a database server has {} open",
                        path.display()
                    )));
                }
                Err(e) => return Err(lock_error(path, e)),
            }
            let data = file.metadata().map_err(|e| Error::io("read", path, &e))?;
            held.push(Held {
                path: path.clone(),
                _file: file,
                seen: Seen::from(&data),
            });
        }
        Ok(Self { held })
    }
}

#[async_trait]
impl StoppedGuard for Guard {
    async fn check(&self) -> Result<()> {
        for held in &self.held {
            let data =
                std::fs::metadata(&held.path).map_err(|e| Error::io("read", &held.path, &e))?;
            if Seen::from(&data) != held.seen {
                return Err(Error::corrupt(format!(
                    "{} changed while the database was to stand still",
                    held.path.display()
                ))
                .hint(
                    "Something else started the database, or wrote to its files: find out what.",
                ));
            }
        }
        Ok(())
    }
}
