//! One pack, read as a whole: its hash against the pack list's, and, with the key, every chunk.

use bytes::BytesMut;
use object_store::path::Path;
use uuid::Uuid;

use crate::{
    error::{ErrorKind, Result},
    repository::{
        compress::{ChunkDecompressor, Encoding},
        header::Repository,
        keys::DataKey,
        manifest::PackRecord,
        object::{ObjectKind, Prefix},
        pack::{IndexedChunk, PackIndex, get_tail, whole_hash},
        seal::{Sealer, TAG_BYTES},
    },
};

/// What one request gets of a pack.
const REQUEST_BYTES: u64 = 8 << 20;

/// What was found in a pack.
#[derive(Debug, Default)]
pub(super) struct Examined {
    /// What is wrong with it.
    pub damage: Option<String>,
    /// For each place the chunk's mark; of one that is not whole [`NO_CHUNK`].
    pub marks: Vec<u64>,
    /// Chunks that were opened, unpacked and hashed.
    pub chunks: u64,
    pub bytes_read: u64,
}

/// The mark of no chunk.
pub(super) const NO_CHUNK: u64 = 0;

/// What a mark is made of: id, offset, both lengths, encoding.
const MARKED_BYTES: usize = 32 + 4 + 4 + 4 + 1;

/// Makes a short mark of a chunk and where it lies, under a key of this run: so that the lists
/// can be compared with the packs without holding either.
#[derive(Clone, Copy)]
pub(super) struct Marker([u8; 32]);

impl Marker {
    pub fn new() -> Self {
        Self(rand::random())
    }

    pub fn mark(&self, chunk: &IndexedChunk) -> u64 {
        let mut bytes = [0; MARKED_BYTES];
        bytes[..32].copy_from_slice(&chunk.id);
        bytes[32..36].copy_from_slice(&chunk.offset.to_le_bytes());
        bytes[36..40].copy_from_slice(&chunk.stored_bytes.to_le_bytes());
        bytes[40..44].copy_from_slice(&chunk.plain_bytes.to_le_bytes());
        bytes[44] = chunk.encoding as u8;
        let hash = blake3::keyed_hash(&self.0, &bytes);
        let mut mark = [0; 8];
        mark.copy_from_slice(&hash.as_bytes()[..8]);
        u64::from_le_bytes(mark).max(NO_CHUNK + 1)
    }
}

/// The bytes of a pack, or what is wrong with its object.
pub(super) async fn read(
    repository: &Repository,
    key: &Path,
    pack: &PackRecord,
) -> Result<std::result::Result<BytesMut, String>> {
    let whole = u64::from(pack.bytes);
    let mut bytes = BytesMut::with_capacity(pack.bytes as usize);
    while (bytes.len() as u64) < whole {
        let from = bytes.len() as u64;
        let range = from..whole.min(from + REQUEST_BYTES);
        match repository.store().get_range(key, range).await {
            Ok(more) => bytes.extend_from_slice(&more),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Err("is missing".into())),
            Err(e) if e.kind() == ErrorKind::Corrupt => return Ok(Err("is cut short".into())),
            Err(e) => return Err(e),
        }
    }
    Ok(Ok(bytes))
}

/// Only its end, of one that was found whole before; or why it is so no longer.
pub(super) async fn read_end(
    repository: &Repository,
    key: &Path,
    pack: &PackRecord,
) -> Result<std::result::Result<BytesMut, String>> {
    match get_tail(repository, key, u64::from(pack.bytes)).await {
        Ok(end) => Ok(end.map(BytesMut::from)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Err("is missing".into())),
        Err(e) if e.kind() == ErrorKind::Corrupt => Ok(Err("is cut short".into())),
        Err(e) => Err(e),
    }
}

/// What the index of a pack says, of which every chunk was opened before.
pub(super) fn examine_end(
    end: &[u8],
    pack: &PackRecord,
    repository: Uuid,
    marker: &Marker,
    key: Option<&DataKey>,
) -> Result<Examined> {
    let sealer = Sealer::new(&pack.prefix(repository), key)?;
    let index = PackIndex::open(end, u64::from(pack.bytes), &sealer);
    let index = index.and_then(|index| match index.hash == pack.hash {
        true => Ok(index),
        false => Err("is damaged: it is not the one that was written".to_owned()),
    });
    let bytes_read = end.len() as u64;
    Ok(match index {
        Ok(index) => Examined {
            damage: None,
            marks: index
                .chunks
                .iter()
                .map(|chunk| marker.mark(chunk))
                .collect(),
            chunks: index.chunks.len() as u64,
            bytes_read,
        },
        Err(why) => Examined {
            damage: Some(why),
            bytes_read,
            ..Examined::default()
        },
    })
}

/// Compares the pack's hash; with `sealed`, opens every chunk as well.
pub(super) fn examine(
    mut object: BytesMut,
    pack: &PackRecord,
    repository: Uuid,
    contents: Option<(&Marker, Option<&DataKey>)>,
) -> Result<Examined> {
    let hash = whole_hash(&object).and_then(|hash| match hash == pack.hash {
        true => Ok(()),
        false => Err("is damaged: it is not the one that was written".to_owned()),
    });
    let prefix = Prefix::decode(&object, ObjectKind::Pack, repository).and_then(|prefix| {
        match prefix == pack.prefix(repository) {
            true => Ok(()),
            false => Err("is another pack than its name says".to_owned()),
        }
    });
    let mut examined = Examined {
        damage: prefix.and(hash).err(),
        bytes_read: object.len() as u64,
        ..Examined::default()
    };
    let Some((marker, key)) = contents else {
        return Ok(examined);
    };
    let sealer = Sealer::new(&pack.prefix(repository), key)?;
    match PackIndex::open(&object, u64::from(pack.bytes), &sealer) {
        Ok(index) => open_chunks(&mut object, &index, &sealer, marker, &mut examined)?,
        Err(why) => {
            examined.damage.get_or_insert(why);
        }
    }
    Ok(examined)
}

fn open_chunks(
    object: &mut BytesMut,
    index: &PackIndex,
    sealer: &Sealer,
    marker: &Marker,
    examined: &mut Examined,
) -> Result<()> {
    let mut decompressor = ChunkDecompressor::new()?;
    let mut plain = Vec::new();
    let mut damaged = 0_u64;
    let mut first = None;
    for (place, chunk) in index.chunks.iter().enumerate() {
        // The index says nothing that does not lie within the pack.
        let from = chunk.offset as usize;
        let sealed = &mut object[from..from + chunk.stored_bytes as usize + TAG_BYTES];
        plain.resize(chunk.plain_bytes as usize, 0);
        let opened = open(place, chunk, sealer, sealed, &mut decompressor, &mut plain);
        examined.chunks += 1;
        examined.marks.push(match opened {
            Ok(()) => marker.mark(chunk),
            Err(why) => {
                damaged += 1;
                first.get_or_insert((chunk.offset, why));
                NO_CHUNK
            }
        });
    }
    if let Some((offset, why)) = first {
        let more = match damaged {
            1 => String::new(),
            n => format!(", and {} more chunks are damaged", n - 1),
        };
        examined.damage = Some(format!(
            "is damaged: the chunk at byte {offset} {why}{more}"
        ));
    }
    Ok(())
}

fn open(
    place: usize,
    chunk: &IndexedChunk,
    sealer: &Sealer,
    sealed: &mut [u8],
    decompressor: &mut ChunkDecompressor,
    plain: &mut [u8],
) -> std::result::Result<(), &'static str> {
    let length = sealer
        .open_with_tag(place as u64, &[], sealed)
        .map_err(|_| "was altered")?;
    let stored = &sealed[..length];
    let bytes: &[u8] = match chunk.encoding {
        Encoding::Raw => stored,
        Encoding::Zstd if decompressor.unpack(stored, plain) => plain,
        Encoding::Zstd => return Err("cannot be unpacked"),
    };
    match *blake3::hash(bytes).as_bytes() == chunk.id {
        true => Ok(()),
        false => Err("is not the one that was written"),
    }
}
