//! [`crate::platform::files`] over the simulator's file system, whose unsynced writes and names go
//! with a crash.

use std::{
    io::{Result, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use turmoil::fs::shim::std::fs;

use super::{Bug, is_planted};

/// [`crate::platform::files::DataFile`]: what was not synced goes with a crash, or by chance not.
#[derive(Clone)]
pub struct DataFile(Arc<fs::File>);

impl DataFile {
    pub fn create(path: &Path, room: u64) -> Result<Self> {
        let mut options = fs::OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(path)?;
        file.set_len(room)?;
        Ok(Self(Arc::new(file)))
    }

    pub fn open(path: &Path) -> Result<Self> {
        let mut options = fs::OpenOptions::new();
        let file = options.read(true).write(true).open(path)?;
        Ok(Self(Arc::new(file)))
    }

    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    pub fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        self.0.read_exact_at(bytes, offset)
    }

    pub fn set_len(&self, length: u64) -> Result<()> {
        self.0.set_len(length)
    }

    pub fn sync_data(&self) -> Result<()> {
        match is_planted(Bug::NoFsync) {
            true => Ok(()),
            false => self.0.sync_data(),
        }
    }
}

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
