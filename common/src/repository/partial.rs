//! What a restore that was cut off leaves beside a place, `<place>.seawall-restore`, and the marker
//! beside it that says of which backup it is.
//!
//! A restore of the same backup goes on with it: everything in it is verified again, so the marker
//! decides only whether that is worth while. Nothing ever starts on it (I6). Whoever writes it, moves
//! it or deletes it has the marker locked meanwhile: the agent and `seawallctl` know nothing of each
//! other. Only an installation that is taken back waits for nobody.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{Destination, Manifest};
use crate::{
    error::{Error, ErrorKind, Result},
    ids::BackupName,
};

/// Behind the name of a place: what is being restored for it.
const PARTIAL: &str = ".seawall-restore";
const MARKER: &str = ".seawall-restore.json";

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

/// Deletes what is left beside `place`. [`ErrorKind::Conflict`]: somebody is at work with it.
pub fn discard(place: &Path) -> Result<()> {
    match is_left(place) {
        true => Locked::take(place)?.give_up(),
        false => Ok(()),
    }
}

fn is_left(place: &Path) -> bool {
    let is_there = |ending| beside(place, ending).symlink_metadata().is_ok();
    is_there(PARTIAL) || is_there(MARKER)
}

/// Whether something is left beside `place` with which nobody has gone on for as long as `limit`.
pub fn is_old(place: &Path, limit: Duration) -> bool {
    let touched = || fs::metadata(beside(place, MARKER)).and_then(|meta| meta.modified());
    let age = || touched().ok().map(|at| at.elapsed().unwrap_or_default());
    is_left(place) && age().is_none_or(|age| age >= limit)
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

/// Of which backup it is. When a restore last began with it, or went on, is when the file was
/// changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Marker {
    backup: BackupName,
    manifest_hash: String,
}

impl Marker {
    pub fn of(manifest: &Manifest) -> Self {
        Self::new(manifest.header.name.clone(), manifest.hash.clone())
    }

    pub fn new(backup: BackupName, manifest_hash: String) -> Self {
        Self {
            backup,
            manifest_hash,
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
    /// is looked at again, now that nobody else can come in between; an error where it is of another
    /// backup.
    pub fn lock(&self, place: &Path) -> Result<Locked> {
        let locked = Locked::take(place)?;
        match self.check(place)? {
            true => locked.touch()?,
            false => locked.note(self)?,
        }
        Ok(locked)
    }

    /// The same, and what is there of another backup is deleted.
    pub fn lock_alone(&self, place: &Path) -> Result<Locked> {
        let locked = Locked::take(place)?;
        match self.check(place) {
            Ok(true) => locked.touch()?,
            Ok(false) => locked.note(self)?,
            Err(_) => {
                locked.delete_directory()?;
                locked.note(self)?;
            }
        }
        Ok(locked)
    }
}

/// The marker, locked: nobody else writes, moves or deletes what it is about.
#[derive(Debug)]
pub struct Locked {
    place: PathBuf,
    file: File,
}

impl Locked {
    /// Whatever it says. [`ErrorKind::Conflict`]: somebody is at work.
    pub fn take(place: &Path) -> Result<Self> {
        let path = beside(place, MARKER);
        let failed = |e: io::Error| Error::io("lock", &path, &e);
        loop {
            // Opened without emptying it: another restore may hold it.
            let mut options = File::options();
            let file = options.create(true).truncate(false).write(true).open(&path);
            let file = file.map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let place = place.display();
                    let error = Error::conflict(format!("another restore to {place} is under way"));
                    return Err(error.hint("Wait for it, or end it first."));
                }
                Err(TryLockError::Error(e)) => return Err(failed(e)),
            }
            // Who had it before may have removed it: then another file is the marker by now.
            if is_at(&file, &path).map_err(failed)? {
                let place = place.to_owned();
                return Ok(Self { place, file });
            }
        }
    }

    fn note(&self, marker: &Marker) -> Result<()> {
        let path = beside(&self.place, MARKER);
        let text = serde_json::to_vec(marker)
            .map_err(|e| Error::internal(format!("cannot write a marker: {e}")))?;
        self.file
            .set_len(0)
            .and_then(|()| (&self.file).write_all(&text))
            .and_then(|()| self.file.sync_all())
            .and_then(|()| sync_parent(&path))
            .map_err(|e| Error::io("write", &path, &e))
    }

    /// It is gone on with. What it says stays as it is: cut off while it is written, it says nothing.
    fn touch(&self) -> Result<()> {
        let path = beside(&self.place, MARKER);
        let touched = self.file.set_modified(SystemTime::now());
        touched.map_err(|e| Error::io("touch", &path, &e))
    }

    fn delete_directory(&self) -> Result<()> {
        remove_directory(&directory(&self.place))
            .map_err(|e| Error::io("delete what was restored for", &self.place, &e))
    }

    /// Deletes what was written, then what is said of it.
    pub fn give_up(&self) -> Result<()> {
        self.delete_directory()?;
        self.remove()
    }

    /// What was written has its name now.
    pub fn remove(&self) -> Result<()> {
        let path = beside(&self.place, MARKER);
        fs::remove_file(&path)
            .and_then(|()| sync_parent(&path))
            .map_err(|e| Error::io("remove", &path, &e))
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (own.dev(), own.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
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
        let locked = own.lock(&place).unwrap();
        fs::create_dir(super::directory(&place)).unwrap();
        assert!(own.check(&place).unwrap());
        let error = own.lock(&place).unwrap_err();
        assert!(error.message().contains("under way"), "{error}");
        drop(locked);
        // It looked before the first one began.
        let error = other.lock(&place).unwrap_err();
        assert!(error.message().contains("another backup"), "{error}");
        let locked = own.lock(&place).unwrap();
        locked.give_up().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_marker_is_known_again_whichever_program_left_it() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("data");
        fs::create_dir(super::directory(&place)).unwrap();
        drop(marker("aa").lock_alone(&place).unwrap());
        assert!(!super::directory(&place).exists(), "of nothing known");
        fs::create_dir(super::directory(&place)).unwrap();
        assert!(marker("aa").check(&place).unwrap());
        assert!(destination(&place, "aa").resume);
        assert!(!destination(&place, "bb").resume);
        assert!(!is_old(&place, Duration::from_secs(60)));
        age(&place);
        assert!(is_old(&place, Duration::from_secs(60)));
        // As was written when the time stood in it.
        let text =
            r#"{"backup":"2026-11-25.120000.zone1-102","manifest_hash":"aa","touched_unix_ms":1}"#;
        fs::write(beside(&place, MARKER), text).unwrap();
        assert!(marker("aa").check(&place).unwrap());
        discard(&place).unwrap();
        assert!(!is_old(&place, Duration::ZERO));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    fn age(place: &Path) {
        let marker = File::options().write(true).open(beside(place, MARKER));
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        marker.unwrap().set_modified(hour_ago).unwrap();
    }

    #[test]
    fn i6_what_somebody_is_at_work_with_is_neither_deleted_nor_taken() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("data");
        drop(marker("aa").lock(&place).unwrap());
        fs::create_dir(super::directory(&place)).unwrap();
        age(&place);
        let locked = marker("aa").lock(&place).unwrap();
        assert!(
            !is_old(&place, Duration::from_secs(60)),
            "it is gone on with"
        );
        for refused in [
            discard(&place).unwrap_err(),
            marker("bb").lock_alone(&place).unwrap_err(),
            Locked::take(&place).unwrap_err(),
        ] {
            assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
        }
        assert!(super::directory(&place).is_dir());
        drop(locked);
        drop(marker("bb").lock_alone(&place).unwrap());
        assert!(!super::directory(&place).exists());
    }

    #[test]
    fn a_marker_that_was_removed_meanwhile_is_not_held() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("data");
        let marker = File::create(beside(&place, MARKER)).unwrap();
        let path = beside(&place, MARKER);
        assert!(is_at(&marker, &path).unwrap());
        fs::remove_file(&path).unwrap();
        assert!(!is_at(&marker, &path).unwrap());
        fs::write(&path, "").unwrap();
        assert!(!is_at(&marker, &path).unwrap());
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
