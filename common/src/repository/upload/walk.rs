//! Walks the roots in the order of the lists, twice: once to know what there is, once to read it.
//! Only one directory's names are in memory at a time for each level.

use std::{
    collections::BTreeMap,
    fs::Metadata,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::unistd::{Gid, Group, Uid, User};

use super::SourceRoot;
use crate::{
    error::{Error, Result},
    repository::{
        check::DIRECTORIES_AND_LINKS_MAX,
        list::Attributes,
        manifest::{ROOTS_MAX, RootRecord},
        path,
    },
};

/// What the walk meets.
#[derive(Debug)]
pub(super) enum Found {
    Directory,
    Link { target: Vec<u8> },
    File(Metadata),
}

/// A directory, file or link below a root.
#[derive(Debug)]
pub(super) struct Entry {
    pub root: u16,
    pub path: Vec<u8>,
    /// Where it lies now.
    pub full_path: PathBuf,
    pub attributes: Attributes,
    pub found: Found,
}

/// The roots, and what the first walk found below them.
#[derive(Debug, Default)]
pub(super) struct Sources {
    roots: Vec<Root>,
    pub files: u64,
    /// Holes included.
    pub bytes: u64,
    pub users: BTreeMap<u32, String>,
    pub groups: BTreeMap<u32, String>,
}

#[derive(Debug)]
struct Root {
    name: String,
    /// Without links.
    path: PathBuf,
    exclude: Vec<String>,
    attributes: Attributes,
}

impl Sources {
    pub fn survey(roots: &[SourceRoot]) -> Result<Self> {
        if roots.is_empty() || roots.len() > ROOTS_MAX {
            return Err(Error::invalid(format!(
                "a backup has between 1 and {ROOTS_MAX} roots, not {}",
                roots.len()
            )));
        }
        let mut sources = Self::default();
        for root in roots {
            let root = Root::open(root)?;
            if sources.roots.iter().any(|other| other.name == root.name) {
                return Err(Error::invalid(format!(
                    "two roots are named {:?}",
                    root.name
                )));
            }
            sources.roots.push(root);
        }
        let (mut files, mut bytes, mut others) = (0, 0_u64, 0);
        let (mut users, mut groups) = (BTreeMap::new(), BTreeMap::new());
        let mut note = |attributes: &Attributes| {
            users
                .entry(attributes.uid)
                .or_insert_with(|| user_name(attributes.uid));
            groups
                .entry(attributes.gid)
                .or_insert_with(|| group_name(attributes.gid));
        };
        for root in &sources.roots {
            note(&root.attributes);
        }
        sources.walk(&mut |entry| {
            note(&entry.attributes);
            match &entry.found {
                Found::File(meta) => {
                    files += 1;
                    bytes += meta.len();
                }
                Found::Directory | Found::Link { .. } => others += 1,
            }
            Ok(())
        })?;
        if others > DIRECTORIES_AND_LINKS_MAX {
            return Err(Error::refused(format!(
                "there are {others} directories and links, and a backup keeps at most {DIRECTORIES_AND_LINKS_MAX}"
            )));
        }
        sources.files = files;
        sources.bytes = bytes;
        let named = |names: BTreeMap<u32, Option<String>>| {
            names
                .into_iter()
                .filter_map(|(id, name)| Some((id, name?)))
                .collect()
        };
        sources.users = named(users);
        sources.groups = named(groups);
        Ok(sources)
    }

    pub fn root_names(&self) -> Vec<Arc<str>> {
        let names = self.roots.iter().map(|root| root.name.as_str().into());
        names.collect()
    }

    pub fn records(&self) -> Vec<RootRecord> {
        self.roots
            .iter()
            .map(|root| RootRecord {
                name: root.name.clone(),
                path: root.path.display().to_string(),
                attributes: root.attributes,
            })
            .collect()
    }

    /// Calls `visit` for everything below the roots, in the order of the lists.
    pub fn walk(&self, visit: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
        for number in 0..self.roots.len() {
            self.walk_directory(number, &[], visit)?;
        }
        Ok(())
    }

    fn walk_directory(
        &self,
        number: usize,
        directory: &[u8],
        visit: &mut dyn FnMut(Entry) -> Result<()>,
    ) -> Result<()> {
        let root = &self.roots[number];
        let full = path::join(&root.path, directory);
        let mut names = Vec::new();
        let unreadable = |e: std::io::Error| Error::io("read directory", &full, &e);
        for entry in std::fs::read_dir(&full).map_err(unreadable)? {
            names.push(entry.map_err(unreadable)?.file_name());
        }
        names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for name in names {
            let mut relative = directory.to_vec();
            if !relative.is_empty() {
                relative.push(b'/');
            }
            relative.extend_from_slice(name.as_bytes());
            if path::is_excluded(&relative, &root.exclude) {
                continue;
            }
            self.walk_entry(number, relative, full.join(&name), visit)?;
        }
        Ok(())
    }

    fn walk_entry(
        &self,
        number: usize,
        relative: Vec<u8>,
        full_path: PathBuf,
        visit: &mut dyn FnMut(Entry) -> Result<()>,
    ) -> Result<()> {
        if !path::is_normal(&relative) {
            return Err(Error::refused(format!(
                "cannot back up {}: its path is too long or too deep",
                full_path.display()
            )));
        }
        let meta = std::fs::symlink_metadata(&full_path)
            .map_err(|e| Error::io("examine", &full_path, &e))?;
        let kind = meta.file_type();
        let attributes = attributes(&meta);
        let found = if kind.is_dir() {
            Found::Directory
        } else if kind.is_file() {
            Found::File(meta)
        } else if kind.is_symlink() {
            Found::Link {
                target: self.link_target(number, &relative, &full_path)?,
            }
        } else {
            tracing::debug!(path = %full_path.display(), "a special file is left out");
            return Ok(());
        };
        let descend = matches!(found, Found::Directory).then(|| relative.clone());
        visit(Entry {
            root: number as u16,
            path: relative,
            full_path,
            attributes,
            found,
        })?;
        match descend {
            Some(directory) => self.walk_directory(number, &directory, visit),
            None => Ok(()),
        }
    }

    /// Where a link points, relative and within its root; anything else fails the backup, for a
    /// restore could not bring back what it stands for.
    fn link_target(&self, number: usize, relative: &[u8], link: &Path) -> Result<Vec<u8>> {
        let root = &self.roots[number];
        let target = std::fs::read_link(link).map_err(|e| Error::io("read link", link, &e))?;
        let shown = format!("link {} points to {}", link.display(), target.display());
        let real = link.canonicalize().unwrap_or_else(|_| target.clone());
        let other = self
            .roots
            .iter()
            .find(|other| other.name != root.name && real.starts_with(&other.path));
        if let Some(other) = other {
            return Err(
                Error::refused(format!("{shown}, in another root ({})", other.name))
                    .hint("Links between roots cannot be backed up."),
            );
        }
        let below_root = target.strip_prefix(&root.path).ok();
        let written = match below_root {
            // Within the root, written as an absolute path: a restore may lie elsewhere.
            Some(below) => {
                let depth = relative.iter().filter(|b| **b == b'/').count();
                let mut up = b"../".repeat(depth);
                up.extend_from_slice(below.as_os_str().as_bytes());
                if up.is_empty() { b".".to_vec() } else { up }
            }
            None => target.as_os_str().as_bytes().to_vec(),
        };
        let escapes = real.is_absolute() && !real.starts_with(&root.path);
        if !escapes && path::goes_up_behind_a_name(&written) {
            return Err(Error::refused(format!(
                "{shown}, with \"..\" behind a name: where that leads is not certain after a restore"
            ))
            .hint("Make the link anew with \"..\" only at the beginning of its target."));
        }
        if escapes || !path::link_stays_inside(relative, &written) {
            return Err(Error::refused(format!("{shown}, outside every root")).hint(
                "Name the directory that it points to as a root of its own, or remove the link.",
            ));
        }
        Ok(written)
    }
}

impl Root {
    fn open(root: &SourceRoot) -> Result<Self> {
        let name_is_good = !root.name.is_empty()
            && root.name.len() <= 64
            && root
                .name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !name_is_good {
            return Err(Error::invalid(format!(
                "malformed root name {:?}",
                root.name
            )));
        }
        let path = root
            .path
            .canonicalize()
            .map_err(|e| Error::io("open directory", &root.path, &e))?;
        let meta = std::fs::metadata(&path).map_err(|e| Error::io("examine", &path, &e))?;
        if !meta.is_dir() {
            return Err(Error::invalid(format!(
                "{} is not a directory",
                path.display()
            )));
        }
        Ok(Self {
            name: root.name.clone(),
            path,
            exclude: root.exclude.clone(),
            attributes: attributes(&meta),
        })
    }
}

fn attributes(meta: &Metadata) -> Attributes {
    Attributes {
        uid: meta.uid(),
        gid: meta.gid(),
        mode: meta.mode() & 0o7777,
        mtime_seconds: meta.mtime(),
        mtime_nanos: u32::try_from(meta.mtime_nsec()).unwrap_or(0),
    }
}

fn user_name(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid))
        .ok()
        .flatten()
        .map(|user| user.name)
}

fn group_name(gid: u32) -> Option<String> {
    Group::from_gid(Gid::from_raw(gid))
        .ok()
        .flatten()
        .map(|group| group.name)
}
