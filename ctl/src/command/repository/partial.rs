//! What a restore that was cut off leaves beside a place, and the marker beside it that says of
//! which backup it is.
//!
//! A restore of the same backup to the same place goes on with it: everything in it is verified
//! again, so the marker decides only whether that is worth while. It is locked while a restore runs.

use std::{
    fs::{self, File, TryLockError},
    io::{ErrorKind as Io, Write as _},
    path::{Path, PathBuf},
};

use seawall_common::{Error, Result, ids::BackupName, repository::Manifest};
use serde::{Deserialize, Serialize};

/// Behind the name of a directory: what is being restored for it.
const PARTIAL: &str = ".seawall-restore";
const MARKER: &str = ".seawall-restore.json";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    backup: BackupName,
    manifest_hash: String,
}

impl Marker {
    pub fn of(manifest: &Manifest) -> Self {
        Self {
            backup: manifest.header.name.clone(),
            manifest_hash: manifest.hash.clone(),
        }
    }

    #[cfg(test)]
    pub fn new(backup: &str, manifest_hash: &str) -> Self {
        Self {
            backup: backup.parse().unwrap(),
            manifest_hash: manifest_hash.to_owned(),
        }
    }

    /// Whether something is there that a restore of this backup can go on with; an error where
    /// something else is.
    pub fn check(&self, place: &Path) -> Result<bool> {
        let partial = directory(place);
        if partial.symlink_metadata().is_err() {
            return Ok(false);
        }
        let shown = partial.display();
        let known = fs::read(beside(place, MARKER)).ok();
        let known = known.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        match known {
            Some(known) if known == *self && partial.is_dir() => Ok(true),
            Some(known) => Err(Error::refused(format!(
                "{shown} is what is left of a restore of another backup, {}",
                known.backup
            ))
            .hint(format!(
                "Remove {shown} if it is not wanted, or restore {} to go on with it.",
                known.backup
            ))),
            None => Err(Error::refused(format!(
                "{shown} is there, and nothing beside it says what it is"
            ))
            .hint("Remove it if it is not wanted.")),
        }
    }

    /// Before the first byte: nothing is ever there without a word about what it is. What is there
    /// is looked at again, now that nobody else can come in between.
    pub fn hold(&self, place: &Path) -> Result<Held> {
        let path = beside(place, MARKER);
        let failed = |e: std::io::Error| Error::io("write", &path, &e);
        // Opened without emptying it: another restore may hold it.
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::conflict(format!(
                    "another restore to {} is under way",
                    place.display()
                ))
                .hint("Wait for it, or end it first."));
            }
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        // Of what is gone on with it stays as it is: cut off while it is written, it says nothing.
        if !self.check(place)? {
            let text = serde_json::to_vec(self)
                .map_err(|e| Error::internal(format!("cannot write a marker: {e}")))?;
            file.set_len(0)
                .and_then(|()| file.write_all(&text))
                .and_then(|()| file.sync_all())
                .map_err(failed)?;
            sync_parent(&path)?;
        }
        Ok(Held {
            place: place.to_owned(),
            _file: file,
        })
    }
}

/// The marker of a restore that runs.
#[derive(Debug)]
pub struct Held {
    place: PathBuf,
    _file: File,
}

impl Held {
    /// Deletes what was written, then what is said of it.
    pub fn give_up(&self) -> Result<()> {
        let partial = directory(&self.place);
        match fs::remove_dir_all(&partial) {
            Err(e) if e.kind() != Io::NotFound => Err(Error::io("remove directory", &partial, &e)),
            _ => self.remove(),
        }
    }

    /// What was written has its name now.
    pub fn remove(&self) -> Result<()> {
        let path = beside(&self.place, MARKER);
        fs::remove_file(&path).map_err(|e| Error::io("remove", &path, &e))
    }
}

/// Where is written what goes to `place`.
pub fn directory(place: &Path) -> PathBuf {
    beside(place, PARTIAL)
}

/// Makes durable that `path` has its name.
pub fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(|e| Error::io("sync", parent, &e))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: &str = "2026-11-25.120000.zone1-102";

    #[test]
    fn only_what_is_left_of_the_same_backup_is_gone_on_with() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("t");
        let (own, other) = (Marker::new(OF, "aa"), Marker::new(OF, "bb"));
        assert!(!own.check(&place).unwrap());
        fs::create_dir(super::directory(&place)).unwrap();
        let error = own.check(&place).unwrap_err();
        assert!(
            error.message().contains("nothing beside it says"),
            "{error}"
        );
        fs::remove_dir(super::directory(&place)).unwrap();
        let held = own.hold(&place).unwrap();
        fs::create_dir(super::directory(&place)).unwrap();
        assert!(own.check(&place).unwrap());
        let error = own.hold(&place).unwrap_err();
        assert!(error.message().contains("under way"), "{error}");
        drop(held);
        // It looked before the first one began.
        let error = other.hold(&place).unwrap_err();
        assert!(error.message().contains("another backup"), "{error}");
        let held = own.hold(&place).unwrap();
        held.give_up().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
