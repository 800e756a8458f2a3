//! What a fuzzer throws at the readers of the format: any bytes are read, or refused with a reason,
//! and what is taken keeps the format's promises (I8). Built for tests and fuzzers only.
//!
//! Hashes and seals would keep a fuzzer out, so each target also takes its input for what lies
//! behind them, and puts fitting ones around it.

mod seeds;
#[cfg(test)]
mod tests;

use uuid::Uuid;

pub use seeds::{seeds, write_seeds_if_asked};

use super::{
    check::ListChecker,
    header,
    list::{Record, Records},
    manifest::{
        Body, ManifestHeader, decode_header, decode_pack_list, encode_pack_list, open_body,
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

/// Those of a golden backup, so that its objects are valid inputs.
const REPOSITORY: Uuid = Uuid::from_u128(0x4038657e_b78c_4dbf_89a2_32ea4a04914c);
const SHARD: &str = "commerce/0";
const NAME: &str = "2026-10-14.174640.zone1-101.3";

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
        _ => read_manifest(&manifest_of(&seeds::header_json(), rest)),
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
fn manifest_of(header: &[u8], body: &[u8]) -> Vec<u8> {
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

/// The first byte chooses: the bytes as the end of a pack, or as its index, with seal and trailer
/// that fit.
pub fn pack_end(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else {
        return;
    };
    if choice % 2 == 0 {
        let _ = whole_hash(rest);
        let own = Prefix::decode(rest, ObjectKind::Pack, REPOSITORY);
        let own = own.ok().filter(|prefix| !prefix.encrypted);
        let prefix = own.unwrap_or_else(|| prefix(ObjectKind::Pack));
        return read_end(rest, rest.len() as u64, &prefix);
    }
    let Some((offset, index)) = rest.split_first_chunk() else {
        return;
    };
    let offset = u32::from_le_bytes(*offset);
    if let Some(end) = end_of(offset, index) {
        let bytes = u64::from(offset) + end.len() as u64;
        read_end(&end, bytes, &prefix(ObjectKind::Pack));
    }
}

fn read_end(end: &[u8], pack_bytes: u64, prefix: &Prefix) {
    let sealer = Sealer::new(prefix, None).expect("nothing is encrypted here");
    let Ok(index) = PackIndex::open(end, pack_bytes, &sealer) else {
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
fn end_of(index_offset: u32, index: &[u8]) -> Option<Vec<u8>> {
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

/// The payload of a list part, of two roots and two packs.
pub fn list(bytes: &[u8]) {
    let mut checker = ListChecker::new(2, seeds::packs().into());
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
    let again = decode_pack_list(&encode_pack_list(&packs).expect("as many as were read"));
    assert_eq!(again.as_deref(), Some(&packs[..]));
    for pack in &packs {
        assert!(pack.bytes as usize <= PACK_BYTES_MAX);
    }
}
