//! The directories and files that a restore writes, and how they get their owner, mode and time.

use std::{
    collections::BTreeMap,
    fs::{DirBuilder, File, FileTimes, OpenOptions, Permissions},
    io::ErrorKind as Io,
    os::unix::fs::{self as unix, DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::{
    libc,
    unistd::{Group, User},
};

use crate::{
    error::{Error, Result},
    repository::{list::Attributes, manifest::Manifest, path},
};

/// Where the roots go, and who the owners are here.
pub(super) struct Targets {
    /// In the order of the manifest's roots.
    roots: Vec<(PathBuf, Attributes)>,
    users: BTreeMap<u32, u32>,
    groups: BTreeMap<u32, u32>,
}

impl Targets {
    /// Makes the directories, or finds them empty.
    pub fn prepare(manifest: &Manifest, targets: &BTreeMap<String, PathBuf>) -> Result<Self> {
        let mut roots = Vec::with_capacity(manifest.roots.len());
        for root in &manifest.roots {
            let Some(target) = targets.get(&root.name) else {
                return Err(Error::invalid(format!(
                    "no target for root {:?}",
                    root.name
                )));
            };
            make_empty_directory(target)?;
            roots.push((target.clone(), root.attributes));
        }
        let user = |name: &String| User::from_name(name).ok().flatten().map(|u| u.uid.as_raw());
        let group = |name: &String| {
            Group::from_name(name)
                .ok()
                .flatten()
                .map(|g| g.gid.as_raw())
        };
        Ok(Self {
            roots,
            users: here(&manifest.users, user),
            groups: here(&manifest.groups, group),
        })
    }

    pub fn path(&self, root: u16, relative: &[u8]) -> Result<PathBuf> {
        self.roots
            .get(usize::from(root))
            .map(|(directory, _)| path::join(directory, relative))
            .ok_or_else(|| Error::corrupt(format!("the backup has no root {root}")))
    }

    /// Gives the directories, innermost first, what is theirs, and syncs them.
    pub fn finish(&self, directories: &[(PathBuf, Attributes)]) -> Result<()> {
        for (directory, attributes) in self.roots.iter().chain(directories).rev() {
            let file = File::open(directory).map_err(|e| Error::io("open", directory, &e))?;
            self.apply(directory, &file, attributes, 0o3777)?;
            file.sync_all()
                .map_err(|e| Error::io("sync", directory, &e))?;
        }
        Ok(())
    }

    pub fn make_link(&self, path: &Path, target: &[u8], attributes: &Attributes) -> Result<()> {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
        unix::symlink(OsStr::from_bytes(target), path)
            .map_err(|e| Error::io("make link", path, &e))?;
        let (uid, gid) = self.owner(attributes);
        permitted(unix::lchown(path, Some(uid), Some(gid)))
            .map_err(|e| Error::io("change the owner of", path, &e))
    }

    fn owner(&self, attributes: &Attributes) -> (u32, u32) {
        let find = |map: &BTreeMap<u32, u32>, id| map.get(&id).copied().unwrap_or(id);
        (
            find(&self.users, attributes.uid),
            find(&self.groups, attributes.gid),
        )
    }

    /// Owner and group where that is permitted, then mode and time.
    fn apply(
        &self,
        path: &Path,
        file: &File,
        attributes: &Attributes,
        mode_mask: u32,
    ) -> Result<()> {
        let (uid, gid) = self.owner(attributes);
        let meta = file
            .metadata()
            .map_err(|e| Error::io("examine", path, &e))?;
        if (meta.uid(), meta.gid()) != (uid, gid) {
            permitted(unix::fchown(file, Some(uid), Some(gid)))
                .map_err(|e| Error::io("change the owner of", path, &e))?;
        }
        file.set_permissions(Permissions::from_mode(attributes.mode & mode_mask))
            .map_err(|e| Error::io("change the mode of", path, &e))?;
        file.set_times(FileTimes::new().set_modified(modified(attributes)))
            .map_err(|e| Error::io("change the time of", path, &e))
    }
}

/// The number here of each name that is known here.
fn here(
    names: &BTreeMap<u32, String>,
    find: impl Fn(&String) -> Option<u32>,
) -> BTreeMap<u32, u32> {
    names
        .iter()
        .filter_map(|(id, name)| Some((*id, find(name)?)))
        .collect()
}

/// Only root may give files away: others keep what they restore.
fn permitted(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(e) if e.kind() == Io::PermissionDenied => Ok(()),
        other => other,
    }
}

fn modified(attributes: &Attributes) -> SystemTime {
    let nanos = Duration::from_nanos(u64::from(attributes.mtime_nanos));
    let whole = Duration::from_secs(attributes.mtime_seconds.unsigned_abs());
    let at = if attributes.mtime_seconds < 0 {
        UNIX_EPOCH.checked_sub(whole)
    } else {
        UNIX_EPOCH.checked_add(whole)
    };
    at.and_then(|at| at.checked_add(nanos))
        .unwrap_or(UNIX_EPOCH)
}

fn make_empty_directory(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == Io::AlreadyExists => {}
        Err(e) => return Err(Error::io("create directory", path, &e)),
    }
    let mut entries = std::fs::read_dir(path).map_err(|e| Error::io("read directory", path, &e))?;
    if entries.next().is_some() {
        return Err(Error::refused(format!(
            "{} is not empty: nothing is restored over it",
            path.display()
        )));
    }
    Ok(())
}

pub(super) fn make_directory(path: &Path) -> Result<()> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(|e| Error::io("create directory", path, &e))
}

/// A file under restoration. It is made when its first chunk comes, and complete, with its
/// attributes, and synced, when the last one of those who write to it is done.
pub(super) struct TargetFile {
    pub path: PathBuf,
    attributes: Attributes,
    bytes: u64,
    /// Chunks that are not written yet, and one more until the planner is through with the file.
    pending: AtomicU64,
    open: Mutex<Option<Arc<File>>>,
}

impl TargetFile {
    pub fn new(path: PathBuf, attributes: Attributes, bytes: u64, chunks: u64) -> Self {
        Self {
            path,
            attributes,
            bytes,
            pending: AtomicU64::new(chunks + 1),
            open: Mutex::new(None),
        }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file, made with its full size: what is never written to it stays a hole.
    pub fn file(&self) -> Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*open {
            return Ok(Arc::clone(file));
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&self.path)
            .map_err(|e| Error::io("create", &self.path, &e))?;
        file.set_len(self.bytes)
            .map_err(|e| Error::io("set the size of", &self.path, &e))?;
        let file = Arc::new(file);
        *open = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Counts chunks as done; with the last of them the file is finished: then `true`.
    pub fn done(&self, count: u64, targets: &Targets) -> Result<bool> {
        if self.pending.fetch_sub(count, Ordering::AcqRel) != count {
            return Ok(false);
        }
        let file = self.file()?;
        targets.apply(&self.path, &file, &self.attributes, 0o1777)?;
        file.sync_all()
            .map_err(|e| Error::io("sync", &self.path, &e))?;
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(true)
    }
}
