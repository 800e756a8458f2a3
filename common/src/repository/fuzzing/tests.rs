//! The targets themselves, a short while, in this process.

use super::{
    seeds::{body_json, golden, golden_pack, header_json, list_payload, packs},
    *,
};

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
fn the_golden_objects_are_read_to_their_end() {
    let (shard, name) = ids();
    let [object, header, body] = &golden("manifest")[..] else {
        panic!("a manifest, its header and its body");
    };
    let (prefix, read, sealed) = decode_header(&object[1..], REPOSITORY, &shard, &name).unwrap();
    assert!(!read.writer_key.is_empty(), "it is signed");
    assert_eq!(
        serde_json::from_slice::<ManifestHeader>(&header[1..]).unwrap(),
        read
    );
    let opened = open_body(&prefix, None, sealed).unwrap().unwrap();
    assert_eq!(serde_json::from_slice::<Body>(&body[1..]).unwrap(), opened);

    let pack = golden_pack();
    let prefix = Prefix::decode(&pack, ObjectKind::Pack, REPOSITORY).unwrap();
    let sealer = Sealer::new(&prefix, None).unwrap();
    let index = PackIndex::open(&pack, pack.len() as u64, &sealer).unwrap();
    assert!(!index.chunks.is_empty());

    let packs = decode_pack_list(&golden("pack_list")[0]).unwrap();
    assert_eq!(packs.len(), 3);
    let mut checker = ListChecker::new(opened.roots.len(), packs.into());
    for record in Records::new(&golden("list")[0]) {
        checker.check(&record.unwrap()).unwrap();
    }
    let files: u64 = checker
        .finish()
        .unwrap()
        .iter()
        .map(|root| root.files)
        .sum();
    assert_eq!(files, read.files);
    header::parse(&golden("header")[0], "x").unwrap();
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
