//! What removed backups have left is deleted, and nothing that anybody needs (I5).

use uuid::Uuid;

use super::{
    shard::{ALL, Shard},
    *,
};

/// Backup 0, and 1 and 2 which need its packs; 0 is removed.
async fn borrowed() -> Shard {
    let mut shard = Shard::encrypted().await;
    shard.back_up(0).await;
    shard.borrow(1, 0).await;
    shard.borrow(2, 1).await;
    shard.remove(0).await;
    shard
}

fn one() -> BatchLimits {
    BatchLimits { objects: 1, ..ALL }
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_packs_and_keys_of_a_removed_backup_stay_until_the_last_that_needs_them_has_gone() {
    let mut ground = borrowed().await;
    let plan = ground.plan().await.unwrap();
    let planned = &plan[&name(0)];
    assert_eq!(plan.len(), 1);
    assert_eq!(planned.objects, 3, "manifest and two parts");
    assert_eq!(planned.staying_objects, 2, "a pack and its key");
    assert!(planned.staying_bytes > 1 << 20);
    assert_eq!(planned.needed_by, [name(1), name(2)].into());

    let collected = ground.collect().await.unwrap();
    assert_eq!(collected.objects, planned.objects);
    assert_eq!(collected.bytes, planned.bytes);
    assert_eq!(ground.objects_of(0, "packs").len(), 2);
    assert_eq!(ground.restore(2).await.unwrap(), Shard::contents(0));

    ground.remove(1).await;
    ground.collect().await.unwrap();
    assert_eq!(ground.objects_of(0, "packs").len(), 2);
    assert_eq!(ground.restore(2).await.unwrap(), Shard::contents(0));

    ground.remove(2).await;
    ground.collect().await.unwrap();
    assert_eq!(ground.collect().await.unwrap(), Collected::default());
    let mut marks: Vec<_> = (0..3)
        .map(|n| format!("keyspaces/commerce/0/backups/{}/removed", name(n)))
        .collect();
    marks.sort();
    let mut left = ground.objects();
    left.retain(|key| key != "seawall.json" && !key.starts_with("recipients/"));
    assert_eq!(left, marks);
    assert_eq!(ground.plan().await.unwrap(), BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_pack_is_gone_when_nobody_needs_it_and_it_is_not_there() {
    let mut ground = borrowed().await;
    let mut packs = ground.objects_of(0, "packs");
    packs.retain(|key| !key.contains("/keys/"));
    let id: Uuid = packs[0].rsplit('/').next().unwrap().parse().unwrap();
    // It is not there, and it was never heard of.
    std::fs::remove_file(ground.file(&packs[0])).unwrap();
    let unheard = Uuid::new_v4();
    ground.request.damaged = [id, unheard].into();
    assert_eq!(
        ground.collect().await.unwrap().damaged_gone,
        [unheard].into()
    );

    ground.remove(1).await;
    ground.remove(2).await;
    ground.request.keep = [name(2)].into();
    let gone = ground.collect().await.unwrap().damaged_gone;
    assert_eq!(
        gone,
        [unheard].into(),
        "somebody may be reading the kept one"
    );

    ground.request.keep.clear();
    let batch = ground.collect_batch(one()).await.unwrap();
    assert_eq!((batch.more, batch.damaged_gone), (true, [].into()));
    assert_eq!(
        ground.collect().await.unwrap().damaged_gone,
        [id, unheard].into()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_pack_of_a_kept_backup_is_not_gone() {
    let mut ground = Shard::encrypted().await;
    ground.back_up(0).await;
    let packs = ground.objects_of(0, "packs");
    let ids = packs
        .iter()
        .filter_map(|key| key.rsplit('/').next()?.parse().ok());
    ground.request.damaged = ids.collect();
    assert_eq!(ground.request.damaged.len(), 1);
    // What cannot be read protects what lies under its name all the same.
    let manifest = ground
        .objects_of(0, "backups")
        .into_iter()
        .find(|key| key.ends_with("manifest"));
    std::fs::remove_file(ground.file(&manifest.unwrap())).unwrap();
    ground.remove(0).await;
    ground.request.keep = [name(0)].into();
    assert_eq!(ground.collect().await.unwrap().damaged_gone, [].into());
    ground.request.keep.clear();
    assert_eq!(
        ground.collect().await.unwrap().damaged_gone,
        ground.request.damaged
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_the_manifest_goes_first_and_the_keys_go_last() {
    let mut ground = Shard::encrypted().await;
    ground.back_up(0).await;
    ground.remove(0).await;
    let left = |ground: &Shard| {
        let has = |kind: &str, end: &str| {
            let objects = ground.objects_of(0, kind);
            objects.iter().any(|key| key.contains(end))
        };
        let packs = ground.objects_of(0, "packs");
        let pack = packs.iter().any(|key| !key.contains("/keys/"));
        (
            has("backups", "/manifest"),
            has("backups", "/parts/"),
            pack,
            has("packs", "/keys/"),
        )
    };
    let mut seen = vec![left(&ground)];
    loop {
        let batch = ground.collect_batch(one()).await.unwrap();
        if batch.objects == 0 {
            break;
        }
        assert_eq!(batch.objects, 1);
        seen.push(left(&ground));
    }
    seen.dedup();
    assert_eq!(
        seen,
        [
            (true, true, true, true),
            (false, true, true, true),
            (false, false, true, true),
            (false, false, false, true),
            (false, false, false, false),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_each_batch_is_planned_anew() {
    let mut ground = Shard::encrypted().await;
    ground.back_up(0).await;
    ground.back_up(1).await;
    ground.remove(1).await;
    assert!(ground.collect_batch(one()).await.unwrap().more);
    // A backup ends between two batches, and what it needs is removed after it.
    ground.borrow(2, 0).await;
    ground.remove(0).await;
    assert!(!ground.collect_batch(ALL).await.unwrap().more);
    assert_eq!(ground.restore(2).await.unwrap(), Shard::contents(0));
    assert_eq!(ground.objects_of(0, "backups").len(), 1, "its mark");
    assert_eq!(ground.objects_of(1, "packs"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_what_is_kept_or_was_marked_of_late_stays_with_all_that_it_needs() {
    let mut ground = borrowed().await;
    for number in [1, 2] {
        ground.remove(number).await;
    }
    let before = ground.objects();
    ground.request.keep = [name(0), name(1), name(2)].into();
    assert_eq!(ground.collect().await.unwrap(), Collected::default());
    let plan = ground.plan().await.unwrap();
    assert!(plan.values().all(|left| left.is_kept && left.objects == 0));
    assert_eq!(ground.objects(), before);

    ground.request.keep.clear();
    ground.request.may_go.clear();
    let collected = ground.collect().await.unwrap();
    assert_eq!(collected.objects, 0);
    assert_eq!(collected.too_young, [name(0), name(1), name(2)].into());
    assert_eq!(ground.objects(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_what_a_kept_backup_needs_of_others_stays_though_their_time_has_come() {
    let mut ground = borrowed().await;
    for number in [1, 2] {
        ground.remove(number).await;
    }
    ground.request.keep = [name(2)].into();
    ground.collect().await.unwrap();
    assert_eq!(ground.objects_of(0, "packs").len(), 2, "a pack and its key");
    assert_eq!(ground.objects_of(0, "backups").len(), 1, "the mark");
    assert_eq!(ground.objects_of(1, "packs"), [""; 0]);
    ground.request.keep.clear();
    ground.collect().await.unwrap();
    assert_eq!(ground.objects_of(0, "packs"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_a_mark_lets_nothing_go_by_what_it_says_itself() {
    let mut ground = Shard::encrypted().await;
    let old = format!(
        r#"{{"version": 2, "name": "{}", "reason": "", "removed_unix_ms": 0}}"#,
        name(1)
    );
    for (number, mark) in [(0, String::new()), (1, old)] {
        ground.back_up(number).await;
        let key = layout::removed(&shard(), &name(number));
        let store = ground.ground.repository.store();
        store.put_if_absent(&key, mark.into()).await.unwrap();
    }
    // The one is known as a backup that exists, the other to nobody.
    ground.request.may_go.clear();
    ground.request.expected.remove(&name(1));
    let before = ground.objects();
    let collected = ground.collect().await.unwrap();
    assert_eq!(collected.objects, 0);
    assert_eq!(collected.too_young, [name(1)].into());
    assert_eq!(ground.objects(), before);

    ground.request.may_go.insert(name(1));
    ground.collect().await.unwrap();
    assert_eq!(ground.objects_of(1, "packs"), [""; 0]);
    assert_eq!(ground.objects_of(0, "packs").len(), 2, "a pack and its key");
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_nothing_of_a_backup_that_is_neither_complete_nor_given_up_is_touched() {
    let mut ground = borrowed().await;
    let prepared = ground.begin(3).await;
    let before = ground.objects();
    let error = ground.collect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.message().contains(name(3).as_str()), "{error}");
    assert_eq!(ground.objects(), before);

    // A writer that was given up and comes too late changes nothing any more.
    ground.remove(3).await;
    let late = prepared.put(&ground.ground.repository).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Fenced);
    ground.collect().await.unwrap();
    assert_eq!(ground.objects_of(3, "packs"), [""; 0]);
    assert_eq!(ground.restore(1).await.unwrap(), Shard::contents(0));
}

/// Does something to an object of backup 1 that the collector goes by, or to the catalogue.
type Harm = Box<dyn Fn(&mut Shard)>;

#[tokio::test(flavor = "multi_thread")]
async fn i5_one_manifest_that_cannot_be_believed_stops_the_collector() {
    let manifest = |shard: &Shard| {
        let objects = shard.objects_of(1, "backups");
        let key = objects.iter().find(|key| key.ends_with("/manifest"));
        shard.file(key.unwrap())
    };
    let flip = |file: &Path, at: usize| {
        let mut bytes = std::fs::read(file).unwrap();
        bytes[at] ^= 1;
        std::fs::write(file, bytes).unwrap();
    };
    let harms: Vec<(&str, Harm)> = vec![
        ("its prefix", Box::new(move |s| flip(&manifest(s), 20))),
        ("its header", Box::new(move |s| flip(&manifest(s), 100))),
        (
            "its end",
            Box::new(move |s| {
                let bytes = std::fs::read(manifest(s)).unwrap();
                std::fs::write(manifest(s), &bytes[..bytes.len() - 1]).unwrap();
            }),
        ),
        (
            "it is missing",
            Box::new(move |s| std::fs::remove_file(manifest(s)).unwrap()),
        ),
        (
            "another's",
            Box::new(move |s| {
                let other = s.objects_of(2, "backups");
                let other = other.iter().find(|key| key.ends_with("/manifest")).unwrap();
                std::fs::copy(s.file(other), manifest(s)).map(drop).unwrap();
            }),
        ),
        (
            "its hash",
            Box::new(|s| drop(s.request.expected.insert(name(1), "ab".repeat(32)))),
        ),
        (
            "its hash is unknown",
            Box::new(|s| drop(s.request.expected.insert(name(1), String::new()))),
        ),
        (
            "nobody announced it",
            Box::new(|s| drop(s.request.expected.remove(&name(1)))),
        ),
        ("its pack list", Box::new(move |s| flip(&parts(s)[1], 100))),
        (
            "its pack list's end",
            Box::new(move |s| {
                let bytes = std::fs::read(&parts(s)[1]).unwrap();
                std::fs::write(&parts(s)[1], &bytes[..bytes.len() - 54]).unwrap();
            }),
        ),
        (
            "its pack list is missing",
            Box::new(move |s| std::fs::remove_file(&parts(s)[1]).unwrap()),
        ),
    ];
    for (what, harm) in harms {
        let mut ground = borrowed().await;
        harm(&mut ground);
        let before = ground.objects();
        let error = ground.collect().await.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
        assert!(
            error.message().contains(name(1).as_str()),
            "{what}: {error}"
        );
        assert_eq!(ground.plan().await.unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(ground.objects(), before, "{what}");

        // What is removed is not believed, and stops nobody.
        ground.remove(1).await;
        ground.collect().await.expect(what);
        assert_eq!(
            ground.restore(2).await.unwrap(),
            Shard::contents(0),
            "{what}"
        );
    }
}

/// The parts of backup 1: the list, then the pack list.
fn parts(shard: &Shard) -> Vec<PathBuf> {
    let objects = shard.objects_of(1, "backups");
    let parts = objects.iter().filter(|key| key.contains("/parts/"));
    parts.map(|key| shard.file(key)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_a_listing_that_is_cut_short_costs_nobody_anything() {
    let mut ground = borrowed().await;
    ground.borrow(3, 1).await;
    ground.remove(1).await;
    let faults = &ground.ground.repository.store().faults;
    for action in ["half", "none"] {
        faults.arm("repository.list", action);
        drop(ground.collect().await);
        faults.arm("repository.list", "off");
        for number in [2, 3] {
            let restored = ground.restore(number).await;
            assert_eq!(restored.unwrap(), Shard::contents(0), "{action}");
        }
    }
    ground.collect().await.unwrap();
    assert_eq!(ground.objects_of(1, "packs"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_an_empty_mount_point_is_not_collected_in() {
    let ground = borrowed().await;
    let (there, gone) = (ground.ground.path("repository"), ground.ground.path("gone"));
    std::fs::rename(&there, &gone).unwrap();
    std::fs::create_dir(&there).unwrap();
    let error = ground.collect().await.unwrap_err();
    // All manifests are missing there.
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(std::fs::read_dir(&there).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_in_mid_collection_leaves_nothing_wrong() {
    let mut ground = borrowed().await;
    ground.back_up(3).await;
    ground.remove(3).await;
    let faults = &ground.ground.repository.store().faults;
    faults.arm("repository.delete", "fail-once");
    ground.collect().await.unwrap();
    faults.arm("repository.delete", "off");
    assert_eq!(ground.collect().await.unwrap(), Collected::default());
    assert_eq!(ground.restore(1).await.unwrap(), Shard::contents(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_nothing_is_deleted_through_a_symbolic_link() {
    let ground = borrowed().await;
    let outside = ground.ground.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("precious"), b"rows").unwrap();
    let link = ground.ground.objects("packs").join("link");
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    let error = ground.collect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(outside.join("precious").exists());
    std::fs::remove_file(link).unwrap();
    ground.collect().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_writer_left_half_written_goes_with_the_rest() {
    let mut ground = Shard::encrypted().await;
    ground.back_up(0).await;
    std::fs::write(ground.ground.objects("packs").join("0123#1"), b"half").unwrap();
    ground.remove(0).await;
    ground.collect().await.unwrap();
    assert!(!ground.ground.objects("packs").exists());
    let found = ground.ground.repository.scan(&shard()).await.unwrap();
    assert!(matches!(found[0].state, StoredState::Removed { .. }));
}
