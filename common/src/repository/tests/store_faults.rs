//! What a store does wrong, in every request, and a process that is killed between any two of them.

use super::*;

const POINTS: [&str; 5] = ["put", "get", "list", "look", "delete"];

async fn small(ground: Ground) -> Ground {
    std::fs::write(ground.data().join("t.ibd"), noise(3 << 20)).unwrap();
    std::fs::write(ground.data().join("u.ibd"), b"rows").unwrap();
    ground
}

fn hasty(_: &Path) -> RepositoryConfig {
    RepositoryConfig {
        request_timeout: "200ms".into(),
        retry_limit: "400ms".into(),
        ..RepositoryConfig::default()
    }
}

/// The same repository as a process of its own sees it, without the faults.
async fn anew(ground: &Ground) -> Ground {
    Ground {
        directory: tempfile::tempdir().unwrap(),
        config: ground.config.clone(),
        repository: Repository::open(&ground.config).await.unwrap(),
    }
}

async fn collect(repository: &Repository) -> Result<Collected> {
    let request = CollectionRequest {
        may_go: (0..10).map(name).collect(),
        ..CollectionRequest::default()
    };
    let all = BatchLimits {
        objects: usize::MAX,
        bytes: u64::MAX,
    };
    repository.collect(&shard(), &request, all).await
}

/// A backup that is complete restores; whatever is left, the shard can be backed up again.
async fn i2_holds(ground: &Ground, complete_allowed: bool) {
    let other = anew(ground).await;
    if other.manifest().await.is_ok() {
        assert!(complete_allowed, "a backup that failed is complete");
        let target = other.restore().await.unwrap();
        let original = std::fs::read(ground.data().join("t.ibd")).unwrap();
        assert_eq!(std::fs::read(target.join("t.ibd")).unwrap(), original);
    }
    let repository = &other.repository;
    repository.abandon(&shard(), &name(0), "why").await.unwrap();
    collect(repository).await.unwrap();
    assert!(other.manifest().await.is_err());
    let mut source = ground.source();
    source.name = name(1);
    let prepared = other.upload(&source).await.unwrap();
    prepared.put(repository).await.unwrap();
}

async fn attempt(ground: &Ground) -> Result<()> {
    let prepared = ground.upload(&ground.source()).await?;
    prepared.put(&ground.repository).await
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_when_every_request_fails_twice_everything_is_done_all_the_same() {
    let ground = small(Ground::encrypted().await).await;
    let faults = &ground.repository.store().faults;
    for point in POINTS {
        faults.arm(&format!("repository.{point}"), "fail-twice");
    }
    attempt(&ground).await.unwrap();
    ground.restore().await.unwrap();
    let repository = &ground.repository;
    repository.abandon(&shard(), &name(0), "why").await.unwrap();
    let swept = collect(repository).await.unwrap();
    assert!(swept.objects >= 4, "{swept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_a_request_that_hangs_fails_the_backup_in_time_and_no_other() {
    for point in ["put", "list", "look"] {
        let ground = small(Ground::with(hasty).await).await;
        let faults = &ground.repository.store().faults;
        faults.arm(&format!("repository.{point}"), "hang");
        let error = attempt(&ground).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{point}: {error}");
        i2_holds(&ground, false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_a_store_that_loses_what_it_acknowledged_completes_no_backup() {
    let ground = small(Ground::with(hasty).await).await;
    let faults = &ground.repository.store().faults;
    faults.arm("repository.put", "lose-object");
    let error = attempt(&ground).await.unwrap_err();
    assert!(error.message().contains("cannot be found"), "{error}");
    i2_holds(&ground, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_bytes_of_another_object_are_noticed_before_a_file_has_them() {
    let ground = small(Ground::encrypted().await).await;
    attempt(&ground).await.unwrap();
    let faults = &ground.repository.store().faults;
    faults.arm("repository.get", "exchange");
    let outcome = match ground.manifest().await {
        Ok(_) => ground.restore().await,
        Err(e) => Err(e),
    };
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    faults.arm("repository.get", "off");
    i2_holds(&ground, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_a_process_may_be_killed_between_any_two_requests_of_a_backup() {
    const REQUESTS_MAX: u32 = 100;
    for requests in 0..REQUESTS_MAX {
        let ground = small(Ground::encrypted().await).await;
        ground.repository.store().faults.die_after(requests);
        let outcome = attempt(&ground).await;
        // The last look comes behind the manifest: the backup is complete by then.
        i2_holds(&ground, true).await;
        if outcome.is_ok() {
            assert!(requests > 5, "{requests}");
            return;
        }
    }
    panic!("a small backup takes more than {REQUESTS_MAX} requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_a_process_may_be_killed_between_any_two_requests_of_a_removal() {
    for requests in 0.. {
        let ground = small(Ground::encrypted().await).await;
        attempt(&ground).await.unwrap();
        ground.repository.store().faults.die_after(requests);
        let repository = &ground.repository;
        let abandoned = repository.abandon(&shard(), &name(0), "why").await;
        let swept = match abandoned {
            Ok(()) => collect(repository).await,
            Err(e) => Err(e),
        };
        i2_holds(&ground, true).await;
        if swept.is_ok() {
            assert!(requests > 5, "{requests}");
            return;
        }
    }
}
