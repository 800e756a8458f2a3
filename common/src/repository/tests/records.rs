//! Header, owner, epochs, marks: who may write, what there is, what goes.

use super::*;

#[tokio::test]
async fn a_missing_repository_is_not_an_empty_one() {
    let directory = tempfile::tempdir().unwrap();
    for path in [
        directory.path().join("nowhere"),
        directory.path().to_owned(),
    ] {
        let config = RepositoryConfig::at(format!("file://{}", path.display()));
        let error = Repository::open(&config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(
            error.message().contains("there is no repository at"),
            "{error}"
        );
    }
    let file = directory.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let config = RepositoryConfig::at(format!("file://{}", file.display()));
    assert_eq!(
        Repository::open(&config).await.unwrap_err().kind(),
        ErrorKind::Invalid
    );
}

#[tokio::test]
async fn a_repository_keeps_its_id_and_a_strange_header_is_refused() {
    let ground = Ground::new().await;
    let again = Repository::create_or_open(&ground.config).await.unwrap();
    assert_eq!(again.id(), ground.repository.id());
    let opened = Repository::open(&ground.config).await.unwrap();
    assert_eq!(opened.id(), ground.repository.id());
    let header = ground.path("repository/seawall.json");
    let text = std::fs::read_to_string(&header).unwrap();
    for (altered, kind) in [
        (
            text.replace("\"version\": 2", "\"version\": 3"),
            ErrorKind::Refused,
        ),
        (
            text.replace("seawall repository", "other"),
            ErrorKind::Corrupt,
        ),
        (text.replace("1048576", "4096"), ErrorKind::Corrupt),
        (text[..20].to_owned(), ErrorKind::Corrupt),
    ] {
        std::fs::write(&header, altered).unwrap();
        let error = Repository::open(&ground.config).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[tokio::test]
async fn another_format_version_is_refused_with_what_to_do() {
    let ground = Ground::new().await;
    let header = ground.path("repository/seawall.json");
    let text = std::fs::read_to_string(&header).unwrap();
    for (version, hint) in [(1, "before the first release"), (3, "newer Seawall")] {
        let altered = text.replace("\"version\": 2", &format!("\"version\": {version}"));
        std::fs::write(&header, altered).unwrap();
        let error = Repository::open(&ground.config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(
            error.message().contains(&format!("version {version}")),
            "{error}"
        );
        assert!(error.to_string().contains(hint), "{error}");
    }
}

#[tokio::test]
async fn malformed_recipients_are_named_but_no_private_key_is_shown() {
    let ground = Ground::new().await;
    let open = async |recipient: &str| {
        let config = RepositoryConfig {
            recipients: vec![recipient.to_owned()],
            ..ground.config.clone()
        };
        Repository::open(&config).await
    };
    let error = open("age1nonsense").await.unwrap_err();
    assert!(error.message().contains("age1nonsense"), "{error}");
    let identity = generate_identity();
    let secret = identity.file.lines().last().unwrap();
    let error = open(secret).await.unwrap_err();
    assert!(!error.to_string().contains(secret), "{error}");
    assert!(open("ssh-ed25519 AAAA").await.is_err());
    assert!(open(&identity.recipient).await.unwrap().is_encrypting());
}

#[tokio::test]
async fn i5_a_second_group_reads_and_does_not_write_until_it_takes_over() {
    let ground = Ground::new().await;
    let repository = &ground.repository;
    assert_eq!(repository.owner().await.unwrap(), None);
    assert_eq!(
        repository.check_owner("a").await.unwrap_err().kind(),
        ErrorKind::Refused
    );
    let first = repository.claim("a", false).await.unwrap();
    assert_eq!(repository.claim("a", false).await.unwrap(), first);
    repository.check_owner("a").await.unwrap();
    let error = repository.claim("b", false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.message().contains("group a"), "{error}");
    let second = repository.claim("b", true).await.unwrap();
    assert_eq!(second.number, 2);
    repository.check_owner("b").await.unwrap();
    assert_eq!(
        repository.check_owner("a").await.unwrap_err().kind(),
        ErrorKind::Refused
    );
}

#[tokio::test]
async fn i4_an_epoch_is_recorded_once() {
    let ground = Ground::new().await;
    let record = EpochRecord {
        number: 2,
        alias: "zone1-101".parse().unwrap(),
        server_id: 101,
        start_position: "0-1-5".parse().unwrap(),
        began_unix_ms: 1,
        before: 1,
    };
    let put = async |record: &EpochRecord| ground.repository.put_epoch(&shard(), record).await;
    put(&record).await.unwrap();
    put(&record).await.unwrap();
    let other = EpochRecord {
        alias: "zone1-102".parse().unwrap(),
        ..record
    };
    assert_eq!(put(&other).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_removed_beats_the_manifest() {
    let ground = Ground::new().await;
    std::fs::write(ground.data().join("t"), b"rows").unwrap();
    let prepared = ground.back_up().await;
    ground
        .repository
        .abandon(&shard(), &name(0), "first")
        .await
        .unwrap();
    ground
        .repository
        .abandon(&shard(), &name(0), "second")
        .await
        .unwrap();
    let found = ground.repository.scan(&shard()).await.unwrap();
    let removed = StoredState::Removed {
        reason: "first".into(),
    };
    assert_eq!(found[0].state, removed);
    assert_eq!(
        ground.manifest().await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let error = prepared.put(&ground.repository).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_without_a_manifest_a_backup_is_incomplete() {
    let ground = Ground::new().await;
    std::fs::write(ground.data().join("t"), b"rows").unwrap();
    assert_eq!(ground.repository.scan(&shard()).await.unwrap(), []);
    ground.upload(&ground.source()).await.unwrap();
    let found = ground.repository.scan(&shard()).await.unwrap();
    assert_eq!(found[0].state, StoredState::Incomplete);
    assert_eq!(
        ground.manifest().await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_a_name_is_never_used_again() {
    let ground = Ground::new().await;
    std::fs::write(ground.data().join("t"), b"rows").unwrap();
    ground.back_up().await;
    let again = async || ground.upload(&ground.source()).await;
    assert_eq!(again().await.unwrap_err().kind(), ErrorKind::Conflict);
    ground
        .repository
        .abandon(&shard(), &name(0), "gone")
        .await
        .unwrap();
    let request = CollectionRequest {
        may_go: [name(0)].into(),
        ..CollectionRequest::default()
    };
    let limits = BatchLimits {
        objects: 100,
        bytes: u64::MAX,
    };
    let collected = ground
        .repository
        .collect(&shard(), &request, limits)
        .await
        .unwrap();
    assert_eq!(collected.objects, 4, "manifest, two parts, a pack");
    assert_eq!(again().await.unwrap_err().kind(), ErrorKind::Conflict);
}
