//! The journal's file: one line that names format and checksum, then the contents as JSON.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use seawall_common::{Error, Result};

use super::Contents;

const NAME: &str = "journal.json";
const MAGIC: &str = "seawall-journal 1 crc32c ";
/// Far above what the bounded history can fill.
const BYTES_MAX: u64 = 16 << 20;
/// Room kept for the journal: on a full disk the agent must still be able to write down what it
/// does, or the database that it has stopped would stay down.
const RESERVE_BYTES: i64 = 1 << 20;

pub(super) fn path_in(directory: &Path) -> PathBuf {
    directory.join(NAME)
}

pub(super) fn write(path: &Path, contents: &Contents) -> Result<()> {
    let body = serde_json::to_vec_pretty(contents)
        .map_err(|e| Error::internal(format!("cannot write the journal as JSON: {e}")))?;
    let mut bytes = format!("{MAGIC}{:08x}\n", crc32c::crc32c(&body)).into_bytes();
    bytes.extend_from_slice(&body);
    let reserve = path.with_extension("reserve");
    let written = match try_replace(path, &bytes) {
        Err(e) if is_full(&e) => {
            tracing::error!(
                "no space left for {}: taking from its reserve",
                path.display()
            );
            std::fs::remove_file(&reserve)
                .and_then(|()| try_replace(path, &bytes))
                .map_err(|_| e)
        }
        other => other,
    };
    written.map_err(|e| Error::io("write", path, &e))?;
    if !reserve.exists() && make_reserve(&reserve).is_err() {
        // The next write that finds room makes it.
        std::fs::remove_file(&reserve).ok();
    }
    Ok(())
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

fn make_reserve(path: &Path) -> std::io::Result<()> {
    let file = File::create(path)?;
    nix::fcntl::posix_fallocate(&file, 0, RESERVE_BYTES)?;
    file.sync_all()
}

/// Puts `bytes` in the place of the file at `path`, so that after a crash at any moment either the
/// old or the new contents are there in full.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    try_replace(path, bytes).map_err(|e| Error::io("write", path, &e))
}

fn try_replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

pub(super) fn read(path: &Path) -> Result<Contents> {
    let io = |e: std::io::Error| Error::io("read the journal", path, &e).hint(LOST);
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > BYTES_MAX {
        return Err(damaged(path, &format!("it has {size} bytes")));
    }
    let bytes = std::fs::read(path).map_err(io)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| damaged(path, "it is not text"))?;
    let (head, body) = text
        .split_once('\n')
        .ok_or_else(|| damaged(path, "its first line is not complete"))?;
    let checksum = head
        .strip_prefix(MAGIC)
        .and_then(|hex| u32::from_str_radix(hex, 16).ok())
        .ok_or_else(|| damaged(path, "it does not begin like a journal of this version"))?;
    if crc32c::crc32c(body.as_bytes()) != checksum {
        return Err(damaged(path, "its checksum does not fit"));
    }
    serde_json::from_str(body).map_err(|e| damaged(path, &e.to_string()))
}

const LOST: &str = "Without its journal the agent cannot know what it was doing to the database: look at the database first, \
     then begin with an empty state directory and --replace.";

fn damaged(path: &Path, why: &str) -> Error {
    Error::corrupt(format!("the journal {} is damaged: {why}", path.display())).hint(LOST)
}
