//! Layouts that no server of today writes, and how fast it goes.

use seawall_common::repository::{FilePages as _, PagesSeen};

use super::{
    checksum::{self, NO_CHECKSUM},
    format::Format,
    is_tablespace,
    page::{Fault, Verdict, judge},
    tablespace::Tablespace,
};
use crate::engine::{Engine as _, mariadb::tests::pages::database::Database};

const PAGE: usize = 16 << 10;

fn put(page: &mut [u8], at: usize, word: u32) {
    page[at..at + 4].copy_from_slice(&word.to_be_bytes());
}

/// An index page of the older layout, number 3 of tablespace 9, without its checksums.
fn older_page() -> Vec<u8> {
    let mut page: Vec<u8> = (0..PAGE).map(|i| (i * 7 % 251) as u8).collect();
    put(&mut page, 4, 3);
    put(&mut page, 16, 0);
    put(&mut page, 20, 0x1234);
    page[24..34].copy_from_slice(&[0x45, 0xbf, 0, 0, 0, 0, 0, 0, 0, 0]);
    put(&mut page, 34, 9);
    put(&mut page, PAGE - 4, 0x1234);
    page
}

fn with_checksums(page: &[u8], first: u32, last: u32) -> Vec<u8> {
    let mut page = page.to_vec();
    put(&mut page, 0, first);
    put(&mut page, PAGE - 8, last);
    page
}

fn judge_older(page: &[u8]) -> Verdict {
    judge(Format::Ranges(PAGE), page, 3, Some(9))
}

#[test]
fn pages_with_the_checksums_of_old_servers_are_good() {
    let page = older_page();
    let crc = checksum::ranges(&page);
    let innodb = checksum::innodb(&page);
    // Over the header, with the checksum that stands in it.
    let old = |first| checksum::innodb_old(&with_checksums(&page, first, 0));
    for (first, last) in [
        (crc, crc),
        (innodb, old(innodb)),
        (crc, old(crc)),
        (innodb, NO_CHECKSUM),
        (NO_CHECKSUM, old(NO_CHECKSUM)),
        // Very old: the upper half of its log position.
        (innodb, 0),
    ] {
        let page = with_checksums(&page, first, last);
        assert_eq!(judge_older(&page), Verdict::Good, "{first:#x} {last:#x}");
        let mut flipped = page.clone();
        flipped[PAGE / 2] ^= 1;
        let is_found = matches!(
            judge_older(&flipped),
            Verdict::Damaged(Fault::Checksum { .. })
        );
        assert!(is_found || first == NO_CHECKSUM, "{first:#x} {last:#x}");
        for at in [0, PAGE - 8] {
            let mut flipped = page.clone();
            flipped[at] ^= 1;
            assert_ne!(judge_older(&flipped), Verdict::Good, "{first:#x} {last:#x}");
        }
    }
    let unchecked = with_checksums(&page, NO_CHECKSUM, NO_CHECKSUM);
    assert_eq!(judge_older(&unchecked), Verdict::NotChecked);
    let other = judge(Format::Ranges(PAGE), &unchecked, 4, Some(9));
    assert_eq!(other, Verdict::Damaged(Fault::OtherPage(3)));
}

#[test]
fn pages_that_mysql_compressed_or_encrypted_are_not_called_damaged() {
    for kind in 14..=17 {
        let mut page = with_checksums(&older_page(), 1, 2);
        page[24..26].copy_from_slice(&[0, kind]);
        assert_eq!(judge_older(&page), Verdict::NotChecked);
    }
}

/// The server agrees: it reads a table whose pages carry the checksums of servers before 5.6.
#[tokio::test]
async fn a_server_reads_the_old_checksums_as_they_are_made_here() {
    let database = Database::start(PAGE, &["--innodb-checksum-algorithm=crc32"]).await;
    let server = database.server();
    server.sql(
        "CREATE DATABASE shop; USE shop; CREATE TABLE t (a INT PRIMARY KEY, b CHAR(40)); \
         CREATE TABLE z (a INT PRIMARY KEY, b CHAR(40)) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8; \
         INSERT INTO t SELECT seq, SHA1(seq) FROM seq_1_to_2000; INSERT INTO z SELECT * FROM t",
    );
    database.stop().await;
    for (name, page_bytes) in [("shop/t.ibd", PAGE), ("shop/z.ibd", PAGE / 2)] {
        let path = server.data_dir().join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        for page in bytes.chunks_mut(page_bytes) {
            if page.iter().all(|byte| *byte == 0) {
                continue;
            }
            if page_bytes < PAGE {
                let first = checksum::zip_adler(page);
                put(page, 0, first);
            } else {
                let first = checksum::innodb(page);
                put(page, 0, first);
                let last = checksum::innodb_old(page);
                put(page, PAGE - 8, last);
            }
        }
        let pages = Tablespace::read(path.clone(), &bytes, bytes.len() as u64, PAGE);
        let seen = pages.check(0, &bytes, &mut |page, what| panic!("{name} {page}: {what}"));
        assert!(seen.checked > 10, "{seen:?}");
        std::fs::write(&path, bytes).unwrap();
    }
    server.engine.start().await.unwrap();
    for table in ["t", "z"] {
        let said = server.sql(&format!(
            "CHECK TABLE shop.{table}; SELECT COUNT(*) FROM shop.{table}"
        ));
        assert!(said.ends_with("OK\n2000"), "{said}");
    }
}

#[test]
fn files_are_known_by_their_names() {
    for name in [
        "shop/t.ibd",
        "shop/t#P#p0.ibd",
        "mysql.ibd",
        "undo001",
        "undo_001",
        "u/a.ibu",
    ] {
        assert!(is_tablespace(name.as_bytes()), "{name}");
    }
    for name in [
        "ib_logfile0",
        "ibtmp1",
        "undo",
        "undo_log",
        "shop/undo.frm",
        "shop/#sql-alter-1-2.ibd",
        "#ib_16384_0.dblwr",
        "#innodb_temp/temp_1.ibt",
    ] {
        assert!(!is_tablespace(name.as_bytes()), "{name}");
    }
}

/// `cargo test --release -- --ignored --nocapture pages_are_checked_faster`
#[test]
#[ignore = "a measurement"]
fn pages_are_checked_faster_than_they_are_read() {
    let pages = Tablespace {
        format: Format::Full(PAGE),
        space: Some(9),
        first: 0,
        end: None,
        is_last: true,
        extents: None,
        doublewrite: Vec::new(),
        bytes: 1 << 20,
    };
    let mut chunk = Vec::new();
    for number in 0..64 {
        let mut page = older_page();
        put(&mut page, 0, 0);
        put(&mut page, 4, number);
        let sum = checksum::full(&page);
        put(&mut page, PAGE - 4, sum);
        chunk.extend(page);
    }
    const ROUNDS: u64 = 4000;
    let began = std::time::Instant::now();
    let mut seen = PagesSeen::default();
    for _ in 0..ROUNDS {
        seen += pages.check(0, &chunk, &mut |page, what| panic!("{page}: {what}"));
    }
    let rate = (ROUNDS << 20) as f64 / began.elapsed().as_secs_f64() / 1e9;
    println!("{rate:.1} GB/s, {} pages", seen.checked);
    assert_eq!(seen.checked, ROUNDS * 64);
}
