//! Lists that somebody made up: nothing in them is believed.

use std::sync::Arc;

use proptest::prelude::*;
use uuid::Uuid;

use super::super::{
    check::ListChecker,
    chunk::CHUNK_BYTES,
    compress::Encoding,
    list::{Attributes, FileHasher, Record, Records},
    manifest::{PackOrigin, PackRecord, decode_header},
    object::{ObjectKind, Prefix},
    pack::StoredChunk,
};
use super::*;

fn directory(path: &str) -> Record {
    Record::Directory {
        root: 0,
        path: path.into(),
        attributes: Attributes::default(),
    }
}

fn file(path: &str, bytes: u64) -> Record {
    Record::File {
        root: 0,
        path: path.into(),
        attributes: Attributes::default(),
        bytes,
    }
}

fn empty(path: &str) -> [Record; 2] {
    let hash = FileHasher::default().hash();
    [file(path, 0), Record::EndOfFile { hash }]
}

fn link(path: &str, target: &str) -> Record {
    Record::Link {
        root: 0,
        path: path.into(),
        attributes: Attributes::default(),
        target: target.into(),
    }
}

fn chunk(offset: u32, stored_bytes: u32) -> StoredChunk {
    StoredChunk {
        id: [1; 32],
        pack: 0,
        place: 0,
        offset,
        stored_bytes,
        encoding: Encoding::Zstd,
    }
}

/// Why the list is refused; empty: it is not.
fn verdict(records: impl IntoIterator<Item = Record>) -> String {
    let pack = PackRecord {
        origin: Arc::new(PackOrigin {
            backup: name(0),
            session: Uuid::from_u128(1),
            encrypted: false,
        }),
        id: Uuid::from_u128(2),
        bytes: 10_000,
        hash: [0; 32],
    };
    let mut checker = ListChecker::new(1, [pack].into());
    for record in records {
        if let Err(why) = checker.check(&record) {
            return why;
        }
    }
    checker.finish().err().unwrap_or_default()
}

#[test]
fn i8_a_path_that_leaves_its_root_is_refused() {
    assert_eq!(verdict(empty("a")), "");
    for path in ["../a", "/etc/passwd", "a/../../b", "", ".", "a//b"] {
        assert!(verdict(empty(path)).contains("leaves its root"), "{path}");
        assert!(
            verdict([directory(path)]).contains("leaves its root"),
            "{path}"
        );
    }
    for target in ["/etc", "../x", "b/../../x"] {
        assert!(
            verdict([link("a", target)]).contains("leaves its root"),
            "{target}"
        );
    }
    assert_eq!(verdict([directory("d"), link("d/a", "../x")]), "");
}

#[test]
fn i8_links_that_leave_the_root_together_are_refused() {
    let list = |target| {
        [
            directory("a"),
            directory("a/b"),
            directory("a/b/c"),
            link("a/b/c/s", "../../../e"),
            link("a/b/c/t", target),
            directory("e"),
        ]
    };
    assert_eq!(verdict(list("s")), "");
    // By its text it is "a/b/etc"; by way of s it is "../etc".
    assert!(verdict(list("s/../../etc")).contains("leaves its root"));
}

#[test]
fn i8_what_lies_below_a_link_or_a_file_is_refused() {
    let below = |record: Record| [record].into_iter().chain(empty("d/passwd"));
    assert_eq!(verdict(below(directory("d"))), "");
    assert!(verdict(below(link("d", "e"))).contains("without the directory"));
    let file_as_directory = empty("d").into_iter().chain(empty("d/passwd"));
    assert!(verdict(file_as_directory).contains("without the directory"));
    assert!(verdict(empty("d/passwd")).contains("without the directory"));
    let left = [directory("d"), directory("e")]
        .into_iter()
        .chain(empty("d/x"));
    assert!(verdict(left).contains("out of order"));
}

#[test]
fn i8_a_path_that_comes_twice_is_refused() {
    let twice = empty("a").into_iter().chain(empty("a"));
    assert!(verdict(twice).contains("twice"));
    let unordered = empty("b").into_iter().chain(empty("a"));
    assert!(verdict(unordered).contains("out of order"));
    assert!(verdict([directory("a"), link("a", "b")]).contains("twice"));
}

#[test]
fn i8_chunks_that_do_not_fit_are_refused() {
    let of_file = |bytes: u64, chunks: Vec<StoredChunk>| {
        let mut hasher = FileHasher::default();
        chunks.iter().for_each(|c| hasher.add(&c.id));
        let end = Record::EndOfFile {
            hash: hasher.hash(),
        };
        verdict([file("a", bytes), Record::Chunks(chunks), end])
    };
    assert_eq!(of_file(5000, vec![chunk(64, 100)]), "");
    let nowhere = "lies in no pack";
    assert!(
        of_file(5000, vec![chunk(0, 100)]).contains(nowhere),
        "in the beginning"
    );
    assert!(
        of_file(5000, vec![chunk(9_900, 100)]).contains(nowhere),
        "behind the end"
    );
    assert!(of_file(5000, vec![chunk(u32::MAX, u32::MAX)]).contains(nowhere));
    assert!(
        of_file(50, vec![chunk(64, 51)]).contains(nowhere),
        "larger than itself"
    );
    assert!(of_file(50, vec![chunk(64, 0)]).contains(nowhere), "empty");
    let other_pack = StoredChunk {
        pack: 1,
        ..chunk(64, 100)
    };
    assert!(of_file(5000, vec![other_pack]).contains(nowhere));
    assert!(of_file(5000, vec![chunk(64, 100); 2]).contains("too many chunks"));
    assert!(of_file(0, vec![chunk(64, 100)]).contains("too many chunks"));

    let two = 2 * CHUNK_BYTES as u64;
    let end = Record::EndOfFile { hash: [0; 32] };
    let one_of_two = [
        file("a", two),
        Record::Chunks(vec![chunk(64, 100)]),
        end.clone(),
    ];
    assert!(verdict(one_of_two).contains("another chunk list"));
    let other_hash = [
        file("a", 50),
        Record::Chunks(vec![chunk(64, 10)]),
        end.clone(),
    ];
    assert!(verdict(other_hash).contains("another chunk list"));
    assert!(verdict([file("a", two), Record::Zeros { count: u32::MAX }]).contains("too many"));
    assert!(verdict([file("a", two), Record::Zeros { count: 0 }]).contains("too many"));
    assert!(verdict([file("a", u64::MAX)]).contains("absurd size"));
    assert!(verdict([file("a", 5)]).contains("ends within a"));
    assert!(verdict([file("a", 5), directory("b")]).contains("has no end of a"));
    assert!(verdict([Record::Zeros { count: 1 }]).contains("chunks of no file"));
    assert!(verdict([end]).contains("did not begin"));
}

fn any_record() -> impl Strategy<Value = Record> {
    let path = prop::collection::vec(any::<u8>(), 0..40);
    let attributes =
        any::<(u32, u32, u32, i64, u32)>().prop_map(|(uid, gid, mode, s, n)| Attributes {
            uid,
            gid,
            mode,
            mtime_seconds: s,
            mtime_nanos: n,
        });
    let entry = (any::<u16>(), path.clone(), attributes);
    let chunk = any::<([u8; 32], u32, u32, u32, u32, bool)>().prop_map(
        |(id, pack, place, offset, stored_bytes, raw)| StoredChunk {
            id,
            pack,
            place,
            offset,
            stored_bytes,
            encoding: if raw { Encoding::Raw } else { Encoding::Zstd },
        },
    );
    prop_oneof![
        entry
            .clone()
            .prop_map(|(root, path, attributes)| Record::Directory {
                root,
                path,
                attributes
            }),
        (entry.clone(), any::<u64>()).prop_map(|((root, path, attributes), bytes)| Record::File {
            root,
            path,
            attributes,
            bytes
        }),
        (entry, path).prop_map(|((root, path, attributes), target)| Record::Link {
            root,
            path,
            attributes,
            target
        }),
        any::<u32>().prop_map(|count| Record::Zeros { count }),
        prop::collection::vec(chunk, 0..5).prop_map(Record::Chunks),
        any::<[u8; 32]>().prop_map(|hash| Record::EndOfFile { hash }),
    ]
}

proptest! {
    #[test]
    fn records_are_read_as_they_were_written(records in prop::collection::vec(any_record(), 0..20)) {
        let mut payload = Vec::new();
        records.iter().for_each(|record| record.encode(&mut payload));
        let read: std::result::Result<Vec<_>, _> = Records::new(&payload).collect();
        prop_assert_eq!(read.unwrap(), records);
    }

    #[test]
    fn i8_any_records_are_checked_without_a_panic(records in prop::collection::vec(any_record(), 0..20)) {
        let _ = verdict(records);
    }

    #[test]
    fn i8_any_bytes_are_records_or_are_refused(bytes: Vec<u8>) {
        let _ = Records::new(&bytes).count();
    }

    #[test]
    fn i8_any_bytes_are_a_manifest_or_are_refused(tail: Vec<u8>, at in 0..200_usize, bytes: Vec<u8>) {
        let _ = decode_header(&bytes, Uuid::nil(), &shard(), &name(0)).is_ok();
        let prefix = Prefix {
            kind: ObjectKind::Manifest,
            encrypted: false,
            repository: Uuid::nil(),
            session: Uuid::nil(),
            id: Uuid::nil(),
        };
        let mut object = prefix.encode().to_vec();
        object.extend_from_slice(&(at as u32).to_le_bytes());
        object.extend_from_slice(&tail);
        let _ = decode_header(&object, Uuid::nil(), &shard(), &name(0)).is_ok();
    }
}

#[test]
fn i8_more_directories_than_a_restore_can_remember_are_refused() {
    let most = crate::repository::check::DIRECTORIES_AND_LINKS_MAX;
    let directories = |count| (0..count).map(|n| directory(&format!("{n:08}")));
    assert_eq!(verdict(directories(most)), "");
    assert!(verdict(directories(most + 1)).contains("more than 1048576 directories"));
}
