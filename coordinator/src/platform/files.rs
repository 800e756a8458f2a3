//! The few things that are done with small files: whole ones are written, synced and renamed, so
//! that after a power loss each is there as it was written or not at all.

use std::{
    io::{Result, Write as _},
    path::{Path, PathBuf},
};

/// Does the same with the simulator's files where there is a simulation.
macro_rules! simulated {
    ($function:ident($($argument:expr),*)) => {
        #[cfg(feature = "sim")]
        if turmoil::in_simulation() {
            return crate::sim::files::$function($($argument),*);
        }
    };
}

pub fn create_directory(path: &Path) -> Result<()> {
    simulated!(create_directory(path));
    std::fs::create_dir_all(path)
}

pub fn read(path: &Path) -> Result<Vec<u8>> {
    simulated!(read(path));
    std::fs::read(path)
}

/// Writes a file that nobody has opened, and syncs it. Its name is durable after
/// [`sync_directory`].
pub fn write_synced(path: &Path, parts: &[&[u8]]) -> Result<()> {
    simulated!(write_synced(path, parts));
    let mut file = std::fs::File::create(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()
}

pub fn rename(from: &Path, to: &Path) -> Result<()> {
    simulated!(rename(from, to));
    std::fs::rename(from, to)
}

/// The names in it are durable when this returns.
pub fn sync_directory(path: &Path) -> Result<()> {
    simulated!(sync_directory(path));
    std::fs::File::open(path)?.sync_all()
}

pub fn remove(path: &Path) -> Result<()> {
    simulated!(remove(path));
    std::fs::remove_file(path)
}

pub fn exists(path: &Path) -> bool {
    simulated!(exists(path));
    path.exists()
}

pub fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    simulated!(list(directory));
    std::fs::read_dir(directory)?
        .map(|item| Ok(item?.path()))
        .collect()
}
