//! Valid inputs for the fuzzer's targets: made up ones, and the objects of a golden backup.

use uuid::Uuid;

use super::{NAME, PREFIX_BYTES, SHARD, TAG_BYTES, end_of, ids, manifest_of};
use crate::repository::{
    compress::Encoding,
    list::{Attributes, FileHasher, Record},
    manifest::{PackOrigin, PackRecord, encode_pack_list},
    pack::StoredChunk,
};

/// Valid inputs of a target, to begin with.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    [made_up(target), golden(target)].concat()
}

fn chosen(choice: u8, bytes: &[u8]) -> Vec<u8> {
    [&[choice], bytes].concat()
}

pub(super) fn made_up(target: &str) -> Vec<Vec<u8>> {
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
            let (offset, index) = made_up_index();
            let end = end_of(offset, &index).unwrap_or_default();
            let by_offset = [&offset.to_le_bytes()[..], &index].concat();
            vec![chosen(0, &end), chosen(1, &by_offset)]
        }
        "list" => vec![list_payload()],
        "pack_list" => vec![
            encode_pack_list(&packs()).expect("few origins"),
            encode_pack_list(&[]).expect("no origins"),
        ],
        _ => Vec::new(),
    }
}

/// Of two chunks, with its offset.
fn made_up_index() -> (u32, Vec<u8>) {
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
    (offset, index)
}

/// The objects of a backup in `tests/golden`, whole and in pieces.
pub(super) fn golden(target: &str) -> Vec<Vec<u8>> {
    let part = |number: u32| {
        let object = read(&format!("backups/{NAME}/parts/{number:06}"));
        object[PREFIX_BYTES..object.len() - TAG_BYTES].to_vec()
    };
    match target {
        "header" => vec![read("../../../seawall.json")],
        "manifest" => {
            let object = read(&format!("backups/{NAME}/manifest"));
            let (header, body) = pieces_of(&object);
            vec![chosen(0, &object), chosen(1, header), chosen(2, body)]
        }
        "pack_end" => {
            let pack = golden_pack();
            let offset = u32_at(&pack, pack.len() - 24);
            let index = &pack[offset as usize..pack.len() - 24 - TAG_BYTES];
            let by_offset = [&offset.to_le_bytes()[..], index].concat();
            vec![chosen(0, &pack), chosen(1, &by_offset)]
        }
        "list" => vec![part(0)],
        "pack_list" => vec![part(1)],
        _ => Vec::new(),
    }
}

const GOLDEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/golden/format-2/plain/keyspaces"
);

/// An object of the golden backup's shard.
fn read(key: &str) -> Vec<u8> {
    std::fs::read(format!("{GOLDEN}/{SHARD}/{key}")).expect("the golden repository is there")
}

/// The one pack that the golden backup has put.
pub(super) fn golden_pack() -> Vec<u8> {
    let folder = format!("packs/{NAME}");
    let listed = std::fs::read_dir(format!("{GOLDEN}/{SHARD}/{folder}"));
    let name = listed
        .expect("the golden repository is there")
        .find_map(|entry| entry.ok()?.file_name().into_string().ok());
    read(&format!("{folder}/{}", name.expect("it has a pack")))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk());
    u32::from_le_bytes(*bytes.expect("the golden objects are whole"))
}

/// Header and body of a manifest that is not encrypted.
fn pieces_of(manifest: &[u8]) -> (&[u8], &[u8]) {
    let (header_at, header_bytes) = (PREFIX_BYTES + 4, u32_at(manifest, PREFIX_BYTES) as usize);
    let body_at = header_at + header_bytes + 32 + 4;
    let body_bytes = u32_at(manifest, body_at - 4) as usize - TAG_BYTES;
    (
        &manifest[header_at..header_at + header_bytes],
        &manifest[body_at..body_at + body_bytes],
    )
}

/// With `SEAWALL_FUZZ_SEEDS` in the environment a fuzzer writes the valid inputs of its target to that
/// directory and ends: what it begins with the next time.
pub fn write_seeds_if_asked(target: &str) {
    let Some(directory) = std::env::var_os("SEAWALL_FUZZ_SEEDS") else {
        return;
    };
    for (number, seed) in seeds(target).iter().enumerate() {
        let file = std::path::Path::new(&directory).join(format!("seed-{number}"));
        std::fs::write(file, seed).expect("the directory of the seeds can be written to");
    }
    std::process::exit(0);
}

/// A directory, a link, a file of one stored chunk, zeros, and another stored chunk.
pub(super) fn list_payload() -> Vec<u8> {
    let attributes = Attributes {
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

pub(super) fn header_json() -> Vec<u8> {
    let part = r#"{"number": 0, "bytes": 200, "hash": "00"}"#;
    format!(
        r#"{{"version": 2, "name": "{NAME}", "shard": "{SHARD}", "alias": "zone1-101", "engine": "files",
        "epoch": 1, "position": "0-1-7", "started_unix_ms": 1, "ended_unix_ms": 2, "logical_bytes": 3, "stored_bytes": 4,
        "files": 1, "encrypted": false, "chunk_bytes": 1048576, "lists": [{part}], "pack_lists": [],
        "refers_to": ["2026-10-14.174640.zone1-102"], "damaged_pages": 1}}"#
    )
    .into_bytes()
}

pub(super) fn body_json() -> Vec<u8> {
    br#"{"operation": "o", "token": 7, "details": [["version", "10.11"]], "roots": [{"name": "data",
    "path": "/data", "attributes": {"uid": 1, "gid": 1, "mode": 448, "mtime_seconds": 1, "mtime_nanos": 2}}],
    "users": {"1": "mysql"}, "groups": {"1": "mysql"}, "damaged_pages": [{"root": "data", "path": "t.ibd", "page": 3,
    "what": "checksum"}]}"#
        .to_vec()
}

/// Those that a list of the fuzzer's may name.
pub(super) fn packs() -> Vec<PackRecord> {
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
    vec![record(1, 32 << 20), record(2, 20_000), record(3, 20_000)]
}
