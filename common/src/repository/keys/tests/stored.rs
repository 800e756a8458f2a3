//! Identities that lie in the repository.

use super::{super::recipient::Recipient, *};
use crate::{ErrorKind, repository::Repository};

/// A repository with the identity "ops", locked; and the settings of a reader of it.
async fn ground() -> (Reader, Repository, StoredIdentity) {
    let mut reader = Reader::new(b"").knowing(PASSPHRASE);
    reader.config.identity_file = None;
    reader.config.url = format!("file://{}", reader.path("repository").display());
    let repository = Repository::create_or_open(&reader.config).await.unwrap();
    let stored = repository
        .put_identity("ops", &generate_identity(), &passphrase(PASSPHRASE))
        .await
        .unwrap();
    reader.config.identity = Some("ops".into());
    (reader, repository, stored)
}

#[tokio::test]
async fn an_identity_in_the_repository_opens_with_its_passphrase_alone() {
    let (reader, repository, stored) = ground().await;
    let opened = Repository::open(&reader.config).await.unwrap();
    let recipient = Recipient::parse(&stored.recipient).unwrap();
    assert!(opened.identities().unwrap().has(&recipient.fingerprint));
    assert_eq!(repository.stored_identities().await.unwrap(), [stored]);
    let noted = std::fs::read_to_string(
        reader.path(&format!("repository/recipients/{}", recipient.fingerprint)),
    );
    assert_eq!(noted.unwrap().trim(), recipient.text());
}

#[tokio::test]
async fn a_wrong_passphrase_a_wrong_name_and_damage_are_told_apart() {
    let (mut reader, _, _) = ground().await;
    let right = reader.config.passphrase_file.clone();
    std::fs::write(reader.path("wrong"), "battery staple").unwrap();
    reader.config.passphrase_file = Some(reader.path("wrong"));
    let error = Repository::open(&reader.config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(
        error
            .message()
            .contains("the passphrase does not open identity \"ops\"")
    );

    reader.config.passphrase_file = right;
    reader.config.identity = Some("opps".into());
    let error = Repository::open(&reader.config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.message().contains("no identity \"opps\""), "{error}");
    reader.config.identity = Some("../ops".into());
    let error = Repository::open(&reader.config).await.unwrap_err();
    assert!(
        error.message().contains("malformed identity name"),
        "{error}"
    );

    reader.config.identity = Some("ops".into());
    let file = reader.path("repository/identities/ops.age");
    let whole = std::fs::read(&file).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&file, damaged).unwrap();
        let error = Repository::open(&reader.config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error}");
        assert!(error.message().contains("identities/ops.age"), "{error}");
    }
    std::fs::write(&file, whole).unwrap();
    Repository::open(&reader.config).await.unwrap();
}

#[tokio::test]
async fn a_lost_or_damaged_record_does_not_keep_an_identity_from_opening() {
    let (reader, repository, _) = ground().await;
    let record = reader.path("repository/identities/ops.json");
    std::fs::write(&record, "{").unwrap();
    Repository::open(&reader.config).await.unwrap();
    std::fs::remove_file(&record).unwrap();
    Repository::open(&reader.config).await.unwrap();
    assert!(repository.stored_identities().await.unwrap().is_empty());
}

#[tokio::test]
async fn i8_an_identity_that_is_not_the_one_of_its_record_is_refused() {
    let (reader, repository, mut stored) = ground().await;
    let other = repository
        .put_identity("other", &generate_identity(), &passphrase(PASSPHRASE))
        .await
        .unwrap();
    stored.recipient = other.recipient;
    let record = serde_json::to_vec(&stored).unwrap();
    std::fs::write(reader.path("repository/identities/ops.json"), record).unwrap();
    let error = Repository::open(&reader.config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[tokio::test]
async fn an_identity_is_never_overwritten() {
    let (reader, repository, _) = ground().await;
    let error = repository
        .put_identity("ops", &generate_identity(), &passphrase("another"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    Repository::open(&reader.config).await.unwrap();
    for name in ["", "a/b", "..", "a b", &"x".repeat(65)] {
        assert!(check_identity_name(name).is_err(), "{name:?}");
    }
}

#[tokio::test]
async fn what_is_no_locked_age_key_is_not_opened() {
    let (reader, _, _) = ground().await;
    std::fs::remove_file(reader.path("repository/identities/ops.json")).unwrap();
    let file = reader.path("repository/identities/ops.age");
    for content in [
        "-----BEGIN OPENSSH PRIVATE KEY-----\n",
        generate_identity().file.as_str(),
    ] {
        std::fs::write(&file, content).unwrap();
        let error = Repository::open(&reader.config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.message().contains("identities/ops.age"), "{error}");
    }
}
