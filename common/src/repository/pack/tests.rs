use super::*;
use crate::repository::{
    chunk::length, keys::DataKey, object::ObjectKind, pool::Pool, stages::Stages,
};

const CHUNKS: [usize; 3] = [CHUNK_BYTES, 5, 70_000];

fn prefix(encrypted: bool) -> Prefix {
    Prefix {
        kind: ObjectKind::Pack,
        encrypted,
        repository: Uuid::from_u128(1),
        session: Uuid::from_u128(2),
        id: Uuid::from_u128(3),
    }
}

fn chunk(number: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8 + 1; length(CHUNKS[number] as u64, 0)];
    bytes[0] = 0xff;
    bytes
}

/// A pack of three chunks and what it says of them.
fn pack(encrypted: bool, key: &DataKey) -> (ClosedPack, Vec<StoredChunk>) {
    let pool = Pool::new([vec![0; PACK_BYTES_MAX]]);
    let sealer = Sealer::new(&prefix(encrypted), Some(key)).unwrap();
    let mut writer = PackWriter::new(0, prefix(encrypted), sealer, pool.take().unwrap());
    let mut compressor = ChunkCompressor::new().unwrap();
    let stages = Stages::default();
    let chunks = (0..CHUNKS.len())
        .map(|number| {
            let plain = chunk(number);
            let id = *blake3::hash(&plain).as_bytes();
            writer.add(id, &plain, &mut compressor, &stages).unwrap()
        })
        .collect();
    (writer.close(&stages).unwrap(), chunks)
}

#[test]
fn a_packs_hash_is_known_from_its_end_with_the_key_and_from_the_whole_without() {
    let key = DataKey::generate();
    for encrypted in [false, true] {
        let (pack, chunks) = pack(encrypted, &key);
        assert_eq!(whole_hash(&pack.bytes).unwrap(), pack.hash);
        let size = pack.bytes.len() as u64;
        let trailer = Trailer::decode(&pack.bytes, size).unwrap();
        let end = &pack.bytes[pack.bytes.len() - trailer.tail_bytes()..];
        let sealer = Sealer::new(&prefix(encrypted), Some(&key)).unwrap();
        let index = PackIndex::open(end, size, &sealer).unwrap();
        assert_eq!(index.hash, pack.hash);
        assert_eq!(index.chunks.len(), chunks.len());
        for (number, (indexed, stored)) in index.chunks.iter().zip(&chunks).enumerate() {
            assert_eq!(indexed.id, stored.id);
            assert_eq!(indexed.plain_bytes as usize, CHUNKS[number]);
            assert_eq!(
                (indexed.offset, indexed.stored_bytes, indexed.encoding),
                (stored.offset, stored.stored_bytes, stored.encoding)
            );
        }
        if encrypted {
            let other = Sealer::new(&prefix(true), Some(&DataKey::generate())).unwrap();
            assert!(PackIndex::open(end, size, &other).is_err(), "another key");
        }
    }
}

#[test]
fn i8_every_altered_byte_changes_a_packs_hash_and_one_of_its_end_is_noticed() {
    let key = DataKey::generate();
    let (pack, _) = pack(true, &key);
    let (size, sealer) = (
        pack.bytes.len(),
        Sealer::new(&prefix(true), Some(&key)).unwrap(),
    );
    let trailer = Trailer::decode(&pack.bytes, size as u64).unwrap();
    for at in 0..size {
        let mut altered = pack.bytes.to_vec();
        altered[at] ^= 1;
        assert_ne!(whole_hash(&altered), Ok(pack.hash), "byte {at}");
        if at >= trailer.index_offset as usize {
            let opened = PackIndex::open(&altered, size as u64, &sealer);
            assert!(opened.is_err(), "byte {at}");
        }
    }
    for cut in [1, TRAILER_BYTES, trailer.tail_bytes(), size] {
        let short = &pack.bytes[..size - cut];
        assert!(whole_hash(short).is_err());
        assert!(PackIndex::open(short, short.len() as u64, &sealer).is_err());
        let end = &pack.bytes[size - trailer.tail_bytes() + 1..];
        assert!(PackIndex::open(end, size as u64, &sealer).is_err());
    }
}

/// The end of a pack whose index says what it likes, under a seal that fits.
fn forged(entries: &[IndexedChunk], index_offset: u32) -> (Vec<u8>, u64) {
    let sealer = Sealer::new(&prefix(false), None).unwrap();
    let mut index = vec![0; BODY_HASH_BYTES];
    for entry in entries {
        entry.encode(&mut index);
    }
    let tag = sealer.seal(entries.len() as u64, &[], &mut index).unwrap();
    index.extend_from_slice(&tag);
    let trailer = Trailer {
        index_offset,
        index_bytes: index.len() as u32,
        chunks: entries.len() as u32,
    };
    index.extend_from_slice(&trailer.encode());
    let pack_bytes = u64::from(index_offset) + index.len() as u64;
    (index, pack_bytes)
}

#[test]
fn i8_an_index_that_does_not_fit_its_pack_is_refused() {
    let sealer = Sealer::new(&prefix(false), None).unwrap();
    let good = IndexedChunk {
        id: [1; 32],
        offset: 64,
        stored_bytes: 100,
        plain_bytes: 100,
        encoding: Encoding::Raw,
    };
    let next = IndexedChunk {
        offset: 64 + 116,
        ..good
    };
    let opens = |entries: &[IndexedChunk], index_offset| {
        let (end, pack_bytes) = forged(entries, index_offset);
        PackIndex::open(&end, pack_bytes, &sealer).is_ok()
    };
    let end = 64 + 2 * 116;
    assert!(opens(&[good, next], end));
    assert!(!opens(&[], 64), "no chunk");
    assert!(!opens(&[good, next], end + 1), "a gap before the index");
    assert!(!opens(&[good, good], end), "two chunks at one place");
    assert!(!opens(&[next, good], end), "not ascending");
    let bad = [
        IndexedChunk { offset: 63, ..good },
        IndexedChunk {
            plain_bytes: 0,
            ..good
        },
        IndexedChunk {
            stored_bytes: 99,
            ..good
        },
        IndexedChunk {
            encoding: Encoding::Zstd,
            ..good
        },
        IndexedChunk {
            stored_bytes: 2 << 20,
            plain_bytes: 2 << 20,
            ..good
        },
    ];
    for bad in bad {
        let index_offset = bad.offset + bad.stored_bytes + 16;
        assert!(!opens(&[bad], index_offset), "{bad:?}");
    }
}
