//! The few things that are done with small files: whole ones are written, synced and renamed, so
//! that after a power loss each is there as it was written or not at all.

use std::{
    io::Result,
    path::{Path, PathBuf},
};

pub fn create_directory(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path)
}

pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path)
}

/// Writes a file that nobody has opened, and syncs it. Its name is durable after
/// [`sync_directory`].
pub fn write_synced(path: &Path, parts: &[&[u8]]) -> Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()
}

pub fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to)
}

/// The names in it are durable when this returns.
pub fn sync_directory(path: &Path) -> Result<()> {
    std::fs::File::open(path)?.sync_all()
}

pub fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path)
}

pub fn exists(path: &Path) -> bool {
    path.exists()
}

pub fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    std::fs::read_dir(directory)?
        .map(|item| Ok(item?.path()))
        .collect()
}
