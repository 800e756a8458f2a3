//! The end of a pack: its sealed index, and the trailer that says where it is. Whoever has only
//! this end, and the key, knows the pack's hash and every chunk in it; whoever has the whole pack
//! needs no key to check its hash. Nothing that is read here is believed (I8).

use super::{BODY_HASH_BYTES, INDEX_ENTRY_BYTES, PACK_BYTES_MAX, PACK_CHUNKS_MAX, TRAILER_BYTES};
use crate::repository::{
    chunk::{CHUNK_BYTES, ChunkId},
    compress::Encoding,
    object::PREFIX_BYTES,
    seal::{Sealer, TAG_BYTES},
};

const MAGIC: &[u8; 8] = b"SWALLEND";

type Checked<T = ()> = std::result::Result<T, String>;

/// The last bytes of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Trailer {
    pub index_offset: u32,
    /// With its tag.
    pub index_bytes: u32,
    pub chunks: u32,
}

/// A chunk as the index of its pack has it; its place is its number among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct IndexedChunk {
    pub id: ChunkId,
    pub offset: u32,
    /// Without the tag behind it.
    pub stored_bytes: u32,
    pub plain_bytes: u32,
    pub encoding: Encoding,
}

/// An index that was opened and fits its pack.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct PackIndex {
    /// The pack's hash: BLAKE3 over the hash of all before the index, and all from the index on.
    pub hash: [u8; 32],
    pub chunks: Vec<IndexedChunk>,
}

/// A pack's hash, from the hash of its body and the bytes from the index on.
pub(super) fn hash(body_hash: &[u8; BODY_HASH_BYTES], tail: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(body_hash);
    hasher.update(tail);
    *hasher.finalize().as_bytes()
}

/// The hash of a pack of which every byte is there, or why it cannot be one. Needs no key.
pub(in super::super) fn whole_hash(pack: &[u8]) -> Checked<[u8; 32]> {
    let trailer = Trailer::decode(pack, pack.len() as u64)?;
    let (body, tail) = pack
        .split_at_checked(trailer.index_offset as usize)
        .ok_or("is cut short")?;
    Ok(hash(blake3::hash(body).as_bytes(), tail))
}

impl Trailer {
    pub fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[..4].copy_from_slice(&self.index_offset.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.index_bytes.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.chunks.to_le_bytes());
        bytes[16..].copy_from_slice(MAGIC);
        bytes
    }

    /// Reads the last bytes of a pack that has `pack_bytes` in all, or says what is wrong.
    pub fn decode(end: &[u8], pack_bytes: u64) -> Checked<Self> {
        let bytes: &[u8; TRAILER_BYTES] = end.last_chunk().ok_or("is cut short")?;
        if bytes[16..] != MAGIC[..] || bytes[12..16] != [0; 4] {
            return Err("does not end as a pack does".into());
        }
        let number = |at: usize| {
            let mut four = [0; 4];
            four.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(four)
        };
        let trailer = Self {
            index_offset: number(0),
            index_bytes: number(4),
            chunks: number(8),
        };
        let index_bytes = (BODY_HASH_BYTES + TAG_BYTES) as u64
            + u64::from(trailer.chunks) * INDEX_ENTRY_BYTES as u64;
        let end = u64::from(trailer.index_offset) + index_bytes + TRAILER_BYTES as u64;
        let fits = (1..=PACK_CHUNKS_MAX).contains(&trailer.chunks)
            && u64::from(trailer.index_bytes) == index_bytes
            && trailer.index_offset as usize >= PREFIX_BYTES
            && end == pack_bytes
            && pack_bytes <= PACK_BYTES_MAX as u64;
        if fits {
            return Ok(trailer);
        }
        Err("has an end that contradicts itself".into())
    }

    /// Length of index and trailer: what has to be read to know what is in the pack.
    pub fn tail_bytes(&self) -> usize {
        self.index_bytes as usize + TRAILER_BYTES
    }
}

impl PackIndex {
    /// Opens the index of a pack of `pack_bytes`, of which `end` is at least index and trailer.
    pub fn open(end: &[u8], pack_bytes: u64, sealer: &Sealer) -> Checked<Self> {
        let trailer = Trailer::decode(end, pack_bytes)?;
        let start = end
            .len()
            .checked_sub(trailer.tail_bytes())
            .ok_or("is cut short")?;
        let tail = &end[start..];
        let mut index = tail[..trailer.index_bytes as usize].to_vec();
        sealer
            .open_with_tag(u64::from(trailer.chunks), &[], &mut index)
            .map_err(|_| "is damaged: the seal of its index does not fit")?;
        let (body_hash, entries) = index
            .split_first_chunk::<BODY_HASH_BYTES>()
            .ok_or("is cut short")?;
        let mut chunks = Vec::with_capacity(trailer.chunks as usize);
        let mut next = PREFIX_BYTES as u64;
        for entry in entries
            .chunks_exact(INDEX_ENTRY_BYTES)
            .take(trailer.chunks as usize)
        {
            let chunk =
                IndexedChunk::decode(entry).ok_or("has an impossible chunk in its index")?;
            if u64::from(chunk.offset) != next {
                return Err("has chunks in its index that do not lie one behind the other".into());
            }
            next += u64::from(chunk.stored_bytes) + TAG_BYTES as u64;
            chunks.push(chunk);
        }
        if next != u64::from(trailer.index_offset) {
            return Err("has an index that does not fit it".into());
        }
        Ok(Self {
            hash: hash(body_hash, tail),
            chunks,
        })
    }
}

impl IndexedChunk {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.stored_bytes.to_le_bytes());
        out.extend_from_slice(&self.plain_bytes.to_le_bytes());
        out.push(self.encoding as u8);
    }

    fn decode(entry: &[u8]) -> Option<Self> {
        let (id, entry) = entry.split_first_chunk::<32>()?;
        let (offset, entry) = entry.split_first_chunk()?;
        let (stored_bytes, entry) = entry.split_first_chunk()?;
        let (plain_bytes, entry) = entry.split_first_chunk()?;
        let chunk = Self {
            id: *id,
            offset: u32::from_le_bytes(*offset),
            stored_bytes: u32::from_le_bytes(*stored_bytes),
            plain_bytes: u32::from_le_bytes(*plain_bytes),
            encoding: Encoding::from_byte(*entry.first()?)?,
        };
        let plain_fits = (1..=CHUNK_BYTES as u32).contains(&chunk.plain_bytes);
        (plain_fits
            && chunk
                .encoding
                .fits(chunk.stored_bytes as usize, chunk.plain_bytes as usize))
        .then_some(chunk)
    }
}
