//! [`crate::platform::files`] over the simulator's file system, whose unsynced writes and names go
//! with a crash.

use std::{
    io::{Result, Write as _},
    path::{Path, PathBuf},
};

use turmoil::fs::shim::std::fs;

pub fn create_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path)?;
    // As on the file systems in use, the name of a directory outlives what is written into it.
    for directory in path.ancestors().skip(1) {
        fs::sync_dir(directory)?;
    }
    Ok(())
}

pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path)
}

pub fn write_synced(path: &Path, parts: &[&[u8]]) -> Result<()> {
    let mut file = fs::File::create(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()
}

pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to)
}

pub fn sync_directory(path: &Path) -> Result<()> {
    fs::sync_dir(path)
}

pub fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path)
}

pub fn exists(path: &Path) -> bool {
    fs::exists(path)
}

pub fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(directory)?
        .map(|item| Ok(item?.path()))
        .collect()
}
