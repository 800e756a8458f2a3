//! The local directory below a `file://` repository.

use std::path::Path;

use object_store::local::LocalFileSystem;

use crate::error::{Error, Result, chain};

/// `create`: the directory is made when it is not there.
pub(super) fn open(directory: &Path, url: &str, create: bool) -> Result<LocalFileSystem> {
    if create {
        std::fs::create_dir_all(directory)
            .map_err(|e| Error::io("create the repository", directory, &e))?;
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
            return Err(Error::not_found(format!(
                "there is no repository at {url}: no directory {}",
                directory.display()
            ))
            .hint("Check repository.url; the coordinator creates a repository, nobody else."));
        }
        Err(e) => return Err(Error::io("open the repository", directory, &e)),
    }
    let local = LocalFileSystem::new_with_prefix(directory)
        .map_err(|e| Error::unavailable(format!("cannot open repository {url}: {}", chain(&e))))?;
    Ok(local.with_fsync(true).with_automatic_cleanup(true))
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
