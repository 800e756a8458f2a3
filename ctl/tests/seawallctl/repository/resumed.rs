//! `seawallctl repository restore`: cut off and gone on with, and backups that hold damaged pages.

use std::{
    fmt::Display,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use seawall_common::repository::{FilePages, PageCheck, PageFile, PagesSeen, WriterKey};

use super::{Ground, NOBODY, name};
use crate::fake::{run, seawallctl};

const PATIENCE: Duration = Duration::from_secs(60);
const BYTES: usize = 160 << 20;

/// Bytes that neither compress nor repeat.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(count / 8).flatten().collect()
}

#[tokio::test]
async fn a_restore_that_was_killed_goes_on_and_fetches_only_what_is_missing() {
    let ground = Ground::new(false).await;
    let whole = noise(BYTES);
    std::fs::write(ground.path("data/commerce/t.ibd"), &whole).unwrap();
    ground.back_up_as_it_is(1, None).await;
    let (target, left) = (ground.path("t"), ground.path("t.seawall-restore"));
    let url = ground.repository.url().to_owned();
    let shown = target.display().to_string();
    let mut args = vec!["repository", "restore", "commerce/0", "--repository", &url];
    args.extend(["--target", &shown, "--concurrency", "1", "-o", "json"]);

    let mut child = seawallctl(NOBODY, &args).spawn().unwrap();
    wait_for_bytes(&left.join("data/commerce/t.ibd")).await;
    child.start_kill().unwrap();
    child.wait().await.unwrap();
    assert!(!target.exists(), "it was over before it was killed");

    ground.back_up(2).await;
    let other = run(NOBODY, &args).await;
    assert!(other.failure(1).contains("another backup"), "{other:?}");

    let of = name(1);
    args.insert(3, of.as_str());
    let done = run(NOBODY, &args).await.json();
    let [resumed, missing] = ["resumed_bytes", "missing_bytes"].map(|n| done[n].as_u64().unwrap());
    eprintln!("here already: {resumed} bytes, fetched: {missing} bytes");
    let redo = b"redo".len() as u64;
    assert!(resumed > 0, "everything was fetched again: {done:#}");
    assert_eq!(resumed + missing, BYTES as u64 + redo);
    assert!(std::fs::read(target.join("data/commerce/t.ibd")).unwrap() == whole);
    let beside = |path: PathBuf| path.exists();
    assert!(!beside(left) && !beside(ground.path("t.seawall-restore.json")));
}

/// Some chunks are there: a file has all of its blocks from the beginning, so these say nothing.
async fn wait_for_bytes(path: &Path) {
    const CHUNK: u64 = 1 << 20;
    let begun = Instant::now();
    let is_there = |file: &std::fs::File, number: u64| {
        let mut start = [0; 8];
        let read = file.read_at(&mut start, number * CHUNK);
        read.is_ok_and(|count| count == 8) && start != [0; 8]
    };
    let written = || {
        let file = std::fs::File::open(path).ok()?;
        Some(
            (0..BYTES as u64 / CHUNK)
                .filter(|number| is_there(&file, *number))
                .count(),
        )
    };
    while written().unwrap_or(0) < 4 {
        assert!(begun.elapsed() < PATIENCE, "nothing was written");
        tokio::task::yield_now().await;
    }
}

#[derive(Debug)]
struct FirstPage;

impl PageCheck for FirstPage {
    fn concerns(&self, _: &str, path: &[u8]) -> bool {
        path.ends_with(b".ibd")
    }

    fn open(&self, _: &PageFile<'_>) -> Option<Box<dyn FilePages>> {
        Some(Box::new(FirstPage))
    }
}

impl FilePages for FirstPage {
    fn check(&self, _: u64, _: &[u8], damaged: &mut dyn FnMut(u64, &dyn Display)) -> PagesSeen {
        damaged(7, &"its checksum does not fit");
        PagesSeen::default()
    }
}

#[tokio::test]
async fn a_backup_with_damaged_pages_is_passed_over_and_told_of_aloud_when_it_is_named() {
    let ground = Ground::new(false).await;
    let restore = async |more: &[&str], target: &str| {
        let target = ground.path(target).display().to_string();
        let mut args = vec!["restore", "commerce/0"];
        args.extend(more);
        args.extend(["--target", &target, "-o", "json"]);
        ground.run(&args).await
    };
    ground.back_up(2).await;
    ground.back_up_as_it_is(3, Some(Arc::new(FirstPage))).await;
    let (whole, damaged) = (name(2), name(3));
    let chosen = restore(&[], "a").await;
    assert!(chosen.stderr.contains("passed over"), "{chosen:?}");
    assert!(chosen.stderr.contains(damaged.as_str()), "{chosen:?}");
    assert!(!chosen.stderr.contains("WARNING"), "{chosen:?}");
    let chosen = chosen.json();
    assert_eq!(
        (&chosen["name"], &chosen["damaged_pages"]),
        (&whole.as_str().into(), &0.into())
    );

    let named = restore(&[damaged.as_str()], "b").await;
    let says = "WARNING: backup NAME holds 1 page that was damaged in the database when it was copied, \
                the first of them page 7 of data/commerce/t.ibd: its checksum does not fit";
    let says = says.replace("NAME", damaged.as_str());
    assert!(named.stderr.contains(&says), "{named:?}");
    assert_eq!(named.json()["damaged_pages"], 1);

    let shard = "commerce/0".parse().unwrap();
    ground
        .repository
        .abandon(&shard, &whole, "old")
        .await
        .unwrap();
    let only = restore(&[], "c").await;
    assert!(only.stderr.contains("WARNING"), "{only:?}");
    assert_eq!(only.json()["name"], damaged.as_str());
}

#[tokio::test]
async fn a_backup_that_is_both_damaged_and_of_a_stranger_is_told_of_once() {
    let ground = Ground::new(false).await;
    let writer = WriterKey::generate().unwrap();
    ground.back_up(1).await;
    ground.back_up_by(Some(writer.clone()), 2, None).await;
    ground.back_up_as_it_is(3, Some(Arc::new(FirstPage))).await;
    let (key, target) = (
        writer.public().to_string(),
        ground.path("a").display().to_string(),
    );
    let mut args = vec!["restore", "commerce/0", "--target", &target, "-o", "json"];
    args.extend(["--repository-trusted-writers", &key]);
    let chosen = ground.run(&args).await;
    let told = chosen.stderr.matches(name(3).as_str()).count();
    assert_eq!(told, 1, "{chosen:?}");
    assert_eq!(chosen.json()["name"], name(2).as_str());
}
