//! Lists the objects below a directory, in the order of their keys.
//!
//! An entry that cannot be looked at is an error: a listing without it would say that the object
//! is not there. Only what was deleted since its directory was read is left out.

use std::{
    fs::{self, DirEntry, Metadata},
    io::ErrorKind,
    path::PathBuf,
};

use object_store::{ObjectMeta, path::Path};

use crate::error::{Error, Result};

/// No key of ours has more names than this; a directory below is none of ours, or a loop of links.
const DEPTH_MAX: usize = 16;

/// Goes on from batch to batch.
pub(super) struct Listing {
    /// The entries still to come of each directory on the way, last first.
    open: Vec<Vec<Entry>>,
    /// Keys up to this one are left out.
    after: Option<Path>,
}

/// What lies directly in a directory.
pub(super) struct Entry {
    pub key: Path,
    pub path: PathBuf,
    pub meta: Metadata,
}

impl Listing {
    pub fn begin(root: &std::path::Path, prefix: &Path, after: Option<Path>) -> Result<Self> {
        let entries = read_directory(root, prefix)?;
        Ok(Self {
            open: vec![entries],
            after,
        })
    }

    /// At most `count` objects; fewer: there are no more.
    pub fn next_batch(&mut self, count: usize) -> Result<Vec<ObjectMeta>> {
        let mut batch = Vec::new();
        while batch.len() < count {
            let Some(directory) = self.open.last_mut() else {
                break;
            };
            let Some(entry) = directory.pop() else {
                self.open.pop();
                continue;
            };
            if entry.meta.is_dir() {
                if self.open.len() == DEPTH_MAX {
                    return Err(Error::corrupt(format!(
                        "{} lies deeper than any object can",
                        entry.path.display()
                    )));
                }
                self.open.push(read(&entry.path, &entry.key)?);
            } else if self.after.as_ref().is_none_or(|after| entry.key > *after) {
                batch.push(object(&entry));
            }
        }
        Ok(batch)
    }
}

pub(super) fn object(entry: &Entry) -> ObjectMeta {
    ObjectMeta {
        location: entry.key.clone(),
        last_modified: entry
            .meta
            .modified()
            .map_or(std::time::UNIX_EPOCH, |time| time)
            .into(),
        size: entry.meta.len(),
        e_tag: None,
        version: None,
    }
}

/// The entries below a prefix, last first; none when the directory is not there.
pub(super) fn read_directory(root: &std::path::Path, prefix: &Path) -> Result<Vec<Entry>> {
    let entries = read(&root.join(prefix.as_ref()), prefix)?;
    if entries.is_empty() {
        // Below a root that is gone there is not nothing: nobody knows what there is.
        fs::metadata(root).map_err(|e| failed("look at", root, &e))?;
    }
    Ok(entries)
}

fn read(directory: &std::path::Path, prefix: &Path) -> Result<Vec<Entry>> {
    let failed = |e: &std::io::Error| failed("list", directory, e);
    let items = match fs::read_dir(directory) {
        Ok(items) => items,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(&e)),
    };
    let mut entries = Vec::new();
    for item in items {
        entries.extend(look_at(&item.map_err(|e| failed(&e))?, prefix)?);
    }
    entries.sort_by_cached_key(|entry| std::cmp::Reverse(order(entry)));
    Ok(entries)
}

/// What is not there must not be taken for an answer, and what fails now may not fail later.
fn failed(what: &str, path: &std::path::Path, error: &std::io::Error) -> Error {
    let error = Error::io(what, path, error);
    match error.kind() {
        crate::error::ErrorKind::NotFound | crate::error::ErrorKind::Internal => {
            Error::unavailable(error.message()).hint("Is its file system still there?")
        }
        _ => error,
    }
}

/// Keys are compared as a whole, so a directory stands where its name and a slash would.
fn order(entry: &Entry) -> String {
    let slash = if entry.meta.is_dir() { "/" } else { "" };
    format!("{}{slash}", entry.key)
}

fn look_at(item: &DirEntry, prefix: &Path) -> Result<Option<Entry>> {
    let path = item.path();
    let name = item.file_name();
    if name.to_str().is_some_and(is_half_written) {
        return Ok(None);
    }
    let meta = match fs::metadata(&path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == ErrorKind::NotFound && fs::symlink_metadata(&path).is_err() => {
            return Ok(None);
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(Error::corrupt(format!(
                "{} is a symbolic link that leads nowhere",
                path.display()
            ))
            .hint("Find out who made it, and remove it."));
        }
        Err(e) => return Err(failed("look at", &path, &e)),
    };
    if !meta.is_dir() && !meta.is_file() {
        return Ok(None);
    }
    let key = name.to_str().map(|name| match prefix.as_ref() {
        "" => Path::parse(name),
        prefix => Path::parse(format!("{prefix}/{name}")),
    });
    match key {
        Some(Ok(key)) => Ok(Some(Entry { key, path, meta })),
        _ => Err(Error::corrupt(format!(
            "{} has a name that no object can have",
            path.display()
        ))
        .hint("Find out who made it, and remove it.")),
    }
}

/// `<name>#<number>`: what a writer has begun, which is no object yet.
fn is_half_written(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, number)| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(names: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for name in names {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        root
    }

    fn list(root: &std::path::Path, prefix: &str, after: Option<&str>) -> Result<Vec<String>> {
        let mut listing = Listing::begin(root, &Path::from(prefix), after.map(Path::from))?;
        let mut keys = Vec::new();
        loop {
            let batch = listing.next_batch(2)?;
            keys.extend(batch.iter().map(|meta| meta.location.to_string()));
            if batch.len() < 2 {
                return Ok(keys);
            }
        }
    }

    #[test]
    fn objects_are_listed_in_the_order_of_their_keys_and_gone_on_with_behind_any() {
        let names = ["a-b", "a.x/1", "a/b/c", "a/b/d", "a/z", "b"];
        let root = tree(&names);
        fs::write(root.path().join("a/half#12"), "x").unwrap();
        fs::create_dir_all(root.path().join("a/empty")).unwrap();
        assert_eq!(list(root.path(), "", None).unwrap(), names);
        for (i, name) in names.iter().enumerate() {
            let rest = list(root.path(), "", Some(name)).unwrap();
            assert_eq!(rest, names[i + 1..]);
        }
        assert_eq!(list(root.path(), "a/b", None).unwrap(), ["a/b/c", "a/b/d"]);
        assert!(list(root.path(), "c", None).unwrap().is_empty());
        assert!(list(&root.path().join("gone"), "c", None).is_err());
    }

    #[test]
    fn i5_a_listing_does_not_leave_out_what_it_cannot_look_at() {
        let root = tree(&["packs/a", "packs/b"]);
        let link = |to: &str| {
            let at = root.path().join("packs/link");
            let _ = fs::remove_file(&at);
            std::os::unix::fs::symlink(to, at).unwrap();
            list(root.path(), "packs", None)
        };
        // Links that lead nowhere stand in for a disk that cannot say what it has.
        for to in ["nowhere", "link", "."] {
            assert!(link(to).is_err(), "{to}");
        }
        assert_eq!(link("a").unwrap().len(), 3);
    }
}
