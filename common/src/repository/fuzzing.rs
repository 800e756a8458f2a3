//! What a fuzzer throws at the readers of the format: any bytes are read, or refused with a reason,
//! and what is taken keeps the format's promises (I8). Built for tests and fuzzers only.
//!
//! Hashes and seals would keep a fuzzer out, so each target also takes its input for what lies
//! behind them, and puts fitting ones around it.

use uuid::Uuid;

use super::{
    check::ListChecker,
    header,
    list::{Record, Records},
    manifest::{
        Body, ManifestHeader, PackOrigin, PackRecord, decode_header, decode_pack_list,
        encode_pack_list, open_body,
    },
    object::{ObjectKind, PREFIX_BYTES, Prefix},
    pack::{PACK_BYTES_MAX, PackIndex, Trailer, whole_hash},
    path,
    seal::{Sealer, TAG_BYTES},
};
use crate::ids::{BackupName, ShardId};

type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Target); 5] = [
    ("header", header),
    ("manifest", manifest),
    ("pack_end", pack_end),
    ("list", list),
    ("pack_list", pack_list),
];

const REPOSITORY: Uuid = Uuid::from_u128(0x5ea);
const SHARD: &str = "commerce/0";
const NAME: &str = "2026-10-14.174640.zone1-101";

fn prefix(kind: ObjectKind) -> Prefix {
    Prefix {
        kind,
        encrypted: false,
        repository: REPOSITORY,
        session: Uuid::from_u128(1),
        id: Uuid::from_u128(2),
    }
}

fn sealer(kind: ObjectKind) -> Sealer {
    Sealer::new(&prefix(kind), None).expect("nothing is encrypted here")
}

/// `seawall.json`.
pub fn header(bytes: &[u8]) {
    let _ = header::parse(bytes, "file:///fuzz");
}

/// The first byte chooses: a whole manifest, a manifest's header, a manifest's body.
pub fn manifest(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else {
        return;
    };
    match choice % 3 {
        0 => read_manifest(rest),
        1 => read_manifest(&manifest_of(rest, b"{}")),
        _ => read_manifest(&manifest_of(&header_json(), rest)),
    }
}

fn ids() -> (ShardId, BackupName) {
    let shard = SHARD.parse().expect("it is well formed");
    (shard, NAME.parse().expect("it is well formed"))
}

fn read_manifest(object: &[u8]) {
    let (shard, name) = ids();
    let Ok((prefix, header, sealed)) = decode_header(object, REPOSITORY, &shard, &name) else {
        return;
    };
    assert_eq!((&header.shard, &header.name), (&shard, &name));
    let json = serde_json::to_vec(&header).expect("what was read can be written");
    let again: ManifestHeader = serde_json::from_slice(&json).expect("and read again");
    assert_eq!(header, again);
    if prefix.encrypted {
        return;
    }
    if let Ok(Ok(body)) = open_body(&prefix, None, sealed) {
        let json = serde_json::to_vec(&body).expect("what was read can be written");
        let again: Body = serde_json::from_slice(&json).expect("and read again");
        assert_eq!(body, again);
    }
}

/// A manifest of any header and body, with hashes and seal that fit.
pub fn manifest_of(header: &[u8], body: &[u8]) -> Vec<u8> {
    let header_hash = blake3::hash(header);
    let mut sealed = body.to_vec();
    let tag = sealer(ObjectKind::Manifest)
        .seal(0, header_hash.as_bytes(), &mut sealed)
        .expect("it is small");
    let mut object = prefix(ObjectKind::Manifest).encode().to_vec();
    object.extend_from_slice(&(header.len() as u32).to_le_bytes());
    object.extend_from_slice(header);
    object.extend_from_slice(header_hash.as_bytes());
    object.extend_from_slice(&((sealed.len() + TAG_BYTES) as u32).to_le_bytes());
    object.extend_from_slice(&sealed);
    object.extend_from_slice(&tag);
    object.extend_from_slice(&[0; 100]);
    object
}

fn header_json() -> Vec<u8> {
    let part = r#"{"number": 0, "bytes": 200, "hash": "00"}"#;
    format!(
        r#"{{"version": 2, "name": "{NAME}", "shard": "{SHARD}", "alias": "zone1-101", "engine": "files",
        "epoch": 1, "position": "0-1-7", "started_unix_ms": 1, "ended_unix_ms": 2, "logical_bytes": 3, "stored_bytes": 4,
        "files": 1, "encrypted": false, "chunk_bytes": 1048576, "lists": [{part}], "pack_lists": [],
        "refers_to": ["2026-10-14.174640.zone1-102"], "damaged_pages": 1}}"#
    )
    .into_bytes()
}

fn body_json() -> Vec<u8> {
    br#"{"operation": "o", "token": 7, "details": [["version", "10.11"]], "roots": [{"name": "data",
    "path": "/data", "attributes": {"uid": 1, "gid": 1, "mode": 448, "mtime_seconds": 1, "mtime_nanos": 2}}],
    "users": {"1": "mysql"}, "groups": {"1": "mysql"}, "damaged_pages": [{"root": "data", "path": "t.ibd", "page": 3,
    "what": "checksum"}]}"#
        .to_vec()
}

/// The first byte chooses: the bytes as the end of a pack, or as its index, with seal and trailer
/// that fit.
pub fn pack_end(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else {
        return;
    };
    if choice % 2 == 0 {
        let _ = whole_hash(rest);
        return read_end(rest, rest.len() as u64);
    }
    let Some((offset, index)) = rest.split_first_chunk() else {
        return;
    };
    let offset = u32::from_le_bytes(*offset);
    if let Some(end) = end_of(offset, index) {
        read_end(&end, u64::from(offset) + end.len() as u64);
    }
}

fn read_end(end: &[u8], pack_bytes: u64) {
    let Ok(index) = PackIndex::open(end, pack_bytes, &sealer(ObjectKind::Pack)) else {
        return;
    };
    assert!(pack_bytes <= PACK_BYTES_MAX as u64);
    let mut next = PREFIX_BYTES as u64;
    for chunk in &index.chunks {
        assert_eq!(u64::from(chunk.offset), next);
        next += u64::from(chunk.stored_bytes) + TAG_BYTES as u64;
    }
    assert!(next < pack_bytes);
    if end.len() as u64 == pack_bytes {
        // Of a pack that is whole both ways must lead to a hash; to the same one if the body's is true.
        assert!(whole_hash(end).is_ok());
    }
}

/// Index and trailer, when the index could be one by its length.
pub fn end_of(index_offset: u32, index: &[u8]) -> Option<Vec<u8>> {
    let chunks = (index.len().checked_sub(32)? / 45) as u32;
    let mut end = index.to_vec();
    let tag = sealer(ObjectKind::Pack)
        .seal(u64::from(chunks), &[], &mut end)
        .ok()?;
    end.extend_from_slice(&tag);
    let trailer = Trailer {
        index_offset,
        index_bytes: end.len() as u32,
        chunks,
    };
    end.extend_from_slice(&trailer.encode());
    Some(end)
}

fn packs() -> Vec<PackRecord> {
    let record = |number: u128, bytes| PackRecord {
        origin: std::sync::Arc::new(PackOrigin {
            backup: ids().1,
            session: Uuid::from_u128(number),
            encrypted: false,
        }),
        id: Uuid::from_u128(number),
        bytes,
        hash: [number as u8; 32],
    };
    vec![record(1, 32 << 20), record(2, 5000)]
}

/// The payload of a list part, of two roots and two packs.
pub fn list(bytes: &[u8]) {
    let mut checker = ListChecker::new(2, packs().into());
    let mut read = Vec::new();
    for record in Records::new(bytes) {
        let Ok(record) = record else { return };
        record.encode(&mut read);
        assert!(bytes.starts_with(&read), "a record has two forms");
        if checker.check(&record).is_err() {
            return;
        }
        match &record {
            Record::Directory { path, .. } | Record::File { path, .. } => {
                assert!(path::is_normal(path));
            }
            Record::Link { path, target, .. } => {
                assert!(path::is_normal(path) && path::link_stays_inside(path, target));
            }
            _ => {}
        }
    }
    assert_eq!(read, bytes);
    if let Ok(seen) = checker.finish() {
        for root in seen {
            assert!(root.data_bytes <= root.logical_bytes);
        }
    }
}

/// The payload of a pack list part.
pub fn pack_list(bytes: &[u8]) {
    let Some(packs) = decode_pack_list(bytes) else {
        return;
    };
    let again = decode_pack_list(&encode_pack_list(&packs));
    assert_eq!(again.as_deref(), Some(&packs[..]));
    for pack in &packs {
        assert!(pack.bytes as usize <= PACK_BYTES_MAX);
    }
}

/// Valid inputs of a target, to begin with.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let chosen = |choice: u8, bytes: &[u8]| [&[choice], bytes].concat();
    match target {
        "header" => vec![
            br#"{"format": "seawall repository", "version": 2, "repository_id": "00000000-0000-0000-0000-0000000005ea",
            "chunk_bytes": 1048576, "created_unix_ms": 1}"#
                .to_vec(),
        ],
        "manifest" => vec![
            chosen(0, &manifest_of(&header_json(), &body_json())),
            chosen(1, &header_json()),
            chosen(2, &body_json()),
        ],
        "pack_end" => {
            let mut index = vec![7; 32];
            let mut offset = PREFIX_BYTES as u32;
            for stored in [1 << 20, 300_u32] {
                index.extend_from_slice(&[stored as u8; 32]);
                index.extend_from_slice(&offset.to_le_bytes());
                index.extend_from_slice(&stored.to_le_bytes());
                index.extend_from_slice(&(1_u32 << 20).to_le_bytes());
                index.push(u8::from(stored == 300));
                offset += stored + TAG_BYTES as u32;
            }
            let end = end_of(offset, &index).unwrap_or_default();
            let by_offset = [&offset.to_le_bytes()[..], &index].concat();
            vec![chosen(0, &end), chosen(1, &by_offset)]
        }
        "list" => vec![list_payload()],
        "pack_list" => vec![encode_pack_list(&packs()), encode_pack_list(&[])],
        _ => Vec::new(),
    }
}

/// A directory, a link, a file of one stored chunk, zeros, and another stored chunk.
fn list_payload() -> Vec<u8> {
    use super::{compress::Encoding, list::FileHasher, pack::StoredChunk};
    let attributes = super::list::Attributes {
        uid: 1,
        gid: 1,
        mode: 0o640,
        mtime_seconds: -1,
        mtime_nanos: 5,
    };
    let chunk = |place: u32, encoding| StoredChunk {
        id: [place as u8; 32],
        pack: 0,
        place,
        offset: 64 + place * 116,
        stored_bytes: 100,
        encoding,
    };
    let stored = [chunk(0, Encoding::Zstd), chunk(1, Encoding::Raw)];
    let mut hasher = FileHasher::default();
    hasher.add(&stored[0].id);
    hasher.add_zeros(2);
    hasher.add(&stored[1].id);
    let records = [
        Record::Directory {
            root: 0,
            path: b"d".to_vec(),
            attributes,
        },
        Record::Link {
            root: 0,
            path: b"d/link".to_vec(),
            attributes,
            target: b"../t.ibd".to_vec(),
        },
        Record::File {
            root: 1,
            path: b"t.ibd".to_vec(),
            attributes,
            bytes: (3 << 20) + 100,
        },
        Record::Chunks(vec![stored[0]]),
        Record::Zeros { count: 2 },
        Record::Chunks(vec![stored[1]]),
        Record::EndOfFile {
            hash: hasher.hash(),
        },
    ];
    let mut payload = Vec::new();
    records
        .iter()
        .for_each(|record| record.encode(&mut payload));
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same numbers for the same seed, and nothing more.
    struct Dice(u64);

    impl Dice {
        fn throw(&mut self, below: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (self.0 >> 33) as usize % below.max(1)
        }
    }

    /// A valid input with a few things wrong.
    fn spoil(valid: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
        let mut bytes = valid.to_vec();
        for _ in 0..=dice.throw(4) {
            let at = dice.throw(bytes.len());
            match dice.throw(7) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.throw(8),
                1 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][dice.throw(5)],
                2 => bytes.truncate(at),
                3 => {
                    let piece = other[dice.throw(other.len())..].to_vec();
                    bytes.splice(at..at, piece);
                }
                4 => {
                    let end = (at + dice.throw(50)).min(bytes.len());
                    bytes.drain(at..end);
                }
                5 if bytes.len() >= at + 4 => {
                    let number = [u32::MAX, 1 << 31, 0, 1 << 20][dice.throw(4)];
                    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
                }
                _ => {
                    let end = (at + dice.throw(50)).min(bytes.len());
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        bytes
    }

    #[test]
    fn the_seeds_are_read_to_their_end() {
        let (shard, name) = ids();
        let object = manifest_of(&header_json(), &body_json());
        let (prefix, header, sealed) = decode_header(&object, REPOSITORY, &shard, &name).unwrap();
        assert_eq!((header.damaged_pages, header.refers_to.len()), (1, 1));
        let body = open_body(&prefix, None, sealed).unwrap().unwrap();
        assert_eq!(body.damaged_pages.len(), 1);

        let end = seeds("pack_end").swap_remove(0);
        let trailer = Trailer::decode(&end, (64 << 10) + end.len() as u64 - 1);
        assert!(trailer.is_err(), "of another pack");
        let size = (PREFIX_BYTES + (1 << 20) + 300 + 2 * TAG_BYTES) as u64 + end.len() as u64 - 1;
        let index = PackIndex::open(&end[1..], size, &sealer(ObjectKind::Pack)).unwrap();
        assert_eq!(index.chunks.len(), 2);

        let mut checker = ListChecker::new(2, packs().into());
        for record in Records::new(&list_payload()) {
            checker.check(&record.unwrap()).unwrap();
        }
        assert_eq!(checker.finish().unwrap()[1].files, 1);
        assert_eq!(decode_pack_list(&seeds("pack_list")[0]).unwrap(), packs());
        header::parse(&seeds("header")[0], "x").unwrap();
    }

    #[test]
    fn i8_whatever_is_read_is_taken_whole_or_refused() {
        let soak = std::env::var_os("SEAWALL_SOAK").is_some();
        let rounds = if soak { 2_000_000 } else { 20_000 };
        for (name, target) in TARGETS {
            let seeds = seeds(name);
            let mut dice = Dice(2026);
            seeds.iter().for_each(|seed| target(seed));
            for _ in 0..rounds {
                let valid = &seeds[dice.throw(seeds.len())];
                let other = &seeds[dice.throw(seeds.len())];
                target(&spoil(valid, other, &mut dice));
            }
        }
    }
}
