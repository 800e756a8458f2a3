//! An index file: written once, hashed as a whole, looked up by binary search.
//!
//! `bytes[8]` magic, `u32` length of the description, the description (JSON), the packs (`u16`
//! origin, `bytes[16]` id, `u32` bytes, `bytes[32]` hash), the chunks as in a list but sorted by
//! id, `u64` number of chunks, `bytes[32]` BLAKE3 of all before. It is not part of the repository's
//! format: another version throws it away.

use std::{
    fs::{File, OpenOptions},
    io::{BufReader, BufWriter, Read, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Reference, Sorter, index_path,
    sort::{IndexRecord, RECORD_BYTES},
};
use crate::{
    error::{Error, Result},
    ids::{BackupName, ShardId},
    repository::{
        chunk::ChunkId,
        list::decode_chunk,
        manifest::{PackOrigin, PackRecord},
        pack::StoredChunk,
    },
};

const MAGIC: &[u8; 8] = b"SWLKNWN1";
const PACK_BYTES: usize = 2 + 16 + 4 + 32;
const END_BYTES: usize = 8 + 32;
const DESCRIPTION_BYTES_MAX: usize = 8 << 20;
const BUFFER_BYTES: usize = 256 << 10;
/// Stands where a complete backup has its manifest's hash.
const ATTEMPT: &str = "attempt";

/// What an index is of. A file of anything else is foreign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct IndexIdentity {
    pub repository: Uuid,
    pub shard: ShardId,
    pub backup: BackupName,
    /// The manifest's hash, or that there is none.
    pub made_from: String,
}

impl IndexIdentity {
    pub fn of(repository: Uuid, shard: &ShardId, reference: &Reference) -> Self {
        Self {
            repository,
            shard: shard.clone(),
            backup: reference.name.clone(),
            made_from: reference
                .manifest_hash
                .clone()
                .unwrap_or_else(|| ATTEMPT.to_owned()),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Description {
    of: IndexIdentity,
    origins: Vec<Origin>,
    packs: u32,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    backup: BackupName,
    session: Uuid,
    encrypted: bool,
}

/// An index that was found whole. Its numbers are those of its own pack table.
#[derive(Debug)]
pub(in super::super) struct IndexFile {
    file: File,
    shown: String,
    origins: Vec<Arc<PackOrigin>>,
    packs: u32,
    packs_at: u64,
    chunks: u64,
    chunks_at: u64,
}

/// Writes an index under its final name, durably. Blocks.
pub(in super::super) fn write(
    directory: &Path,
    identity: &IndexIdentity,
    packs: &[PackRecord],
    sorter: Sorter,
) -> Result<()> {
    let path = index_path(directory, &identity.backup);
    let new = directory.join(format!(".{}.new", identity.backup));
    let renamed = write_to(&new, identity, packs, sorter)
        .and_then(|()| std::fs::rename(&new, &path).map_err(|e| Error::io("write", &new, &e)));
    if renamed.is_err() {
        // On a full disk it would take the room that the journal needs.
        let _ = std::fs::remove_file(&new);
    }
    renamed?;
    File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(|e| Error::io("sync", directory, &e))
}

fn write_to(
    path: &Path,
    identity: &IndexIdentity,
    packs: &[PackRecord],
    sorter: Sorter,
) -> Result<()> {
    let failed = |e: std::io::Error| Error::io("write", path, &e);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let mut out = Hashing {
        inner: BufWriter::with_capacity(BUFFER_BYTES, file),
        hasher: blake3::Hasher::new(),
    };
    let (origins, pack_table) = pack_table(packs)?;
    let description = serde_json::to_vec(&Description {
        of: identity.clone(),
        origins,
        packs: packs.len() as u32,
    })
    .map_err(|e| Error::internal(format!("cannot describe an index: {e}")))?;
    out.write(MAGIC).map_err(failed)?;
    out.write(&(description.len() as u32).to_le_bytes())
        .and_then(|()| out.write(&description))
        .and_then(|()| out.write(&pack_table))
        .map_err(failed)?;
    let count = sorter.merge(|record| out.write(record).map_err(failed))?;
    out.write(&count.to_le_bytes()).map_err(failed)?;
    let hash = *out.hasher.finalize().as_bytes();
    out.inner.write_all(&hash).map_err(failed)?;
    let file = out.inner.into_inner().map_err(|e| failed(e.into_error()))?;
    file.sync_all().map_err(failed)
}

fn pack_table(packs: &[PackRecord]) -> Result<(Vec<Origin>, Vec<u8>)> {
    let mut origins: Vec<Origin> = Vec::new();
    let mut table = Vec::with_capacity(packs.len() * PACK_BYTES);
    for pack in packs {
        let origin = Origin {
            backup: pack.origin.backup.clone(),
            session: pack.origin.session,
            encrypted: pack.origin.encrypted,
        };
        let number = origins.iter().position(|o| *o == origin);
        let number = number.unwrap_or_else(|| {
            origins.push(origin);
            origins.len() - 1
        });
        let number = u16::try_from(number)
            .map_err(|_| Error::exhausted("an index cannot name so many backups"))?;
        table.extend_from_slice(&number.to_le_bytes());
        table.extend_from_slice(pack.id.as_bytes());
        table.extend_from_slice(&pack.bytes.to_le_bytes());
        table.extend_from_slice(&pack.hash);
    }
    Ok((origins, table))
}

struct Hashing {
    inner: BufWriter<File>,
    hasher: blake3::Hasher,
}

impl Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hasher.update(bytes);
        self.inner.write_all(bytes)
    }
}

impl IndexFile {
    /// The index of a backup; one that is not what it should be is removed. `None`: there is none.
    pub fn open_or_discard(directory: &Path, identity: &IndexIdentity) -> Result<Option<Self>> {
        let path = index_path(directory, &identity.backup);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("open", &path, &e)),
        };
        match Self::check(file, &path, identity) {
            Ok(index) => Ok(Some(index)),
            Err(why) => {
                tracing::warn!("{} {why}: thrown away", path.display());
                std::fs::remove_file(&path).map_err(|e| Error::io("remove", &path, &e))?;
                Ok(None)
            }
        }
    }

    fn check(
        file: File,
        path: &Path,
        identity: &IndexIdentity,
    ) -> std::result::Result<Self, String> {
        let unreadable = |e: std::io::Error| format!("cannot be read: {e}");
        let bytes = file.metadata().map_err(unreadable)?.len();
        let mut start = [0; 12];
        file.read_exact_at(&mut start, 0).map_err(unreadable)?;
        let (magic, length) = start.split_at(8);
        let length = length.first_chunk().map_or(0, |l| u32::from_le_bytes(*l)) as usize;
        if magic != MAGIC || length > DESCRIPTION_BYTES_MAX {
            return Err("is no index of this version".into());
        }
        check_hash(&file, bytes)?;
        let mut description = vec![0; length];
        file.read_exact_at(&mut description, 12)
            .map_err(unreadable)?;
        let description: Description = serde_json::from_slice(&description)
            .map_err(|e| format!("has a description that says {e}"))?;
        if description.of != *identity {
            return Err("is the index of something else".into());
        }
        let packs_at = 12 + length as u64;
        let chunks_at = packs_at + u64::from(description.packs) * PACK_BYTES as u64;
        let end_at = bytes.saturating_sub(END_BYTES as u64);
        let mut count = [0; 8];
        file.read_exact_at(&mut count, end_at).map_err(unreadable)?;
        let chunks = u64::from_le_bytes(count);
        let chunk_bytes = chunks.checked_mul(RECORD_BYTES as u64);
        if chunk_bytes.and_then(|bytes| bytes.checked_add(chunks_at)) != Some(end_at) {
            return Err("does not have the length that it says".into());
        }
        let origins = description.origins.into_iter().map(|origin| {
            Arc::new(PackOrigin {
                backup: origin.backup,
                session: origin.session,
                encrypted: origin.encrypted,
            })
        });
        Ok(Self {
            file,
            shown: path.display().to_string(),
            origins: origins.collect(),
            packs: description.packs,
            packs_at,
            chunks,
            chunks_at,
        })
    }

    pub fn packs(&self) -> usize {
        self.packs as usize
    }

    pub fn origins(&self) -> &[Arc<PackOrigin>] {
        &self.origins
    }

    pub fn find(&self, id: &ChunkId) -> Result<Option<StoredChunk>> {
        let (mut from, mut to) = (0, self.chunks);
        while from < to {
            let middle = from + (to - from) / 2;
            let mut record: IndexRecord = [0; RECORD_BYTES];
            self.read(&mut record, self.chunks_at + middle * RECORD_BYTES as u64)?;
            match record[..32].cmp(&id[..]) {
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => to = middle,
                std::cmp::Ordering::Equal => return Ok(decode_chunk(&mut &record[..])),
            }
        }
        Ok(None)
    }

    pub fn pack(&self, number: u32) -> Result<PackRecord> {
        let mut entry = [0; PACK_BYTES];
        if number < self.packs {
            let at = self.packs_at + u64::from(number) * PACK_BYTES as u64;
            self.read(&mut entry, at)?;
            if let Some(pack) = self.decode_pack(&entry) {
                return Ok(pack);
            }
        }
        Err(Error::corrupt(format!(
            "{} has no pack {number}",
            self.shown
        )))
    }

    pub fn for_each_pack(&self, mut visit: impl FnMut(usize, PackRecord)) -> Result<()> {
        let mut entries = vec![0; PACK_BYTES * 1024];
        let mut number = 0;
        while number < self.packs as usize {
            let count = (self.packs as usize - number).min(1024);
            let entries = &mut entries[..count * PACK_BYTES];
            self.read(entries, self.packs_at + (number * PACK_BYTES) as u64)?;
            for entry in entries.chunks_exact(PACK_BYTES) {
                let pack = self.decode_pack(entry);
                let pack =
                    pack.ok_or_else(|| Error::corrupt(format!("{} is damaged", self.shown)))?;
                visit(number, pack);
                number += 1;
            }
        }
        Ok(())
    }

    fn decode_pack(&self, entry: &[u8]) -> Option<PackRecord> {
        let (origin, entry) = entry.split_first_chunk::<2>()?;
        let (id, entry) = entry.split_first_chunk::<16>()?;
        let (bytes, hash) = entry.split_first_chunk::<4>()?;
        Some(PackRecord {
            origin: Arc::clone(self.origins.get(usize::from(u16::from_le_bytes(*origin)))?),
            id: Uuid::from_bytes(*id),
            bytes: u32::from_le_bytes(*bytes),
            hash: hash.try_into().ok()?,
        })
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> Result<()> {
        self.file
            .read_exact_at(bytes, at)
            .map_err(|e| Error::io("read", Path::new(&self.shown), &e))
    }
}

fn check_hash(file: &File, bytes: u64) -> std::result::Result<(), String> {
    let unreadable = |e: std::io::Error| format!("cannot be read: {e}");
    let hashed = bytes.checked_sub(32).ok_or("is cut short")?;
    let mut hasher = blake3::Hasher::new();
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, file).take(hashed);
    std::io::copy(&mut reader, &mut hasher).map_err(unreadable)?;
    let mut expected = [0; 32];
    file.read_exact_at(&mut expected, hashed)
        .map_err(unreadable)?;
    match *hasher.finalize().as_bytes() == expected {
        true => Ok(()),
        false => Err("is damaged".into()),
    }
}
