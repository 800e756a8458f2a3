//! Goes through what a restore of the same backup has left, beside the lists: both are in the same
//! order. What the lists do not name is removed as it is passed, so that nothing of it is in the
//! way, or in the database, later; what they name as something else as well.
//!
//! Only the directories that are open at a point are remembered.

use std::{
    ffi::{OsStr, OsString},
    fs::{Metadata, Permissions},
    io,
    iter::Peekable,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    vec::IntoIter,
};

use super::{
    Destination,
    target::{PRIVATE_DIRECTORY, PRIVATE_FILE},
};
use crate::{
    error::{Error, Result},
    repository::{list::Attributes, path},
};

/// What a list says of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
    Link,
}

#[derive(Default)]
pub(super) struct Tidy {
    /// Roots that have been begun.
    roots: usize,
    /// The open directories, outermost first.
    open: Vec<Level>,
}

struct Level {
    directory: PathBuf,
    /// In the root; empty for the root itself.
    relative: Vec<u8>,
    /// What lies in it and has not been passed yet, in order.
    names: Peekable<IntoIter<Vec<u8>>>,
}

impl Tidy {
    /// Whether what is listed next is there already, and can be gone on with.
    pub fn finds(
        &mut self,
        roots: &[(Destination, Attributes)],
        root: u16,
        relative: &[u8],
        kind: Kind,
    ) -> Result<bool> {
        self.begin_roots(roots, usize::from(root) + 1)?;
        let parent = path::parent(relative).unwrap_or_default();
        while self.open.last().is_some_and(|top| top.relative != parent) {
            self.close()?;
        }
        let Some(top) = self.open.last_mut() else {
            return Err(Error::internal(format!(
                "no directory is open for {}",
                path::shown(relative)
            )));
        };
        let name = match parent.is_empty() {
            true => relative,
            false => &relative[parent.len() + 1..],
        };
        top.remove_before(Some(name))?;
        let is_there = top.names.next_if(|next| next == name).is_some();
        let full_path = top.directory.join(OsStr::from_bytes(name));
        let is_kept = is_there && keep(&full_path, kind)?;
        if kind == Kind::Directory {
            let names = match is_kept {
                true => names(&full_path)?,
                false => Vec::new(),
            };
            self.open.push(Level {
                directory: full_path,
                relative: relative.to_vec(),
                names: names.into_iter().peekable(),
            });
        }
        Ok(is_kept)
    }

    /// Removes what is left behind the last listed path.
    pub fn finish(mut self, roots: &[(Destination, Attributes)]) -> Result<()> {
        self.begin_roots(roots, roots.len())?;
        while !self.open.is_empty() {
            self.close()?;
        }
        Ok(())
    }

    /// Begins roots until `count` have been; those before the last are at their end.
    fn begin_roots(&mut self, roots: &[(Destination, Attributes)], count: usize) -> Result<()> {
        while self.roots < count.min(roots.len()) {
            while !self.open.is_empty() {
                self.close()?;
            }
            let directory = roots[self.roots].0.directory.clone();
            self.open.push(Level {
                names: names(&directory)?.into_iter().peekable(),
                directory,
                relative: Vec::new(),
            });
            self.roots += 1;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        match self.open.pop() {
            Some(mut level) => level.remove_before(None),
            None => Ok(()),
        }
    }
}

impl Level {
    /// Removes what comes before `name`; all that is left, if there is none.
    fn remove_before(&mut self, name: Option<&[u8]>) -> Result<()> {
        while let Some(stranger) = self
            .names
            .next_if(|next| name.is_none_or(|name| next.as_slice() < name))
        {
            remove(&self.directory.join(OsString::from_vec(stranger)))?;
        }
        Ok(())
    }
}

fn names(directory: &Path) -> Result<Vec<Vec<u8>>> {
    let failed = |e: &io::Error| Error::io("read directory", directory, e);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(|e| failed(&e))? {
        names.push(entry.map_err(|e| failed(&e))?.file_name().into_vec());
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether what lies at `path` can be gone on with; otherwise it is removed. Links are made anew.
fn keep(path: &Path, kind: Kind) -> Result<bool> {
    let meta = path
        .symlink_metadata()
        .map_err(|e| Error::io("examine", path, &e))?;
    let mode = match kind {
        Kind::Directory if meta.is_dir() => PRIVATE_DIRECTORY,
        // With another name it may be a file that is in use: it must not be written to.
        Kind::File if meta.is_file() && meta.nlink() == 1 => PRIVATE_FILE,
        _ => {
            remove_known(path, &meta)?;
            return Ok(false);
        }
    };
    // It may have had its final mode already, which need not let its owner write.
    std::fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|e| Error::io("change the mode of", path, &e))?;
    Ok(true)
}

fn remove(path: &Path) -> Result<()> {
    let meta = path
        .symlink_metadata()
        .map_err(|e| Error::io("examine", path, &e))?;
    remove_known(path, &meta)
}

fn remove_known(path: &Path, meta: &Metadata) -> Result<()> {
    let removed = match meta.is_dir() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    };
    removed.map_err(|e| Error::io("remove", path, &e))
}
