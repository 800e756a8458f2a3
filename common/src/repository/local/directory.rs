//! The local directory below a `file://` repository.

use std::path::Path;

use object_store::local::LocalFileSystem;

use crate::error::{Error, Result, chain};

/// `create`: the directory is made when it is not there.
pub(super) fn open(directory: &Path, url: &str, create: bool) -> Result<LocalFileSystem> {
    if create {
        std::fs::create_dir_all(directory).map_err(|e| {
            Error::io("create the repository", directory, &e).hint(format!(
                "Make {} by hand and give it to the user of the coordinator: docs/storage.md says with which rights.",
                directory.display()
            ))
        })?;
    }
    match std::fs::metadata(directory) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            return Err(Error::invalid(format!(
                "repository {url}: {} is not a directory",
                directory.display()
            )));
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(not_there(directory, url));
        }
        Err(e) => return Err(Error::io("open the repository", directory, &e)),
    }
    let local = LocalFileSystem::new_with_prefix(directory)
        .map_err(|e| Error::unavailable(format!("cannot open repository {url}: {}", chain(&e))))?;
    Ok(local.with_fsync(true).with_automatic_cleanup(true))
}

fn not_there(directory: &Path, url: &str) -> Error {
    const CHECK: &str = "Check repository.url; the coordinator creates a repository, nobody else.";
    let missing = directory.ancestors().take_while(|path| !path.exists());
    let first = missing.last().unwrap_or(directory);
    let error = Error::not_found(format!(
        "there is no repository at {url}: no directory {}",
        first.display()
    ));
    match first == directory {
        true => error.hint(CHECK),
        false => error.hint(format!("Is its file system mounted? {CHECK}")),
    }
}

/// Syncs a file below `root`, then the directories from the one that it lies in up to `root`.
pub(super) fn sync(
    root: &Path,
    file: &Path,
    mut fsync: impl FnMut(&Path) -> std::io::Result<()>,
) -> Result<()> {
    for path in file.ancestors().take_while(|path| path.starts_with(root)) {
        fsync(path).map_err(|e| Error::io("sync", path, &e))?;
    }
    Ok(())
}

pub(super) fn fsync(path: &Path) -> std::io::Result<()> {
    std::fs::File::open(path)?.sync_all()
}

/// An error when `path` is a symbolic link or has one below it.
pub(super) fn check_no_links(path: &Path) -> Result<()> {
    let failed = |e: &std::io::Error| Error::io("look at", path, e);
    let data = match std::fs::symlink_metadata(path) {
        Ok(data) => data,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed(&e)),
    };
    if data.is_symlink() {
        return Err(Error::corrupt(format!(
            "{} is a symbolic link: nothing is deleted through it",
            path.display()
        ))
        .hint("Find out who made it, and remove it."));
    }
    if data.is_dir() {
        for item in std::fs::read_dir(path).map_err(|e| failed(&e))? {
            check_no_links(&item.map_err(|e| failed(&e))?.path())?;
        }
    }
    Ok(())
}

/// Removes a directory with all that a listing does not show of it.
pub(super) fn clear(directory: &Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove directory", directory, &e))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_directory_that_is_not_there_the_first_missing_one_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let (mount, below) = (directory.path().join("nas"), "nas/backups/a");
        let refused = |below: &str| {
            let path = directory.path().join(below);
            let error = open(&path, "file:///nas/backups/a", false).unwrap_err();
            error.to_string()
        };
        let error = refused(below);
        let named = format!(
            "no directory {}. Is its file system mounted?",
            mount.display()
        );
        assert!(error.contains(&named), "{error}");
        std::fs::create_dir_all(mount.join("backups")).unwrap();
        let error = refused(below);
        assert!(error.contains("backups/a. Check repository.url"), "{error}");
    }

    #[test]
    fn i2_a_file_is_synced_with_every_directory_up_to_the_root() {
        let all = ["/r/a/b/o", "/r/a/b", "/r/a", "/r"].map(Path::new);
        for bad in [None, Some(0), Some(1), Some(2), Some(3)] {
            let mut synced = Vec::new();
            let outcome = sync(all[3], all[0], |path| {
                synced.push(path.to_owned());
                match bad {
                    Some(bad) if path == all[bad] => Err(std::io::Error::other("bad disk")),
                    _ => Ok(()),
                }
            });
            assert_eq!(outcome.is_err(), bad.is_some());
            assert_eq!(synced, all[..=bad.unwrap_or(3)]);
        }
    }
}
