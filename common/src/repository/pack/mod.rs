//! A pack: sealed chunks one behind the other, then a sealed index of them, then a trailer. One
//! worker fills it in a buffer of its own, so that nothing is copied or shared on the way. How it
//! is read without a list stands in [`index`].

mod index;
mod tail;

#[cfg(test)]
mod tests;

pub(super) use index::{IndexedChunk, PackIndex, Trailer, whole_hash};
pub(super) use tail::get_tail;

use bytes::Bytes;
use uuid::Uuid;

use super::{
    chunk::{CHUNK_BYTES, ChunkId},
    compress::{ChunkCompressor, Encoding},
    object::{PREFIX_BYTES, Prefix},
    pool::Lent,
    seal::{Sealer, TAG_BYTES},
    stages::{Stage, Stages},
};
use crate::error::Result;

/// A pack is closed once it has this many bytes.
const PACK_BYTES_TARGET: usize = 32 << 20;
/// ... or this many chunks.
const PACK_CHUNKS_MAX: u32 = 4096;
const BODY_HASH_BYTES: usize = 32;
const INDEX_ENTRY_BYTES: usize = 32 + 4 + 4 + 4 + 1;
pub(super) const TRAILER_BYTES: usize = 24;
/// No pack is larger.
pub(super) const PACK_BYTES_MAX: usize =
    PACK_BYTES_TARGET + CHUNK_BYTES + TAG_BYTES + TAIL_BYTES_MAX;
/// Index and trailer are never larger.
pub(super) const TAIL_BYTES_MAX: usize =
    BODY_HASH_BYTES + PACK_CHUNKS_MAX as usize * INDEX_ENTRY_BYTES + TAG_BYTES + TRAILER_BYTES;

/// Where a chunk lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoredChunk {
    pub id: ChunkId,
    /// Number of the pack in the backup's pack list.
    pub pack: u32,
    /// Its place among the chunks of the pack.
    pub place: u32,
    /// From the beginning of the pack.
    pub offset: u32,
    /// Without the tag behind it.
    pub stored_bytes: u32,
    pub encoding: Encoding,
}

pub(super) struct PackWriter {
    number: u32,
    prefix: Prefix,
    sealer: Sealer,
    buffer: Lent<Vec<u8>>,
    used: usize,
    chunks: u32,
    index: Vec<u8>,
}

/// A pack that is ready to be put.
pub(super) struct ClosedPack {
    pub number: u32,
    pub id: Uuid,
    /// See [`PackIndex::hash`].
    pub hash: [u8; 32],
    pub bytes: Bytes,
}

/// Lets the used part of a borrowed buffer go out as [`Bytes`]: the buffer is free again when the
/// last of them is dropped, even those of a request that timed out and is still at work.
struct UsedPart(Lent<Vec<u8>>, usize);

impl AsRef<[u8]> for UsedPart {
    fn as_ref(&self) -> &[u8] {
        &self.0.as_ref()[..self.1]
    }
}

impl PackWriter {
    /// `buffer` has [`PACK_BYTES_MAX`] bytes.
    pub fn new(number: u32, prefix: Prefix, sealer: Sealer, mut buffer: Lent<Vec<u8>>) -> Self {
        buffer.as_mut()[..PREFIX_BYTES].copy_from_slice(&prefix.encode());
        Self {
            number,
            prefix,
            sealer,
            buffer,
            used: PREFIX_BYTES,
            chunks: 0,
            // The place of the body's hash.
            index: vec![0; BODY_HASH_BYTES],
        }
    }

    /// Compresses, seals and appends a chunk. There is room: the pack was not [`Self::is_full`].
    pub fn add(
        &mut self,
        id: ChunkId,
        plain: &[u8],
        compressor: &mut ChunkCompressor,
        stages: &Stages,
    ) -> Result<StoredChunk> {
        let offset = self.used;
        let free = &mut self.buffer.as_mut()[offset..];
        let (encoding, stored_bytes) =
            stages.time(Stage::Compress, || compressor.store(plain, free));
        let (stored, rest) = free.split_at_mut(stored_bytes);
        let place = u64::from(self.chunks);
        let tag = stages.time(Stage::Seal, || self.sealer.seal(place, &[], stored))?;
        rest[..TAG_BYTES].copy_from_slice(&tag);
        self.used += stored_bytes + TAG_BYTES;

        let chunk = StoredChunk {
            id,
            pack: self.number,
            place: self.chunks,
            offset: offset as u32,
            stored_bytes: stored_bytes as u32,
            encoding,
        };
        self.chunks += 1;
        IndexedChunk {
            id,
            offset: chunk.offset,
            stored_bytes: chunk.stored_bytes,
            plain_bytes: plain.len() as u32,
            encoding,
        }
        .encode(&mut self.index);
        Ok(chunk)
    }

    /// `burst_bytes`: as many as the throttle wants in one request.
    pub fn is_full(&self, burst_bytes: u64) -> bool {
        self.used >= PACK_BYTES_TARGET
            || self.used as u64 >= burst_bytes
            || self.chunks >= PACK_CHUNKS_MAX
    }

    /// Adds index and trailer.
    pub fn close(mut self, stages: &Stages) -> Result<ClosedPack> {
        let index_offset = self.used;
        let body = &self.buffer.as_ref()[..index_offset];
        let body_hash = stages.time(Stage::Hash, || blake3::hash(body));
        let mut index = std::mem::take(&mut self.index);
        index[..BODY_HASH_BYTES].copy_from_slice(body_hash.as_bytes());
        let tag = self.sealer.seal(u64::from(self.chunks), &[], &mut index)?;
        self.append(&index);
        self.append(&tag);
        let trailer = Trailer {
            index_offset: index_offset as u32,
            index_bytes: (index.len() + TAG_BYTES) as u32,
            chunks: self.chunks,
        };
        self.append(&trailer.encode());
        let bytes = Bytes::from_owner(UsedPart(self.buffer, self.used));
        Ok(ClosedPack {
            number: self.number,
            id: self.prefix.id,
            hash: index::hash(body_hash.as_bytes(), &bytes[index_offset..]),
            bytes,
        })
    }

    fn append(&mut self, bytes: &[u8]) {
        let end = self.used + bytes.len();
        self.buffer.as_mut()[self.used..end].copy_from_slice(bytes);
        self.used = end;
    }
}
