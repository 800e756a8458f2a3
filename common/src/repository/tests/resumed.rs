//! Restores that find some of their bytes here already: in the directory that is replaced, or in
//! what a restore that was cut off has left.

use std::{os::unix::fs::MetadataExt, time::Duration};

use super::{
    round_trip::{Item, inventory},
    *,
};

const MIB: u64 = 1 << 20;

impl Ground {
    /// Over the directory that was backed up, which may have changed since.
    fn over_data(&self) -> Destination {
        Destination {
            old: Some(self.data()),
            ..Destination::fresh(self.path("restored"))
        }
    }

    fn resumed(&self) -> Destination {
        Destination {
            resume: true,
            ..Destination::fresh(self.path("restored"))
        }
    }

    /// Whatever is fetched from now on is damaged.
    fn garble_packs(&self) {
        for pack in self.packs() {
            let garbled: Vec<u8> = std::fs::read(&pack).unwrap().iter().map(|b| !b).collect();
            std::fs::write(&pack, garbled).unwrap();
        }
    }

    /// With what a backup brings back of it.
    fn kept(&self) -> BTreeMap<PathBuf, Item> {
        let mut kept = inventory(&self.data());
        for left_out in ["tmp", "tmp/x", "mysql-bin.000001", "mysql.sock"] {
            kept.remove(Path::new(left_out));
        }
        kept
    }
}

fn same(restored: &Path, expected: &BTreeMap<PathBuf, Item>) {
    let restored = inventory(restored);
    assert_eq!(
        restored.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (path, entry) in expected {
        assert!(restored[path] == *entry, "{} differs", path.display());
    }
}

/// Inverts the bytes of a file from `offset` on.
fn alter(file: &Path, offset: u64, bytes: usize) {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(file)
        .unwrap();
    let mut there = vec![0; bytes];
    file.read_exact_at(&mut there, offset).unwrap();
    let inverted: Vec<u8> = there.iter().map(|b| !b).collect();
    file.write_all_at(&inverted, offset).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_over_the_very_same_data_fetches_nothing() {
    let ground = Ground::encrypted().await;
    fill(&ground.data());
    ground.back_up().await;
    let expected = ground.kept();
    ground.garble_packs();
    let fetched = ground.restore_over(&ground.over_data()).await.unwrap();
    let manifest = ground.manifest().await.unwrap();
    assert_eq!((fetched.requests, fetched.requested_bytes), (0, 0));
    assert_eq!(fetched.copied_bytes, manifest.data_bytes("data"));
    same(&ground.path("restored"), &expected);
    for hole in ["sparse", "zeros"] {
        let blocks = ground.path("restored").join(hole).metadata().unwrap();
        assert!(blocks.blocks() * 512 <= 2 * MIB, "{hole} is not sparse");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_data_that_has_changed_only_the_changed_chunks_are_fetched() {
    let ground = Ground::new().await;
    fill(&ground.data());
    std::fs::write(ground.data().join("t.ibd"), noise(32 << 20)).unwrap();
    std::fs::write(ground.data().join("gone.ibd"), noise((2 << 20) + 7)).unwrap();
    ground.back_up().await;
    let expected = ground.kept();

    let data = ground.data();
    // Between 4 and 6 a gap of one chunk is fetched along.
    for chunk in [3, 4, 6, 20, 31] {
        alter(&data.join("t.ibd"), chunk * MIB + 77, 1);
    }
    std::fs::remove_file(data.join("gone.ibd")).unwrap();
    std::fs::remove_dir_all(data.join("a/b/c")).unwrap();
    // Shorter, longer, of another kind.
    let exactly = std::fs::File::options()
        .write(true)
        .open(data.join("exactly"));
    exactly.unwrap().set_len(MIB - 1).unwrap();
    let small = std::fs::File::options()
        .append(true)
        .open(data.join("small"));
    std::io::Write::write_all(&mut small.unwrap(), b"yz").unwrap();
    std::fs::remove_file(data.join("text")).unwrap();
    nix::unistd::mkfifo(&data.join("text"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    std::fs::write(data.join("new.ibd"), noise(100)).unwrap();

    let fetched = ground.restore_over(&ground.over_data()).await.unwrap();
    let text = "commerce ".repeat(300_000).len() as u64;
    let changed = 5 * MIB + (2 * MIB + 7) + 100 + MIB + text;
    assert_eq!(fetched.missing_bytes, changed, "{fetched:?}");
    // The text compresses well; a gap costs at most as much again as what is needed.
    assert!(fetched.requested_bytes < 2 * changed, "{fetched:?}");
    assert!(fetched.requests <= 8, "{fetched:?}");
    same(&ground.path("restored"), &expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_old_data_that_changes_while_it_is_read_does_no_harm() {
    let ground = Ground::new().await;
    std::fs::write(ground.data().join("t.ibd"), noise(24 << 20)).unwrap();
    ground.back_up().await;
    let old = ground.path("old");
    std::fs::create_dir(&old).unwrap();
    std::fs::copy(ground.data().join("t.ibd"), old.join("t.ibd")).unwrap();
    let ends = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (ends, file) = (ends.clone(), old.join("t.ibd"));
        move || {
            let mut at = 0;
            while !ends.load(std::sync::atomic::Ordering::Relaxed) {
                alter(&file, at % (24 * MIB - 100), 100);
                at += 7 * MIB + 4321;
            }
        }
    });
    let destination = Destination {
        old: Some(old),
        ..Destination::fresh(ground.path("restored"))
    };
    let fetched = ground.restore_over(&destination).await;
    ends.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    let fetched = fetched.unwrap();
    assert_eq!(fetched.copied_bytes + fetched.missing_bytes, 24 * MIB);
    same(&ground.path("restored"), &ground.kept());
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_a_restore_that_was_cut_off_fetches_only_the_rest() {
    let ground = Ground::encrypted().await;
    fill(&ground.data());
    std::fs::write(ground.data().join("t.ibd"), noise(32 << 20)).unwrap();
    ground.back_up().await;
    let manifest = ground.manifest().await.unwrap();
    let whole = manifest.data_bytes("data");
    let faults = &ground.repository.store().faults;
    faults.arm("repository.get", "slow");
    let (progress, cancel) = (Progress::new(), CancellationToken::new());
    let destinations = Destinations::from([("data".to_owned(), ground.resumed())]);
    let cut_off = restore(
        &ground.repository,
        &manifest,
        &destinations,
        1,
        &progress,
        &cancel,
    );
    let cutter = async {
        while progress.snapshot().bytes_done < 37 * MIB {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(cut_off, cutter);
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Cancelled);
    faults.arm("repository.get", "off");

    // Zeros count as done, and are in no pack.
    let done = progress.snapshot().bytes_done - 21 * MIB;
    let fetched = ground.restore_over(&ground.resumed()).await.unwrap();
    assert!(fetched.resumed_bytes + MIB > done, "{fetched:?} of {done}");
    assert_eq!(fetched.resumed_bytes + fetched.missing_bytes, whole);
    same(&ground.path("restored"), &ground.kept());
    // And when all of it is there.
    ground.garble_packs();
    let fetched = ground.restore_over(&ground.resumed()).await.unwrap();
    assert_eq!((fetched.resumed_bytes, fetched.requests), (whole, 0));
    same(&ground.path("restored"), &ground.kept());
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_whatever_was_done_to_what_was_left_the_backup_comes_back_as_it_was() {
    let ground = Ground::new().await;
    fill(&ground.data());
    std::fs::write(ground.data().join("t.ibd"), noise(10 << 20)).unwrap();
    std::fs::write(ground.data().join("same.ibd"), noise(MIB as usize + 1)).unwrap();
    ground.back_up().await;
    let left = ground.restore().await.unwrap();
    let outside = ground.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("precious"), b"rows").unwrap();

    // Altered, in data and in a hole; shortened; lengthened.
    alter(&left.join("t.ibd"), 5 * MIB + 1, 1);
    alter(&left.join("sparse"), 15 * MIB, 3);
    alter(&left.join("zeros"), MIB - 1, 2);
    let ibdata = std::fs::File::options()
        .write(true)
        .open(left.join("ibdata1"));
    ibdata.unwrap().set_len(2 * MIB + 5).unwrap();
    let small = std::fs::File::options()
        .write(true)
        .open(left.join("small"));
    small.unwrap().set_len(50 * MIB).unwrap();
    // Another name of a file that is not ours, and links that lead out.
    std::fs::remove_file(left.join("exactly")).unwrap();
    std::fs::hard_link(outside.join("precious"), left.join("exactly")).unwrap();
    std::fs::remove_dir_all(left.join("a/b/c")).unwrap();
    std::os::unix::fs::symlink(&outside, left.join("a/b/c")).unwrap();
    std::fs::remove_file(left.join("text")).unwrap();
    std::os::unix::fs::symlink(outside.join("precious"), left.join("text")).unwrap();
    std::fs::remove_file(left.join("a/link")).unwrap();
    std::os::unix::fs::symlink("elsewhere", left.join("a/link")).unwrap();
    // A file where a directory belongs, and the other way round.
    std::fs::remove_dir(left.join("a.empty")).unwrap();
    std::fs::write(left.join("a.empty"), b"x").unwrap();
    std::fs::remove_file(left.join("empty")).unwrap();
    std::fs::create_dir_all(left.join("empty/d")).unwrap();
    // What is none of it, before, between and behind what is.
    for stranger in ["!first", "a/b/t0005", "a/zzz", "m/n/o/p", "zzzz"] {
        let path = left.join(stranger);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"x").unwrap();
    }

    let fetched = ground.restore_over(&ground.resumed()).await.unwrap();
    same(&left, &ground.kept());
    let text = "commerce ".repeat(300_000).len() as u64;
    let lost = MIB + MIB + MIB + text + 100;
    assert_eq!(fetched.missing_bytes, lost, "{fetched:?}");
    assert_eq!(std::fs::read(outside.join("precious")).unwrap(), b"rows");
    assert_eq!(files_in(&outside).len(), 1);
    let blocks = left.join("sparse").metadata().unwrap().blocks();
    assert!(blocks * 512 <= 2 * MIB, "the hole was not made again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_without_entries_is_emptied_as_well() {
    let ground = Ground::new().await;
    std::fs::write(ground.data().join("a"), b"rows").unwrap();
    let mut source = ground.source();
    // Before and behind the one that has some.
    for (number, name) in [(0, "redo"), (2, "undo")] {
        let path = ground.path(name);
        std::fs::create_dir(&path).unwrap();
        let empty = SourceRoot {
            name: name.into(),
            path,
            exclude: vec![],
        };
        source.roots.insert(number, empty);
    }
    let prepared = ground.upload(&source).await.unwrap();
    prepared.put(&ground.repository).await.unwrap();
    let manifest = ground.manifest().await.unwrap();
    let destinations = ["redo", "data", "undo"].map(|root| {
        let directory = ground.path(&format!("restored-{root}"));
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("stranger"), b"x").unwrap();
        let resumed = Destination {
            resume: true,
            ..Destination::fresh(directory)
        };
        (root.to_owned(), resumed)
    });
    let (progress, never) = (Progress::new(), CancellationToken::new());
    restore(
        &ground.repository,
        &manifest,
        &destinations.into(),
        2,
        &progress,
        &never,
    )
    .await
    .unwrap();
    for empty in ["restored-redo", "restored-undo"] {
        assert!(files_in(&ground.path(empty)).is_empty(), "{empty}");
    }
    assert_eq!(files_in(&ground.path("restored-data")).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_the_restore_then_does_and_touches_nothing() {
    let ground = Ground::encrypted().await;
    fill(&ground.data());
    std::fs::write(ground.data().join("t.ibd"), noise(20 << 20)).unwrap();
    ground.back_up().await;
    let left = ground.restore().await.unwrap();
    std::fs::remove_file(left.join("ibdata1")).unwrap();
    alter(&left.join("t.ibd"), 5 * MIB, 1);
    alter(&left.join("t.ibd"), 9 * MIB, 1);
    alter(&ground.data().join("t.ibd"), 9 * MIB, 1);
    let destination = Destination {
        resume: true,
        ..ground.over_data()
    };
    let manifest = ground.manifest().await.unwrap();
    let destinations = Destinations::from([("data".to_owned(), destination.clone())]);
    let plan = async |limit: Duration| {
        let (progress, never) = (Progress::new(), CancellationToken::new());
        let plan = plan_restore(
            &ground.repository,
            &manifest,
            &destinations,
            3,
            limit,
            &progress,
            &never,
        );
        plan.await.unwrap()
    };
    let before = inventory(&left);
    let planned = plan(Duration::from_secs(60)).await;
    let hasty = plan(Duration::ZERO).await;
    assert!(inventory(&left) == before);
    assert!(!planned.is_upper_bound);
    assert_eq!(planned.data_bytes, manifest.data_bytes("data"));
    assert_eq!(planned.space.len(), 1);
    assert!(planned.space[0].there_bytes > 20 * MIB);
    assert!(planned.space[0].needed_bytes() < 10 * MIB);
    assert!(hasty.is_upper_bound);
    assert!(hasty.fetched.missing_bytes >= planned.fetched.missing_bytes);
    let done = ground.restore_over(&destination).await.unwrap();
    assert_eq!(planned.fetched, done);
    assert_eq!((done.missing_bytes, done.copied_bytes), (MIB, 4 * MIB));
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_a_damaged_pack_is_named_with_the_backup_that_needs_it() {
    let ground = Ground::new().await;
    std::fs::write(ground.data().join("t.ibd"), noise(3 << 20)).unwrap();
    ground.back_up().await;
    ground.garble_packs();
    let error = ground.restore().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let pack = ground.packs().remove(0);
    let pack = pack.file_name().unwrap().to_string_lossy();
    for named in [&*pack, name(0).as_str(), "t.ibd"] {
        assert!(error.message().contains(named), "{error} without {named}");
    }
}

/// Whatever kind of error the file system has for it: what was written before it is not to be trusted.
#[tokio::test(flavor = "multi_thread")]
async fn i6_a_disk_that_fails_is_told_apart_from_everything_else() {
    use std::sync::atomic::{AtomicBool, Ordering};

    let ground = Ground::new().await;
    fill(&ground.data());
    ground.back_up().await;
    let (restored, is_over) = (ground.path("restored"), AtomicBool::new(false));
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let _ = std::fs::remove_dir_all(&restored);
            }
        });
        let destination = Destination::fresh(restored.clone());
        let restoring = ground.restore_over(&destination);
        let ended =
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(restoring));
        is_over.store(true, Ordering::Relaxed);
        ended.unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    // Damage stays damage.
    ground.garble_packs();
    let fresh = Destination::fresh(ground.path("other"));
    let error = ground.restore_over(&fresh).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}
