//! The file and chunk list: records, one behind the other, cut into parts between two records.
//!
//! Order: roots as in the manifest; in each root every directory, file and link by
//! [`path::order`]; behind a file its chunks in order and its end. Reading is done by
//! [`ListChecker`], which believes nothing of it.

use serde::{Deserialize, Serialize};

use super::{
    chunk::{ChunkId, ZERO_CHUNK},
    compress::Encoding,
    pack::StoredChunk,
};

/// A list part is closed before it grows beyond this; a record never does.
pub(super) const LIST_BYTES_MAX: usize = (8 << 20) - 128;
/// One record names at most this many chunks.
pub(super) const RECORD_CHUNKS_MAX: usize = 4096;
pub(super) const CHUNK_BYTES_IN_LIST: usize = 32 + 4 + 4 + 4 + 4 + 1;

/// Who owns a file or directory, what it allows, when it was changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attributes {
    pub uid: u32,
    pub gid: u32,
    /// Permission bits, set-id and sticky bits.
    pub mode: u32,
    pub mtime_seconds: i64,
    pub mtime_nanos: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Directory {
        root: u16,
        path: Vec<u8>,
        attributes: Attributes,
    },
    File {
        root: u16,
        path: Vec<u8>,
        attributes: Attributes,
        bytes: u64,
    },
    Link {
        root: u16,
        path: Vec<u8>,
        attributes: Attributes,
        target: Vec<u8>,
    },
    /// The next chunks of the file, all of them zeros.
    Zeros { count: u32 },
    /// The next chunks of the file.
    Chunks(Vec<StoredChunk>),
    /// BLAKE3 over the ids of the file's chunks.
    EndOfFile { hash: [u8; 32] },
}

impl Record {
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Record::Directory {
                root,
                path,
                attributes,
            } => {
                encode_entry(out, 1, *root, path, attributes);
            }
            Record::File {
                root,
                path,
                attributes,
                bytes,
            } => {
                encode_entry(out, 2, *root, path, attributes);
                out.extend_from_slice(&bytes.to_le_bytes());
            }
            Record::Link {
                root,
                path,
                attributes,
                target,
            } => {
                encode_entry(out, 3, *root, path, attributes);
                encode_bytes(out, target);
            }
            Record::Zeros { count } => {
                out.push(4);
                out.extend_from_slice(&count.to_le_bytes());
            }
            Record::Chunks(chunks) => {
                out.push(5);
                out.extend_from_slice(&(chunks.len() as u32).to_le_bytes());
                chunks.iter().for_each(|chunk| encode_chunk(out, chunk));
            }
            Record::EndOfFile { hash } => {
                out.push(6);
                out.extend_from_slice(hash);
            }
        }
    }

    /// The next record; `None`: `bytes` does not begin with a whole one.
    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        Some(match take::<1>(bytes)? {
            [1] => {
                let (root, path, attributes) = decode_entry(bytes)?;
                Record::Directory {
                    root,
                    path,
                    attributes,
                }
            }
            [2] => {
                let (root, path, attributes) = decode_entry(bytes)?;
                let bytes = u64::from_le_bytes(take(bytes)?);
                Record::File {
                    root,
                    path,
                    attributes,
                    bytes,
                }
            }
            [3] => {
                let (root, path, attributes) = decode_entry(bytes)?;
                let target = decode_bytes(bytes)?;
                Record::Link {
                    root,
                    path,
                    attributes,
                    target,
                }
            }
            [4] => Record::Zeros {
                count: u32::from_le_bytes(take(bytes)?),
            },
            [5] => {
                let count = u32::from_le_bytes(take(bytes)?) as usize;
                if count > RECORD_CHUNKS_MAX || bytes.len() < count * CHUNK_BYTES_IN_LIST {
                    return None;
                }
                let chunks: Option<Vec<_>> = (0..count).map(|_| decode_chunk(bytes)).collect();
                Record::Chunks(chunks?)
            }
            [6] => Record::EndOfFile { hash: take(bytes)? },
            _ => return None,
        })
    }
}

fn encode_entry(out: &mut Vec<u8>, kind: u8, root: u16, path: &[u8], attributes: &Attributes) {
    out.push(kind);
    out.extend_from_slice(&root.to_le_bytes());
    encode_bytes(out, path);
    out.extend_from_slice(&attributes.uid.to_le_bytes());
    out.extend_from_slice(&attributes.gid.to_le_bytes());
    out.extend_from_slice(&attributes.mode.to_le_bytes());
    out.extend_from_slice(&attributes.mtime_seconds.to_le_bytes());
    out.extend_from_slice(&attributes.mtime_nanos.to_le_bytes());
}

/// Paths and targets are at most 4096 bytes long.
fn encode_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

fn decode_bytes(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_le_bytes(take(bytes)?));
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head.to_vec())
}

fn decode_entry(bytes: &mut &[u8]) -> Option<(u16, Vec<u8>, Attributes)> {
    let root = u16::from_le_bytes(take(bytes)?);
    let path = decode_bytes(bytes)?;
    let attributes = Attributes {
        uid: u32::from_le_bytes(take(bytes)?),
        gid: u32::from_le_bytes(take(bytes)?),
        mode: u32::from_le_bytes(take(bytes)?),
        mtime_seconds: i64::from_le_bytes(take(bytes)?),
        mtime_nanos: u32::from_le_bytes(take(bytes)?),
    };
    Some((root, path, attributes))
}

pub(super) fn encode_chunk(out: &mut Vec<u8>, chunk: &StoredChunk) {
    out.extend_from_slice(&chunk.id);
    out.extend_from_slice(&chunk.pack.to_le_bytes());
    out.extend_from_slice(&chunk.place.to_le_bytes());
    out.extend_from_slice(&chunk.offset.to_le_bytes());
    out.extend_from_slice(&chunk.stored_bytes.to_le_bytes());
    out.push(chunk.encoding as u8);
}

pub(super) fn decode_chunk(bytes: &mut &[u8]) -> Option<StoredChunk> {
    Some(StoredChunk {
        id: take(bytes)?,
        pack: u32::from_le_bytes(take(bytes)?),
        place: u32::from_le_bytes(take(bytes)?),
        offset: u32::from_le_bytes(take(bytes)?),
        stored_bytes: u32::from_le_bytes(take(bytes)?),
        encoding: Encoding::from_byte(take::<1>(bytes)?[0])?,
    })
}

/// The hash over a file's chunks: of each its id, and of each run of zeros the id of zeros and
/// how many they are. It does not depend on how the chunks were spread over records.
#[derive(Default)]
pub(super) struct FileHasher {
    hasher: blake3::Hasher,
    zeros: u64,
}

impl FileHasher {
    pub fn add(&mut self, id: &ChunkId) {
        self.end_zeros();
        self.hasher.update(id);
    }

    pub fn add_zeros(&mut self, count: u64) {
        self.zeros += count;
    }

    fn end_zeros(&mut self) {
        if self.zeros > 0 {
            self.hasher.update(&ZERO_CHUNK);
            self.hasher.update(&self.zeros.to_le_bytes());
            self.zeros = 0;
        }
    }

    pub fn hash(mut self) -> [u8; 32] {
        self.end_zeros();
        *self.hasher.finalize().as_bytes()
    }
}

/// The records of one part's payload; an error ends it.
pub(super) struct Records<'a>(&'a [u8]);

impl<'a> Records<'a> {
    pub fn new(payload: &'a [u8]) -> Self {
        Self(payload)
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        match Record::decode(&mut self.0) {
            Some(record) => Some(Ok(record)),
            None => {
                self.0 = &[];
                Some(Err("holds a record that cannot be understood".into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As FORMAT.md has it; the golden repository has no run that two records share.
    #[test]
    fn a_run_of_zeros_is_hashed_once_however_many_records_it_has() {
        let (first, last) = ([1; 32], [2; 32]);
        let mut hasher = FileHasher::default();
        hasher.add(&first);
        hasher.add_zeros(2);
        hasher.add_zeros(3);
        hasher.add(&last);
        hasher.add_zeros(1);
        let run = |count: u64| [&ZERO_CHUNK[..], &count.to_le_bytes()].concat();
        let all = [&first[..], &run(5), &last, &run(1)].concat();
        assert_eq!(hasher.hash(), *blake3::hash(&all).as_bytes());
    }
}
