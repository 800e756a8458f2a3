//! This version restores them.

use super::{
    super::trees::assert_equal,
    tree::{everything, expected},
    *,
};

#[test]
fn the_golden_repository_is_what_it_was() {
    assert_eq!(hash(), FROZEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_golden_repository_of_format_2_is_restored_byte_by_byte_with_each_kind_of_key() {
    restores(&config("plain"), "plain").await;
    for identity in IDENTITIES {
        let config = RepositoryConfig {
            identity_file: Some(identity_file(identity)),
            ..config("encrypted")
        };
        restores(&config, "encrypted").await;
    }
    let directory = tempfile::tempdir().unwrap();
    let passphrase = directory.path().join("passphrase");
    fs::write(&passphrase, PASSPHRASE).unwrap();
    let config = RepositoryConfig {
        identity: Some(LOCKED.into()),
        passphrase_file: Some(passphrase),
        ..config("encrypted")
    };
    restores(&config, "encrypted").await;
}

async fn restores(config: &RepositoryConfig, kind: &str) {
    for backup in BACKUPS {
        let pins = is_signed(kind, backup).then(writer_key);
        let pinned = RepositoryConfig {
            trusted_writers: pins.into_iter().collect(),
            ..config.clone()
        };
        let repository = Repository::open(&pinned).await.unwrap();
        let manifest = read_manifest(&repository, &shard(), &name(backup), None)
            .await
            .unwrap();
        let position = manifest.header.position.to_string();
        assert_eq!(position, format!("0-1-{backup}"));
        let directory = tempfile::tempdir().unwrap();
        let targets = ["data", "redo"]
            .map(|root| (root.to_owned(), directory.path().join(root)))
            .into();
        let (progress, never) = (Progress::new(), CancellationToken::new());
        download(&repository, &manifest, &targets, 2, &progress, &never)
            .await
            .unwrap();
        assert_equal(&everything(directory.path()), &expected(backup));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_the_golden_repository_is_damaged_or_unknown() {
    for kind in KINDS {
        let config = RepositoryConfig {
            identity_file: (kind == "encrypted").then(|| identity_file("x25519")),
            ..config(kind)
        };
        let repository = Repository::open(&config).await.unwrap();
        let options = InspectOptions {
            read_data: true,
            concurrency: 1,
            ..InspectOptions::default()
        };
        let (progress, never) = (Progress::new(), CancellationToken::new());
        let found = inspect(&repository, &options, &progress, &never)
            .await
            .unwrap();
        assert!(found.is_clean(), "{:?}", found.damage);
        assert_eq!(found.unknown.named, Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_is_not_signed_is_refused_where_writers_are_pinned() {
    let config = RepositoryConfig {
        trusted_writers: vec![writer_key()],
        ..config("plain")
    };
    let repository = Repository::open(&config).await.unwrap();
    let read = |backup| {
        let (repository, name) = (repository.clone(), name(backup));
        async move { read_manifest(&repository, &shard(), &name, None).await }
    };
    assert!(read(1).await.is_err());
    read(3).await.unwrap();
}
