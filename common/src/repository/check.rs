//! Checks a file and chunk list while it is read, record by record, with a memory that does not
//! grow with it: strictly ascending paths exclude duplicates, and a path's parent must be one of
//! the directories that are open at that point.

use std::{cmp::Ordering, sync::Arc};

use super::{
    chunk,
    list::{Attributes, FileHasher, Record},
    manifest::PackRecord,
    object::PREFIX_BYTES,
    pack::{StoredChunk, TRAILER_BYTES},
    path,
    seal::TAG_BYTES,
};

struct OpenFile {
    path: Vec<u8>,
    bytes: u64,
    chunks: u64,
    chunks_seen: u64,
    hasher: FileHasher,
}

/// What was seen of one root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub files: u64,
    /// Of the files, holes included.
    pub logical_bytes: u64,
    /// What a restore writes: without holes.
    pub data_bytes: u64,
    pub directories_and_links: u64,
}

/// A restore remembers its directories until the end: a forged list must not exhaust the memory.
pub(super) const DIRECTORIES_AND_LINKS_MAX: u64 = 1 << 20;

pub(super) struct ListChecker {
    packs: Arc<[PackRecord]>,
    /// One for each root of the manifest.
    pub seen: Vec<Seen>,
    last: Option<(u16, Vec<u8>)>,
    /// The directories that the next path may lie in, outermost first.
    open: Vec<Vec<u8>>,
    file: Option<OpenFile>,
}

type Checked<T = ()> = std::result::Result<T, String>;

impl ListChecker {
    pub fn new(roots: usize, packs: Arc<[PackRecord]>) -> Self {
        Self {
            packs,
            seen: vec![Seen::default(); roots],
            last: None,
            open: Vec::new(),
            file: None,
        }
    }

    /// Takes the next record, or says why it is refused.
    pub fn check(&mut self, record: &Record) -> Checked {
        match record {
            Record::Directory {
                root,
                path,
                attributes,
            } => {
                self.entry(*root, path, attributes)?.directories_and_links += 1;
                self.check_number()?;
                self.open.push(path.clone());
            }
            Record::File {
                root,
                path,
                attributes,
                bytes,
            } => {
                let seen = self.entry(*root, path, attributes)?;
                seen.files += 1;
                seen.logical_bytes = seen
                    .logical_bytes
                    .checked_add(*bytes)
                    .filter(|sum| i64::try_from(*sum).is_ok())
                    .ok_or_else(|| format!("has an absurd size for {}", path::shown(path)))?;
                self.file = Some(OpenFile {
                    path: path.clone(),
                    bytes: *bytes,
                    chunks: chunk::count(*bytes),
                    chunks_seen: 0,
                    hasher: FileHasher::default(),
                });
            }
            Record::Link {
                root,
                path,
                attributes,
                target,
            } => {
                self.entry(*root, path, attributes)?.directories_and_links += 1;
                self.check_number()?;
                if !path::link_stays_inside(path, target) {
                    return Err(format!(
                        "has a link {} that leaves its root",
                        path::shown(path)
                    ));
                }
            }
            Record::Zeros { count } => {
                let file = self.chunks_of_file(u64::from(*count))?;
                file.hasher.add_zeros(u64::from(*count));
                file.chunks_seen += u64::from(*count);
            }
            Record::Chunks(chunks) => self.chunks(chunks)?,
            Record::EndOfFile { hash } => {
                let file = self
                    .file
                    .take()
                    .ok_or("ends a file that it did not begin")?;
                if file.chunks_seen != file.chunks || file.hasher.hash() != *hash {
                    return Err(format!(
                        "has another chunk list for {} than was written",
                        path::shown(&file.path)
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_number(&self) -> Checked {
        let number: u64 = self.seen.iter().map(|s| s.directories_and_links).sum();
        if number <= DIRECTORIES_AND_LINKS_MAX {
            return Ok(());
        }
        Err(format!(
            "has more than {DIRECTORIES_AND_LINKS_MAX} directories and links"
        ))
    }

    pub fn finish(self) -> Checked<Vec<Seen>> {
        match self.file {
            None => Ok(self.seen),
            Some(file) => Err(format!("ends within {}", path::shown(&file.path))),
        }
    }

    fn entry(&mut self, root: u16, path: &[u8], attributes: &Attributes) -> Checked<&mut Seen> {
        let shown = path::shown(path);
        if let Some(file) = &self.file {
            return Err(format!("has no end of {}", path::shown(&file.path)));
        }
        if !path::is_normal(path) {
            return Err(format!("has the path {shown:?}, which leaves its root"));
        }
        if attributes.mode > 0o7777 || attributes.mtime_nanos >= 1_000_000_000 {
            return Err(format!("has impossible attributes for {shown}"));
        }
        let new_root = match &self.last {
            None => true,
            Some((last_root, last_path)) => match root.cmp(last_root) {
                Ordering::Greater => true,
                Ordering::Equal if path::order(path, last_path) == Ordering::Greater => false,
                _ => return Err(format!("has {shown} twice or out of order")),
            },
        };
        if new_root {
            self.open.clear();
        }
        let parent = path::parent(path);
        while self
            .open
            .last()
            .is_some_and(|open| Some(&open[..]) != parent)
        {
            self.open.pop();
        }
        if self.open.last().map(Vec::as_slice) != parent {
            return Err(format!("has {shown} without the directory that it lies in"));
        }
        self.last = Some((root, path.to_vec()));
        self.seen
            .get_mut(usize::from(root))
            .ok_or_else(|| format!("has {shown} in a root that the manifest does not name"))
    }

    fn chunks_of_file(&mut self, count: u64) -> Checked<&mut OpenFile> {
        let file = self.file.as_mut().ok_or("has chunks of no file")?;
        if count == 0 || count > file.chunks - file.chunks_seen {
            return Err(format!(
                "has too many chunks for {}",
                path::shown(&file.path)
            ));
        }
        Ok(file)
    }

    fn chunks(&mut self, chunks: &[StoredChunk]) -> Checked {
        let packs = Arc::clone(&self.packs);
        let file = self.chunks_of_file(chunks.len() as u64)?;
        let mut data_bytes = 0;
        for chunk in chunks {
            let plain_bytes = chunk::length(file.bytes, file.chunks_seen);
            if !chunk_fits(chunk, plain_bytes, &packs) {
                return Err(format!(
                    "has a chunk of {} that lies in no pack",
                    path::shown(&file.path)
                ));
            }
            file.hasher.add(&chunk.id);
            file.chunks_seen += 1;
            data_bytes += plain_bytes as u64;
        }
        // `entry` found the root of the open file before.
        if let Some(seen) = self
            .last
            .as_ref()
            .and_then(|(root, _)| self.seen.get_mut(usize::from(*root)))
        {
            seen.data_bytes += data_bytes;
        }
        Ok(())
    }
}

fn chunk_fits(chunk: &StoredChunk, plain_bytes: usize, packs: &[PackRecord]) -> bool {
    packs
        .get(chunk.pack as usize)
        .is_some_and(|pack| fits_in_pack(chunk, plain_bytes, pack.bytes))
}

/// Whether a chunk of `plain_bytes` can lie where `chunk` says, in a pack of `pack_bytes`.
pub(super) fn fits_in_pack(chunk: &StoredChunk, plain_bytes: usize, pack_bytes: u32) -> bool {
    let size_fits = chunk
        .encoding
        .fits(chunk.stored_bytes as usize, plain_bytes);
    let end = u64::from(chunk.offset) + u64::from(chunk.stored_bytes) + TAG_BYTES as u64;
    size_fits
        && chunk.offset as usize >= PREFIX_BYTES
        && end + TRAILER_BYTES as u64 <= u64::from(pack_bytes)
}
