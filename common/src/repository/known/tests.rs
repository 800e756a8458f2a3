use std::sync::Arc;

use super::{file::IndexFile, sort::RECORD_BYTES, *};
use crate::repository::{
    compress::Encoding,
    manifest::{PackOrigin, PackRecord},
};

fn id(number: u32) -> ChunkId {
    *blake3::hash(&number.to_le_bytes()).as_bytes()
}

fn chunk(number: u32) -> StoredChunk {
    StoredChunk {
        id: id(number),
        pack: number % 3,
        place: number,
        offset: 64 + number,
        stored_bytes: 100,
        encoding: Encoding::Raw,
    }
}

fn packs() -> Vec<PackRecord> {
    let record = |number: u128| PackRecord {
        origin: Arc::new(PackOrigin {
            backup: format!("2026-11-21.03150{}.zone1-101", number % 2)
                .parse()
                .unwrap(),
            session: Uuid::from_u128(number % 2),
            encrypted: true,
        }),
        id: Uuid::from_u128(number),
        bytes: 10_000,
        hash: [number as u8; 32],
    };
    (0..3).map(record).collect()
}

fn identity(hash: Option<&str>) -> IndexIdentity {
    let reference = Reference {
        name: "2026-11-21.031500.zone1-101".parse().unwrap(),
        manifest_hash: hash.map(str::to_owned),
    };
    let shard = "commerce/0".parse().unwrap();
    IndexIdentity::of(Uuid::from_u128(7), &shard, &reference)
}

/// An index of 1000 chunks, each of which comes twice, sorted 37 at a time.
fn written(directory: &Path) -> IndexIdentity {
    let mut sorter = Sorter::with_batches(directory, 37);
    for number in (0..1000).rev().chain(0..1000) {
        if sorter.add(&chunk(number)) {
            sorter.spill().unwrap();
        }
    }
    let identity = identity(Some("ab"));
    write(directory, &identity, &packs(), sorter).unwrap();
    identity
}

#[test]
fn every_chunk_is_found_in_an_index_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let identity = written(directory.path());
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 1, "what was sorted in parts left no file");
    let index = IndexFile::open_or_discard(directory.path(), &identity);
    let index = index.unwrap().unwrap();
    for number in 0..1000 {
        assert_eq!(index.find(&id(number)).unwrap(), Some(chunk(number)));
    }
    for number in 1000..1100 {
        assert_eq!(index.find(&id(number)).unwrap(), None);
    }
    assert_eq!(index.find(&[0; 32]).unwrap(), None);
    assert_eq!(index.find(&[0xff; 32]).unwrap(), None);
    let mut read = Vec::new();
    index.for_each_pack(|_, pack| read.push(pack)).unwrap();
    assert_eq!(read, packs());
    assert_eq!(index.pack(2).unwrap(), packs()[2]);
    assert!(index.pack(3).is_err());
}

#[test]
fn an_index_that_cannot_be_written_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let identity = identity(None);
    let in_the_way = directory.path().join(identity.backup.as_str());
    std::fs::create_dir(&in_the_way).unwrap();
    let sorter = Sorter::new(directory.path());
    write(directory.path(), &identity, &packs(), sorter).unwrap_err();
    std::fs::remove_dir(&in_the_way).unwrap();
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_index_of_no_chunks_knows_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let identity = identity(None);
    write(
        directory.path(),
        &identity,
        &[],
        Sorter::new(directory.path()),
    )
    .unwrap();
    let index = IndexFile::open_or_discard(directory.path(), &identity);
    assert_eq!(index.unwrap().unwrap().find(&id(1)).unwrap(), None);
}

#[test]
fn a_damaged_or_foreign_index_is_thrown_away() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("2026-11-21.031500.zone1-101");
    let identity = written(directory.path());
    let whole = std::fs::read(&path).unwrap();
    let opens = |identity: &IndexIdentity| {
        let opened = IndexFile::open_or_discard(directory.path(), identity).unwrap();
        assert_eq!(opened.is_some(), path.exists(), "it is gone when it is bad");
        opened.is_some()
    };
    for at in (0..whole.len()).step_by(97).chain([8, 9, whole.len() - 1]) {
        let mut altered = whole.clone();
        altered[at] ^= 0x10;
        std::fs::write(&path, altered).unwrap();
        assert!(!opens(&identity), "byte {at}");
    }
    for cut in [1, 32, 40, RECORD_BYTES, whole.len() - 4, whole.len()] {
        std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        assert!(!opens(&identity), "cut by {cut}");
    }
    let others = [
        self::identity(Some("cd")),
        self::identity(None),
        IndexIdentity {
            repository: Uuid::from_u128(8),
            ..identity.clone()
        },
        IndexIdentity {
            shard: "commerce/1".parse().unwrap(),
            ..identity.clone()
        },
    ];
    for other in others {
        std::fs::write(&path, &whole).unwrap();
        assert!(!opens(&other), "{other:?}");
    }
    std::fs::write(&path, &whole).unwrap();
    assert!(opens(&identity));
}

#[test]
fn a_record_that_does_not_fit_its_pack_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let identity = written(directory.path());
    let file = IndexFile::open_or_discard(directory.path(), &identity);
    let known = KnownChunks {
        indexes: vec![UsedIndex {
            file: file.unwrap().unwrap(),
            is_attempt: false,
            usable_bytes: vec![10_000, 0, 200],
        }],
        held: HashSet::new(),
    };
    let find = |number: u32, plain_bytes| known.find(&id(number), plain_bytes).unwrap();
    assert_eq!(find(3, 100).unwrap().stored, chunk(3));
    assert_eq!(find(3, 101), None, "another length");
    assert_eq!(find(4, 100), None, "a pack that is not to be used");
    assert_eq!(find(302, 100), None, "behind the end of its pack");
}
