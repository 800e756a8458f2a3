//! Every backup is full to read and incremental to write.

use std::{os::unix::fs::FileExt, sync::Arc};

use super::{line::Line, *};

const MIB: u64 = 1 << 20;

/// A line of backups of one file of noise.
async fn line(ground: Ground, mib: usize) -> Line {
    std::fs::write(ground.data().join("t.ibd"), noise(mib << 20)).unwrap();
    std::fs::write(ground.data().join("u.frm"), b"columns").unwrap();
    Line::new(ground)
}

fn change_page(line: &Line, page: u64) {
    let file = std::fs::File::options()
        .write(true)
        .open(line.ground.data().join("t.ibd"))
        .unwrap();
    file.write_all_at(&rand::random::<[u8; 64]>(), page * (16 << 10))
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_second_backup_stores_less_than_one_percent() {
    for ground in [Ground::new().await, Ground::encrypted().await] {
        let mut line = line(ground, 64).await;
        let first = line.back_up("agent").await.header().clone();
        let second = line.back_up("agent").await.header().clone();
        assert!(first.stored_bytes > 64 * MIB, "{}", first.stored_bytes);
        assert!(
            second.stored_bytes * 100 < first.stored_bytes,
            "{} of {} bytes are new",
            second.stored_bytes,
            first.stored_bytes
        );
        assert_eq!(first.refers_to, []);
        assert_eq!(second.refers_to, [first.name]);
        assert_eq!(second.logical_bytes, first.logical_bytes);
        assert!(line.packs_of(&second.name).is_empty());
        line.comes_back(&second.name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_random_updates_about_the_chunks_that_changed_are_stored() {
    let mut line = line(Ground::encrypted().await, 64).await;
    let first = line.back_up("agent").await.header().clone();
    let before = line.ground.path("before");
    std::fs::create_dir(&before).unwrap();
    std::fs::copy(line.ground.data().join("t.ibd"), before.join("t.ibd")).unwrap();
    // Two pages of one chunk, and one page of each of four others.
    for page in [0, 1, 64 * 5, 64 * 20 + 63, 64 * 33, 64 * 63 + 63] {
        change_page(&line, page);
    }
    let second = line.back_up("agent").await.header().clone();
    let changed = 5 * MIB;
    assert!(
        (changed..changed + MIB / 2).contains(&second.stored_bytes),
        "{} bytes are new",
        second.stored_bytes
    );
    change_page(&line, 64 * 40);
    let third = line.back_up("agent").await.header().clone();
    assert!((MIB..MIB + MIB / 2).contains(&third.stored_bytes));
    assert_eq!(third.refers_to, [first.name.clone(), second.name.clone()]);
    line.comes_back(&third.name).await;
    line.comes_back_as(&first.name, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_can_read_knows_what_others_wrote_and_one_that_cannot_sends_all() {
    let mut readable = line(Ground::encrypted().await, 20).await;
    readable.back_up("one").await;
    let second = readable.back_up("other").await.header().clone();
    assert!(second.stored_bytes < MIB, "{}", second.stored_bytes);
    readable.comes_back(&second.name).await;

    let mut line = line(Ground::encrypted().await, 20).await;
    line.back_up("one").await;
    let config = RepositoryConfig {
        identity_file: None,
        ..line.ground.config.clone()
    };
    let blind = Repository::open(&config).await.unwrap();
    let writer = line.writer_of(&blind, "other");
    let second = line.try_backup(&writer).await.unwrap().header().clone();
    assert!(second.stored_bytes > 20 * MIB);
    assert_eq!(second.refers_to, []);
    // Of its own it knows all the same.
    let third = line.try_backup(&writer).await.unwrap().header().clone();
    assert!(third.stored_bytes < MIB, "{}", third.stored_bytes);
    line.comes_back(&third.name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_not_named_is_not_referred_to() {
    let mut line = line(Ground::new().await, 3).await;
    let first = line.back_up("agent").await.header().clone();
    line.complete.clear();
    let second = line.back_up("agent").await.header().clone();
    assert_eq!(second.refers_to, []);
    assert!(second.stored_bytes > 3 * MIB);
    let known = line.ground.path("agent/known");
    assert!(!known.join(first.name.as_str()).exists(), "it is forgotten");
    assert!(known.join(second.name.as_str()).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_was_damaged_since_is_not_referred_to() {
    for how in ["cut", "gone", "known"] {
        let mut line = line(Ground::new().await, 40).await;
        let first = line.back_up("agent").await.header().clone();
        let packs = line.packs_of(&first.name);
        let victim = packs[0].clone();
        let bytes = victim.metadata().unwrap().len();
        match how {
            "cut" => {
                let file = std::fs::File::options().write(true).open(&victim).unwrap();
                file.set_len(bytes - 1).unwrap();
            }
            "gone" => std::fs::remove_file(&victim).unwrap(),
            _ => {
                let id = victim.file_name().unwrap().to_str().unwrap();
                line.damaged_packs.push(id.parse().unwrap());
            }
        }
        let second = line.back_up("agent").await.header().clone();
        let sent = line.bytes_of(&second.name);
        assert!(
            sent.abs_diff(bytes) < MIB,
            "{how}: {sent} instead of {bytes}"
        );
        // It does not need the damaged one any more.
        let _ = std::fs::remove_file(&victim);
        line.comes_back(&second.name).await;
        let third = line.back_up("agent").await.header().clone();
        assert!(third.stored_bytes < MIB, "{how}: {}", third.stored_bytes);
        line.comes_back(&third.name).await;
    }
}

/// Damages a pack when the copy has begun, and everything that is known was looked at.
#[derive(Debug)]
struct Vandal(PathBuf);

impl PageCheck for Vandal {
    fn concerns(&self, _root: &str, _path: &[u8]) -> bool {
        let _ = std::fs::remove_file(&self.0);
        false
    }

    fn open(&self, _file: &PageFile<'_>) -> Option<Box<dyn FilePages>> {
        None
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_a_pack_that_vanishes_during_the_copy_fails_the_backup_and_is_named() {
    let mut line = line(Ground::new().await, 3).await;
    let first = line.back_up("agent").await.header().clone();
    let victim = line.packs_of(&first.name)[0].clone();
    line.page_check = Some(Arc::new(Vandal(victim.clone())));
    let writer = line.writer("agent");
    let error = line.try_backup(&writer).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let pack = victim.file_name().unwrap().to_str().unwrap();
    assert!(error.message().contains(pack), "{error}");
    assert!(error.message().contains("not there any more"), "{error}");
    let next = line.back_up("agent").await.header().clone();
    assert_eq!(next.refers_to, []);
    line.comes_back(&next.name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_a_key_file_that_vanishes_during_the_copy_fails_the_backup() {
    let mut line = line(Ground::encrypted().await, 3).await;
    let first = line.back_up("agent").await.header().clone();
    let packs = line.packs_of(&first.name);
    let keys = packs[0].parent().unwrap().join("keys");
    let victim = std::fs::read_dir(keys).unwrap().next().unwrap();
    line.page_check = Some(Arc::new(Vandal(victim.unwrap().path())));
    let writer = line.writer("agent");
    let error = line.try_backup(&writer).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(error.message().contains("lost a key file"), "{error}");
    line.page_check = None;
    let next = line.back_up("agent").await.header().clone();
    assert_eq!(next.refers_to, []);
    line.comes_back(&next.name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_what_a_damaged_key_file_opened_is_not_referred_to() {
    // With an identity it does not open; without one it does not look like a key file.
    for blind in [false, true] {
        let mut line = line(Ground::encrypted().await, 3).await;
        let first = line.back_up("agent").await.header().clone();
        let packs = line.packs_of(&first.name);
        let keys = packs[0].parent().unwrap().join("keys");
        let victim = std::fs::read_dir(keys).unwrap().next().unwrap();
        let victim = victim.unwrap().path();
        let mut wrapped = std::fs::read(&victim).unwrap();
        match blind {
            true => wrapped.truncate(wrapped.len() - 1),
            false => *wrapped.last_mut().unwrap() ^= 1,
        }
        std::fs::write(&victim, wrapped).unwrap();
        let config = RepositoryConfig {
            identity_file: line.ground.config.identity_file.clone().filter(|_| !blind),
            ..line.ground.config.clone()
        };
        let repository = Repository::open(&config).await.unwrap();
        let writer = line.writer_of(&repository, "agent");
        let second = line.try_backup(&writer).await.unwrap().header().clone();
        assert_eq!(second.refers_to, [], "blind: {blind}");
        line.comes_back(&second.name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_new_recipient_cannot_open_is_not_referred_to() {
    let mut line = line(Ground::encrypted().await, 20).await;
    line.back_up("agent").await;
    let newcomer = generate_identity();
    let file = line.ground.path("newcomer.txt");
    std::fs::write(&file, newcomer.file.as_bytes()).unwrap();
    let mut config = line.ground.config.clone();
    config.recipients.push(newcomer.recipient);
    let both = Repository::open(&config).await.unwrap();
    let writer = line.writer_of(&both, "agent");
    let second = line.try_backup(&writer).await.unwrap().header().clone();
    assert_eq!(second.refers_to, []);
    assert!(second.stored_bytes > 20 * MIB);
    config.identity_file = Some(file);
    line.ground.repository = Repository::open(&config).await.unwrap();
    line.comes_back(&second.name).await;

    // One recipient less can open what both could.
    line.ground.repository = Repository::open(&line.ground.config).await.unwrap();
    let third = line.back_up("agent").await.header().clone();
    assert_eq!(third.refers_to, [second.name]);
    // And nothing encrypted in a backup that is not, which anybody is meant to read.
    config.recipients.clear();
    let clear = Repository::open(&config).await.unwrap();
    let writer = line.writer_of(&clear, "agent");
    let fourth = line.try_backup(&writer).await.unwrap().header().clone();
    assert_eq!(fourth.refers_to, []);
    let fifth = line.back_up("agent").await.header().clone();
    assert!(!fifth.refers_to.contains(&fourth.name));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_is_made_anew_or_done_without() {
    for can_read in [true, false] {
        let mut line = line(Ground::encrypted().await, 20).await;
        let mut config = line.ground.config.clone();
        if !can_read {
            config.identity_file = None;
        }
        let repository = Repository::open(&config).await.unwrap();
        let writer = line.writer_of(&repository, "agent");
        let first = line.try_backup(&writer).await.unwrap().header().clone();
        let index = line.ground.path("agent/known").join(first.name.as_str());
        let mut bytes = std::fs::read(&index).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&index, bytes).unwrap();
        let second = line.try_backup(&writer).await.unwrap().header().clone();
        assert_eq!(second.stored_bytes < MIB, can_read);
        line.comes_back(&second.name).await;
    }
}

#[derive(Debug)]
struct EverySixteenth;

impl PageCheck for EverySixteenth {
    fn concerns(&self, root: &str, path: &[u8]) -> bool {
        root == "data" && path.ends_with(b".ibd")
    }

    fn open(&self, file: &PageFile<'_>) -> Option<Box<dyn FilePages>> {
        assert_eq!(file.first.len(), FIRST_BYTES);
        Some(Box::new(EverySixteenth))
    }
}

impl FilePages for EverySixteenth {
    fn check(
        &self,
        offset: u64,
        chunk: &[u8],
        damaged: &mut dyn FnMut(u64, &dyn std::fmt::Display),
    ) -> PagesSeen {
        let first = offset / (16 << 10);
        let pages = first..first + chunk.len() as u64 / (16 << 10);
        let all = pages.clone().count() as u64;
        let not_checked = pages.clone().filter(|page| page % 16 == 1).count() as u64;
        pages
            .filter(|page| page % 16 == 0)
            .for_each(|page| damaged(page, &"its checksum does not fit"));
        PagesSeen {
            checked: all - not_checked,
            not_checked,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_pages_are_counted_and_the_first_of_them_named() {
    let mut line = line(Ground::encrypted().await, 8).await;
    line.page_check = Some(Arc::new(EverySixteenth));
    for _ in 0..2 {
        // Also where nothing is sent.
        let prepared = line.back_up("agent").await;
        assert_eq!(prepared.header().damaged_pages, 8 * 64 / 16);
        let seen = PagesSeen {
            checked: 8 * 60,
            not_checked: 8 * 4,
        };
        assert_eq!(prepared.pages_seen(), seen);
        let name = prepared.header().name.clone();
        let manifest = read_manifest(&line.ground.repository, &shard(), &name, None)
            .await
            .unwrap();
        let pages = manifest.damaged_pages;
        assert_eq!(pages, prepared.damaged_pages());
        assert_eq!(pages.len(), 32);
        assert_eq!(
            (pages[1].root.as_str(), pages[1].path.as_str()),
            ("data", "t.ibd")
        );
        assert_eq!(
            (pages[1].page, pages[1].what.as_str()),
            (16, "its checksum does not fit")
        );
    }
}
