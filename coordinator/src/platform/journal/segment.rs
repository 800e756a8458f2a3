//! One file of the journal: a head, then frames, then zeros.
//!
//! The head: `SWJRNL`, a version (2 bytes), the number of its first frame (8), the salt of its
//! checksums (4), a checksum over all that (4), and eight zeros. It is on disk before a frame is
//! written.

use std::path::{Path, PathBuf};

use seawall_common::{Error, Result};

use super::frame::{self, ALIGNED, Frame};
use crate::platform::files::{self, DataFile};

const MAGIC: [u8; 6] = *b"SWJRNL";
const VERSION: u16 = 1;
const HEAD_BYTES: usize = 32;
const HEAD_WORDS: usize = 20;
const EXTENSION: &str = "journal";
const REPLACE: &str = "Restore this member by removing it and adding it anew under a new id. \
    If too few are left for that, restore the group from its backup.";

/// A segment as it was found.
pub struct Opened {
    pub segment: Segment,
    /// Of each frame, where its payload lies, and the payload.
    pub frames: Vec<(u64, Vec<u8>)>,
    file_bytes: u64,
    /// Something follows that is no frame.
    has_rest: bool,
}

pub struct Segment {
    /// The number of its first frame, which is its name.
    pub first: u64,
    pub salt: u32,
    pub file: DataFile,
    path: PathBuf,
    /// Where the next frame begins.
    pub length: u64,
    /// Records in it that have not been deleted or put anew.
    pub live: usize,
}

impl Opened {
    /// To be done with the last, and when all are known to be there. What follows after its frames was
    /// being written when the power went, and was never acknowledged. And its last frame may be in the
    /// system's memory only: whoever wrote it was killed before it was synced, or could not sync it,
    /// after which a sync alone would do nothing.
    pub fn settle(&self) -> Result<()> {
        let Segment { file, path, .. } = &self.segment;
        let failed = |e: std::io::Error| Error::io("write", path, &e);
        if self.has_rest {
            let length = self.segment.length;
            tracing::warn!(
                "{}: what follows after {length} bytes was not written to its end, and is dropped",
                path.display()
            );
            file.set_length(length).map_err(failed)?;
            file.set_length(self.file_bytes).map_err(failed)?;
        }
        if let Some((offset, payload)) = self.frames.last() {
            let number = self.segment.first + self.frames.len() as u64 - 1;
            let frame = frame::framed(self.segment.salt, number, payload)?;
            let begin = offset - frame::HEAD_BYTES as u64;
            file.write_at(&frame, begin).map_err(failed)?;
        }
        file.sync().map_err(failed)
    }
}

impl Segment {
    /// The segments of a directory, the oldest first.
    pub fn paths(directory: &Path) -> Result<Vec<PathBuf>> {
        let listed = files::list(directory).map_err(|e| Error::io("read", directory, &e))?;
        let is_segment = |path: &PathBuf| path.extension().is_some_and(|end| end == EXTENSION);
        let mut paths: Vec<_> = listed.into_iter().filter(is_segment).collect();
        paths.sort();
        Ok(paths)
    }

    /// Its head and its name are on disk when this returns.
    pub fn create(directory: &Path, first: u64, room: u64) -> Result<Self> {
        let path = directory.join(format!("{first:020}.{EXTENSION}"));
        let salt = rand::random();
        let failed = |e: std::io::Error| Error::io("write", &path, &e);
        let file = DataFile::create(&path, room).map_err(failed)?;
        file.write_at(&head(first, salt), 0).map_err(failed)?;
        file.sync().map_err(failed)?;
        files::sync_directory(directory).map_err(failed)?;
        Ok(Self {
            first,
            salt,
            file,
            path,
            length: HEAD_BYTES as u64,
            live: 0,
        })
    }

    /// Its name is gone from the disk when this returns.
    pub fn remove(self) -> Result<()> {
        let failed = |e: std::io::Error| Error::io("remove", &self.path, &e);
        files::remove(&self.path).map_err(failed)?;
        let directory = self.path.parent().unwrap_or(Path::new("."));
        files::sync_directory(directory).map_err(failed)
    }

    /// None: it was being made when the power went, and has nothing.
    pub fn open(path: &Path) -> Result<Option<Opened>> {
        let failed = |e: std::io::Error| Error::io("read", path, &e);
        let bytes = files::read(path).map_err(failed)?;
        if is_zero(&bytes) {
            return Ok(None);
        }
        let (first, salt) = parsed_head(path, &bytes)?;
        let mut segment = Self {
            first,
            salt,
            file: DataFile::open(path).map_err(failed)?,
            path: path.to_owned(),
            length: HEAD_BYTES as u64,
            live: 0,
        };
        let mut frames = Vec::new();
        let mut rest = &bytes[HEAD_BYTES..];
        while let Some(frame) = Frame::at(salt, rest)
            && frame.number == first + frames.len() as u64
        {
            frames.push((segment.payload_offset(), frame.payload.to_vec()));
            segment.length += frame.bytes() as u64;
            rest = rest.get(frame.bytes()..).unwrap_or_default();
        }
        let number = first + frames.len() as u64;
        if has_frame(salt, rest) || Frame::is_followed(number, rest) {
            let what = format!("frame {number}, before what was written after it");
            return Err(segment.damaged(&what));
        }
        Ok(Some(Opened {
            segment,
            frames,
            file_bytes: bytes.len() as u64,
            has_rest: !is_zero(rest),
        }))
    }

    pub fn is_empty(&self) -> bool {
        self.length == HEAD_BYTES as u64
    }

    /// Where what the next frame holds will lie.
    pub fn payload_offset(&self) -> u64 {
        self.length + frame::HEAD_BYTES as u64
    }

    pub fn damaged(&self, what: &str) -> Error {
        damaged(&self.path, what)
    }
}

pub fn damaged(path: &Path, what: &str) -> Error {
    Error::corrupt(format!(
        "cannot read the log in {}: {what} is damaged",
        path.display()
    ))
    .hint(REPLACE)
}

/// One that is wanted and is not there.
pub fn missing(directory: &Path, what: &str) -> Error {
    Error::corrupt(format!(
        "cannot read the log in {}: {what}",
        directory.display()
    ))
    .hint(REPLACE)
}

fn head(first: u64, salt: u32) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..6].copy_from_slice(&MAGIC);
    head[6..8].copy_from_slice(&VERSION.to_be_bytes());
    head[8..16].copy_from_slice(&first.to_be_bytes());
    head[16..20].copy_from_slice(&salt.to_be_bytes());
    let checksum = crc32c::crc32c(&head[..HEAD_WORDS]);
    head[20..24].copy_from_slice(&checksum.to_be_bytes());
    head
}

fn parsed_head(path: &Path, bytes: &[u8]) -> Result<(u64, u32)> {
    let damaged = || damaged(path, "its head");
    let found = bytes.get(..HEAD_BYTES).ok_or_else(damaged)?;
    let number = |range: std::ops::Range<usize>| {
        let bytes = found[range].iter();
        bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    let version = number(6..8);
    if found[..6] == MAGIC && version != u64::from(VERSION) {
        return Err(Error::corrupt(format!(
            "{} is of version {version} of the log, and this program knows version {VERSION}",
            path.display()
        ))
        .hint("Start the coordinator that wrote it."));
    }
    let salt = u32::try_from(number(16..20)).map_err(|_| damaged())?;
    let first = number(8..16);
    match *found == head(first, salt) {
        true => Ok((first, salt)),
        false => Err(damaged()),
    }
}

const PAGE_BYTES: usize = 4096;

/// By the page, which is quick without optimization too.
fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
    let mut pages = bytes.chunks(PAGE_BYTES);
    pages.all(|page| *page == ZEROS[..page.len()])
}

/// Whether a frame that is whole begins anywhere.
fn has_frame(salt: u32, bytes: &[u8]) -> bool {
    let pages = (0..bytes.len()).step_by(PAGE_BYTES);
    let is_written = |page: &usize| !is_zero(&bytes[*page..bytes.len().min(page + PAGE_BYTES)]);
    pages.filter(is_written).any(|page| {
        let places = (page..bytes.len().min(page + PAGE_BYTES)).step_by(ALIGNED);
        places
            .into_iter()
            .any(|at| Frame::at(salt, &bytes[at..]).is_some())
    })
}
