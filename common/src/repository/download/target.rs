//! The directories that a restore writes, and how entries get their owner, mode and time.

use std::{
    collections::BTreeMap,
    fs::{DirBuilder, File, FileTimes, Permissions},
    io::ErrorKind as Io,
    os::unix::fs::{self as unix, DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::unistd::{Group, User};

use super::{Destination, Destinations};
use crate::{
    error::{Error, Result},
    repository::{list::Attributes, manifest::Manifest, path},
};

/// While a restore is under way nobody else gets in.
pub(super) const PRIVATE_DIRECTORY: u32 = 0o700;
pub(super) const PRIVATE_FILE: u32 = 0o600;

/// Where the roots go, what may lie there already, and who the owners are here.
pub(super) struct Targets {
    /// In the order of the manifest's roots.
    pub roots: Vec<(Destination, Attributes)>,
    users: BTreeMap<u32, u32>,
    groups: BTreeMap<u32, u32>,
}

impl Targets {
    /// Makes the directories, or finds them empty, or as a restore of the same backup left them.
    pub fn prepare(manifest: &Manifest, destinations: &Destinations) -> Result<Self> {
        let targets = Self::of(manifest, destinations)?;
        for (destination, _) in &targets.roots {
            make_root(destination)?;
        }
        Ok(targets)
    }

    /// The same, touching nothing.
    pub fn of(manifest: &Manifest, destinations: &Destinations) -> Result<Self> {
        let mut roots = Vec::with_capacity(manifest.roots.len());
        for root in &manifest.roots {
            let Some(destination) = destinations.get(&root.name) else {
                return Err(Error::invalid(format!(
                    "no target for root {:?}",
                    root.name
                )));
            };
            roots.push((destination.clone(), root.attributes));
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

    pub fn root(&self, root: u16) -> Result<&Destination> {
        self.roots
            .get(usize::from(root))
            .map(|(destination, _)| destination)
            .ok_or_else(|| Error::corrupt(format!("the backup has no root {root}")))
    }

    pub fn path(&self, root: u16, relative: &[u8]) -> Result<PathBuf> {
        Ok(path::join(&self.root(root)?.directory, relative))
    }

    /// The same path below the directory that is about to be replaced.
    pub fn old_path(&self, root: u16, relative: &[u8]) -> Result<Option<PathBuf>> {
        let old = self.root(root)?.old.as_ref();
        Ok(old.map(|old| path::join(old, relative)))
    }

    /// Gives the directories, innermost first, what is theirs, and syncs them.
    pub fn finish(&self, directories: &[(PathBuf, Attributes)]) -> Result<()> {
        let roots = self.roots.iter().map(|(root, own)| (&root.directory, own));
        let inner = directories.iter().map(|(path, own)| (path, own));
        for (directory, attributes) in roots.chain(inner).rev() {
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
    pub fn apply(
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

fn make_root(destination: &Destination) -> Result<()> {
    let path = &destination.directory;
    match DirBuilder::new().mode(PRIVATE_DIRECTORY).create(path) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == Io::AlreadyExists => {}
        Err(e) => return Err(Error::io("create directory", path, &e)),
    }
    let meta = path
        .symlink_metadata()
        .map_err(|e| Error::io("examine", path, &e))?;
    if destination.resume && meta.is_dir() {
        return std::fs::set_permissions(path, Permissions::from_mode(PRIVATE_DIRECTORY))
            .map_err(|e| Error::io("change the mode of", path, &e));
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
        .mode(PRIVATE_DIRECTORY)
        .create(path)
        .map_err(|e| Error::io("create directory", path, &e))
}
