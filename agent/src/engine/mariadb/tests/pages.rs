//! Checks of pages, on files that a real server wrote: nothing is said of good ones, everything of
//! damaged ones, and both as the server's own tool says it.

pub mod database;
pub mod files;

use database::Database;
use files::{DataFile, Pick};

/// All kinds of tables that a server of this page size can have.
async fn every_kind(page_bytes: usize, more: &[&str]) -> Database {
    let database = Database::start(page_bytes, more).await;
    database.fill();
    database.stop().await;
    database
}

/// No alarm on what a server wrote. Then a byte is flipped in many pages, one after the other, and
/// each time just that page is found.
async fn good_pages_are_good_and_each_flip_is_found(page_bytes: usize, more: &[&str]) -> Database {
    let database = every_kind(page_bytes, more).await;
    let check = database.page_check().await;
    let (mut checked, mut not_checked, mut flips) = (0, 0, 0);
    let mut pick = Pick::new(page_bytes as u64);
    for file in database.files() {
        let Some(pages) = file.open(&*check) else {
            continue;
        };
        let (damaged, seen) = file.check(&*pages);
        assert_eq!(damaged, [], "{}", file.name);
        checked += seen.checked;
        not_checked += seen.not_checked;
        for (page, at) in file.flips(&mut pick) {
            let damaged = file.with_flip(at).check_at(&*check, at);
            let pages: Vec<u64> = damaged.iter().map(|(page, _)| *page).collect();
            assert_eq!(pages, [page], "{} at {at}: {damaged:?}", file.name);
            flips += 1;
        }
    }
    eprintln!("{page_bytes}: {checked} pages checked, {not_checked} not, {flips} flips found");
    assert!(checked > 500 && flips > 200, "{checked} {flips}");
    database
}

#[tokio::test]
async fn good_pages_are_good_and_each_flip_is_found_in_pages_of_16k_as_the_servers_tool_does() {
    let database = good_pages_are_good_and_each_flip_is_found(16 << 10, &[]).await;
    the_servers_own_tool_says_the_same(&database).await;
    a_file_that_was_cut_short_or_exchanged_is_found(&database).await;
}

#[tokio::test]
async fn good_pages_are_good_and_each_flip_is_found_in_pages_of_4k() {
    good_pages_are_good_and_each_flip_is_found(4 << 10, &[]).await;
}

#[tokio::test]
async fn good_pages_are_good_and_each_flip_is_found_in_pages_of_64k() {
    good_pages_are_good_and_each_flip_is_found(64 << 10, &[]).await;
}

#[tokio::test]
async fn good_pages_are_good_and_each_flip_is_found_where_all_is_of_the_older_format() {
    let more = ["--innodb-checksum-algorithm=crc32"];
    good_pages_are_good_and_each_flip_is_found(16 << 10, &more).await;
}

/// The same files, good and damaged, shown to the server's own tool.
async fn the_servers_own_tool_says_the_same(database: &Database) {
    let check = database.page_check().await;
    let mut pick = Pick::new(3);
    let mut compared = 0;
    for file in database.files() {
        // The tool calls good pages of the doublewrite buffer damaged.
        if file.open(&*check).is_none() || file.name.starts_with("ibdata") {
            continue;
        }
        assert!(database.innochecksum(&file).is_empty(), "{}", file.name);
        let mut damaged = file.clone();
        for (page, at) in file.flips(&mut pick) {
            // It goes by what a damaged first page says.
            if page > 0 {
                damaged = damaged.with_flip(at);
            }
        }
        let pages = damaged.open(&*check).unwrap();
        let (found, _) = damaged.check(&*pages);
        let found: Vec<u64> = found.iter().map(|(page, _)| *page).collect();
        assert_eq!(found, database.innochecksum(&damaged), "{}", file.name);
        compared += found.len();
    }
    assert!(compared > 100, "{compared}");
}

async fn a_file_that_was_cut_short_or_exchanged_is_found(database: &Database) {
    let check = database.page_check().await;
    let (big, other) = (
        database.file("shop/dynamic.ibd"),
        database.file("shop/redundant.ibd"),
    );
    let found = |file: &DataFile| file.check(&*file.open(&*check).unwrap()).0;

    let cut = big.cut(20 * 16384 + 100);
    assert_eq!(
        found(&cut),
        [
            (20, "the file ends within it".into()),
            (21, "the file ends before it".into())
        ]
    );
    let cut = big.cut(20 * 16384);
    assert_eq!(found(&cut), [(20, "the file ends before it".into())]);
    let cut = big.cut(100);
    assert_eq!(found(&cut), [(0, "the file ends within it".into())]);

    // A page that was written to a wrong place, here or in another file.
    let moved = big.with_page(30, big.page(31, 16384));
    assert_eq!(found(&moved), [(30, "it says that it is page 31".into())]);
    let moved = big.with_page(30, other.page(30, 16384));
    let [(30, what)] = &found(&moved)[..] else {
        panic!("{:?}", found(&moved));
    };
    assert!(
        what.starts_with("it says that it is of tablespace "),
        "{what}"
    );
    let emptied = big.with_page(0, &[0; 16384]);
    assert_eq!(
        found(&emptied),
        [(0, "it is empty, as the first page never is".into())]
    );
    let nonsense = big.with_page(0, &[0xa5; 16384]);
    assert_eq!(found(&nonsense)[0].0, 0);
    assert_eq!(found(&nonsense).len(), 1);
}
