//! What a restore that was cut off leaves beside a place, `<place>.seawall-restore`, and the marker
//! beside it that says of which backup it is.
//!
//! A restore of the same backup goes on with it: everything in it is verified again, so the marker
//! decides only whether that is worth while. Nothing ever starts on it (I6). The agent, which alone
//! restores its databases, replaces markers ([`Marker::write`]); `seawallctl`, which may run twice,
//! holds them locked while it restores ([`Marker::hold`]).

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Destination, Manifest};
use crate::{
    clock::now_unix_ms,
    error::{Error, ErrorKind, Result},
    ids::BackupName,
};

/// Behind the name of a place: what is being restored for it.
const PARTIAL: &str = ".seawall-restore";
const MARKER: &str = ".seawall-restore.json";
const NEW_MARKER: &str = ".seawall-restore.new";

/// Where is written what goes to `place`.
pub fn directory(place: &Path) -> PathBuf {
    beside(place, PARTIAL)
}

/// `place` with something behind its name.
pub fn beside(place: &Path, ending: &str) -> PathBuf {
    let mut name = place.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Makes durable that `path` has its name, or has it no longer.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.exists() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

/// Removes a directory with all that is in it, if it is there.
pub fn remove_directory(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => sync_parent(directory),
    }
}

/// Deletes what is left beside `place`. The directory first: it is never there without its marker.
pub fn discard(place: &Path) -> io::Result<()> {
    remove_directory(&directory(place))?;
    match fs::remove_file(beside(place, MARKER)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => sync_parent(place),
    }
}

/// Whether something is left beside `place` with which nobody has gone on for as long as `limit`.
pub fn is_old(place: &Path, limit: Duration) -> bool {
    let is_there = |ending| beside(place, ending).symlink_metadata().is_ok();
    if !is_there(PARTIAL) && !is_there(MARKER) {
        return false;
    }
    Marker::read(place).is_none_or(|marker| {
        let age_ms = now_unix_ms().saturating_sub(marker.touched_unix_ms);
        Duration::from_millis(age_ms) >= limit
    })
}

/// Where a restore of this manifest to `place` writes, and what of it is there now.
pub fn destination(place: &Path, manifest_hash: &str) -> Destination {
    let is_same = Marker::read(place).is_some_and(|known| known.manifest_hash == manifest_hash);
    let directory = directory(place);
    Destination {
        resume: is_same && directory.is_dir(),
        directory,
        old: place.is_dir().then(|| place.to_owned()),
    }
}

/// Whether what was fetched before this failure is of use to the next try. Not when the backup is
/// damaged or the disk full, nor when the disk has failed, which is [`ErrorKind::Internal`] here: the
/// memory may show what never reached it.
pub fn is_worth_keeping(error: &Error) -> bool {
    use ErrorKind::{Cancelled, Fenced, Refused, Timeout, Unavailable};
    matches!(
        error.kind(),
        Unavailable | Timeout | Cancelled | Fenced | Refused
    )
}

/// Of which backup it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Marker {
    backup: BackupName,
    manifest_hash: String,
    /// When a restore last began with it, or went on.
    #[serde(default)]
    touched_unix_ms: u64,
}

impl Marker {
    /// Touched now.
    pub fn of(manifest: &Manifest) -> Self {
        Self::new(manifest.header.name.clone(), manifest.hash.clone())
    }

    pub fn new(backup: BackupName, manifest_hash: String) -> Self {
        Self {
            backup,
            manifest_hash,
            touched_unix_ms: now_unix_ms(),
        }
    }

    fn is_of_same(&self, other: &Self) -> bool {
        (&self.backup, &self.manifest_hash) == (&other.backup, &other.manifest_hash)
    }

    /// Nothing where it cannot be understood: then it is worth nothing.
    fn read(place: &Path) -> Option<Self> {
        let bytes = fs::read(beside(place, MARKER)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// In the place of one that may be there.
    pub fn write(&self, place: &Path) -> io::Result<()> {
        let (new, path) = (beside(place, NEW_MARKER), beside(place, MARKER));
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        sync_parent(&path)
    }

    /// Whether something is there that a restore of this backup can go on with; an error where
    /// something else is.
    pub fn check(&self, place: &Path) -> Result<bool> {
        let partial = directory(place);
        if partial.symlink_metadata().is_err() {
            return Ok(false);
        }
        let shown = partial.display();
        match Self::read(place) {
            Some(known) if known.is_of_same(self) && partial.is_dir() => Ok(true),
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
        let failed = |e: io::Error| Error::io("write", &path, &e);
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
                .and_then(|()| sync_parent(&path))
                .map_err(failed)?;
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
        discard(&self.place).map_err(|e| Error::io("delete what was restored for", &self.place, &e))
    }

    /// What was written has its name now.
    pub fn remove(&self) -> Result<()> {
        let path = beside(&self.place, MARKER);
        fs::remove_file(&path).map_err(|e| Error::io("remove", &path, &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker(hash: &str) -> Marker {
        let backup = "2026-11-25.120000.zone1-102".parse().unwrap();
        Marker::new(backup, hash.to_owned())
    }

    #[test]
    fn only_what_is_left_of_the_same_backup_is_gone_on_with() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("t");
        let (own, other) = (marker("aa"), marker("bb"));
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
        // Later is as good.
        let later = Marker {
            touched_unix_ms: own.touched_unix_ms + 1,
            ..own
        };
        let held = later.hold(&place).unwrap();
        held.give_up().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_marker_is_known_again_whichever_program_left_it() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("data");
        fs::create_dir(super::directory(&place)).unwrap();
        marker("aa").write(&place).unwrap();
        assert!(marker("aa").check(&place).unwrap());
        assert!(destination(&place, "aa").resume);
        assert!(!destination(&place, "bb").resume);
        assert!(!is_old(&place, Duration::from_secs(60)));
        // As seawallctl wrote it before it noted a time.
        let text = r#"{"backup":"2026-11-25.120000.zone1-102","manifest_hash":"aa"}"#;
        fs::write(beside(&place, MARKER), text).unwrap();
        assert!(marker("aa").check(&place).unwrap());
        assert!(is_old(&place, Duration::from_secs(60)));
        discard(&place).unwrap();
        assert!(!is_old(&place, Duration::ZERO));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn i6_only_what_a_next_try_can_trust_is_worth_keeping() {
        use ErrorKind::{
            Cancelled, Corrupt, Exhausted, Fenced, Internal, Refused, Timeout, Unavailable,
        };
        let is_kept = |kind| is_worth_keeping(&Error::new(kind, "it failed"));
        for kind in [Unavailable, Timeout, Cancelled, Fenced, Refused] {
            assert!(is_kept(kind), "{kind:?}");
        }
        for kind in [Corrupt, Internal, Exhausted] {
            assert!(!is_kept(kind), "{kind:?}");
        }
    }
}
