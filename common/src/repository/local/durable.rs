//! Which directories are known to last, with every one above them.
//!
//! A put syncs the directories that it makes, and only these. Others may have been made by a writer
//! that was killed, or has not come so far, before it synced them: so the first put of this process
//! into a directory syncs the whole way up.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::directory::sync;
use crate::error::Result;

/// More directories than this are not remembered.
const DIRECTORIES_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Durable(Mutex<HashSet<PathBuf>>);

impl Durable {
    /// Makes sure that a directory below `root` lasts.
    pub fn make(
        &self,
        root: &Path,
        directory: &Path,
        fsync: impl FnMut(&Path) -> io::Result<()>,
    ) -> Result<()> {
        if self.lock().contains(directory) {
            return Ok(());
        }
        sync(root, directory, fsync)?;
        let mut known = self.lock();
        if known.len() == DIRECTORIES_MAX {
            known.clear();
        }
        known.insert(directory.to_owned());
        Ok(())
    }

    /// Directories may go with an object that is deleted, and be made again by anybody.
    pub fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i2_the_first_put_into_a_directory_syncs_the_way_to_the_root_whoever_made_it() {
        let durable = Durable::default();
        let synced = |fails: bool| {
            let mut synced = Vec::new();
            let outcome = durable.make(Path::new("/r"), Path::new("/r/a/b"), |path| {
                synced.push(path.display().to_string());
                match fails {
                    true => Err(io::Error::other("bad disk")),
                    false => Ok(()),
                }
            });
            assert_eq!(outcome.is_err(), fails && !synced.is_empty());
            synced
        };
        let all = ["/r/a/b", "/r/a", "/r"];
        assert_eq!(synced(true), all[..1]);
        assert_eq!(synced(false), all);
        assert!(synced(true).is_empty());
        durable.forget();
        assert_eq!(synced(false), all);
    }
}
