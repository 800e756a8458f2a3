//! A store that fails, stalls, or answers and is not heard.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{super::layout, *};

async fn small(ground: Ground) -> Ground {
    std::fs::write(ground.data().join("t.ibd"), noise(3 << 20)).unwrap();
    std::fs::write(ground.data().join("u.ibd"), b"rows").unwrap();
    ground
}

fn hasty(directory: &Path) -> RepositoryConfig {
    let _ = directory;
    RepositoryConfig {
        request_timeout: "300ms".into(),
        retry_limit: "1s".into(),
        ..RepositoryConfig::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_a_store_whose_every_put_and_get_fails_once_does_no_harm() {
    let ground = small(Ground::encrypted().await).await;
    let faults = &ground.repository.store().faults;
    faults.arm("repository.put", "fail-once");
    faults.arm("repository.get", "fail-once");
    ground.back_up().await;
    let target = ground.restore().await.unwrap();
    assert_eq!(std::fs::read(target.join("u.ibd")).unwrap(), b"rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_a_put_whose_answer_was_lost_is_recognised_as_done() {
    let ground = small(Ground::encrypted().await).await;
    let faults = &ground.repository.store().faults;
    faults.arm("repository.put", "lose-answer-once");
    let prepared = ground.back_up().await;
    ground.restore().await.unwrap();
    // And once more: what is there already is what we put.
    prepared.put(&ground.repository).await.unwrap();
    ground
        .repository
        .abandon(&shard(), &name(1), "why")
        .await
        .unwrap();
    let owner = ground.repository.claim("group-1", false).await.unwrap();
    assert_eq!(owner.number, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_what_a_put_finds_there_already_is_not_believed_to_last() {
    let ground = Ground::new().await;
    let (store, key) = (ground.repository.store(), layout::epoch(&shard(), 1));
    let put = || store.put_create(&key, Bytes::from_static(b"one"));
    let abandon = async || ground.repository.abandon(&shard(), &name(1), "why").await;
    store.faults.arm("repository.sync", "fail");
    // A put of one's own is synced by the store.
    put().await.unwrap();
    abandon().await.unwrap();
    for error in [put().await.unwrap_err(), abandon().await.unwrap_err()] {
        assert!(error.message().contains("repository.sync"), "{error}");
    }
    store.faults.arm("repository.sync", "off");
    put().await.unwrap();
    abandon().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_nothing_is_overwritten() {
    let ground = Ground::new().await;
    let store = ground.repository.store();
    let key = layout::removed(&shard(), &name(0));
    store
        .put_create(&key, Bytes::from_static(b"one"))
        .await
        .unwrap();
    store
        .put_create(&key, Bytes::from_static(b"one"))
        .await
        .unwrap();
    for other in [&b"two"[..], b"on", b"longer"] {
        let error = store
            .put_create(&key, Bytes::from_static(other))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    assert_eq!(store.get(&key, 100).await.unwrap(), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_for_ever_fails_within_its_limit() {
    let ground = small(Ground::with(hasty).await).await;
    let faults = &ground.repository.store().faults;
    faults.arm("repository.put", "fail");
    let begun = Instant::now();
    let error = ground.upload(&ground.source()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("given up after 1s"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));

    faults.arm("repository.put", "off");
    let mut source = ground.source();
    source.name = name(1);
    let prepared = ground.upload(&source).await.unwrap();
    prepared.put(&ground.repository).await.unwrap();
    faults.arm("repository.get", "fail");
    let manifest = read_manifest(&ground.repository, &shard(), &name(1), None).await;
    assert_eq!(manifest.unwrap_err().kind(), ErrorKind::Unavailable);
    // Not to be taken for "no backup".
    assert!(ground.repository.scan(&shard()).await.is_err());
}

#[tokio::test]
async fn a_request_without_an_answer_ends_in_its_time() {
    let ground = Ground::with(hasty).await;
    let store = ground.repository.store();
    store.faults.arm("repository.get", "hang");
    let begun = Instant::now();
    let error = store.get(&layout::header(), 1 << 20).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_transfer_ends_as_cancelled() {
    let ground = Ground::new().await;
    std::fs::write(ground.data().join("t.ibd"), noise(40 << 20)).unwrap();
    ground
        .repository
        .store()
        .faults
        .arm("repository.put", "slow");
    let cancel = CancellationToken::new();
    let (source, progress) = (ground.source(), Progress::new());
    let transfer = upload(&ground.repository, &source, 2, &progress, &cancel);
    let canceller = async {
        while progress.snapshot().bytes_done == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(transfer, canceller);
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Cancelled);

    let mut source = ground.source();
    source.name = name(1);
    let prepared = ground.upload(&source).await.unwrap();
    prepared.put(&ground.repository).await.unwrap();
    let manifest = read_manifest(&ground.repository, &shard(), &name(1), None)
        .await
        .unwrap();
    let targets = BTreeMap::from([("data".to_owned(), ground.path("r"))]);
    let ended = download(
        &ground.repository,
        &manifest,
        &targets,
        2,
        &progress,
        &cancel,
    )
    .await;
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Cancelled);
}

/// An empty directory where the repository was: its file system is not mounted any more.
#[tokio::test(flavor = "multi_thread")]
async fn i5_an_empty_mount_point_is_not_taken_for_a_repository_without_backups() {
    let ground = small(Ground::new().await).await;
    ground.back_up().await;
    ground.repository.claim("group-1", false).await.unwrap();
    let (there, gone) = (ground.path("repository"), ground.path("gone"));
    std::fs::rename(&there, &gone).unwrap();
    std::fs::create_dir(&there).unwrap();
    let repository = &ground.repository;
    let errors = [
        repository.scan(&shard()).await.unwrap_err(),
        repository.shards().await.unwrap_err(),
        repository.newest_epoch(&shard()).await.unwrap_err(),
        repository.claim("group-1", true).await.unwrap_err(),
        repository.check_owner("group-1").await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("mounted"), "{error}");
    }
    assert_eq!(std::fs::read_dir(&there).unwrap().count(), 0);
    std::fs::remove_dir(&there).unwrap();
    std::fs::rename(&gone, &there).unwrap();
    assert_eq!(repository.scan(&shard()).await.unwrap().len(), 1);
}
