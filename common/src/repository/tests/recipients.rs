//! Recipients that come and go: only small files are written and deleted.

use super::*;
use crate::repository::KeyFiles;

/// Somebody with an identity of their own.
struct Person {
    recipient: String,
    identity_file: PathBuf,
}

impl Person {
    fn new(ground: &Ground, name: &str) -> Self {
        let identity = generate_identity();
        let identity_file = ground.path(name);
        std::fs::write(&identity_file, identity.file.as_bytes()).unwrap();
        Self {
            recipient: identity.recipient,
            identity_file,
        }
    }

    fn fingerprint(&self) -> String {
        fingerprint_of(&self.recipient).unwrap()
    }

    /// The repository as this person sees it.
    async fn open(&self, ground: &Ground) -> Repository {
        let config = RepositoryConfig {
            identity_file: Some(self.identity_file.clone()),
            ..ground.config.clone()
        };
        Repository::open(&config).await.unwrap()
    }

    async fn reads(&self, ground: &Ground, backup: u32) -> Result<Manifest> {
        read_manifest(&self.open(ground).await, &shard(), &name(backup), None).await
    }
}

async fn ground(backups: u32) -> Ground {
    let ground = Ground::encrypted().await;
    std::fs::write(ground.data().join("t.ibd"), noise(10_000)).unwrap();
    for number in 0..backups {
        back_up(&ground, &ground.repository, number).await;
    }
    ground
}

async fn back_up(ground: &Ground, writer: &Repository, number: u32) {
    let source = BackupSource {
        name: name(number),
        ..ground.source()
    };
    let (progress, cancel) = (Progress::new(), CancellationToken::new());
    let prepared = upload(writer, &source, 2, &progress, &cancel)
        .await
        .unwrap();
    prepared.put(writer).await.unwrap();
}

/// Everything in the repository but key files, with its bytes.
fn data_objects(ground: &Ground) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut objects = BTreeMap::new();
    let mut folders = vec![ground.path("repository")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_none_or(|e| e != "age") && !is_recipient(&path) {
                objects.insert(path.clone(), std::fs::read(path).unwrap());
            }
        }
    }
    objects
}

fn is_recipient(path: &Path) -> bool {
    path.parent().is_some_and(|p| p.ends_with("recipients"))
}

/// A removal, which does what its plan has said.
async fn remove(ground: &Ground, fingerprint: &str) -> RemovedKeys {
    let repository = &ground.repository;
    let keys = ground.objects("packs").join("keys");
    let before = files_in(&keys);
    let shard = shard();
    let plan = repository.plan_recipient_removal(&shard, fingerprint);
    let plan = plan.await.unwrap();
    assert_eq!(files_in(&keys), before, "a plan has changed something");
    let removed = repository.remove_recipient(&shard, fingerprint, 1000);
    let removed = removed.await.unwrap();
    let planned = |of: fn(&KeyFiles) -> u64| plan.values().map(of).sum::<u64>();
    let going = planned(|files| files.going);
    let staying = planned(|files| files.staying);
    assert_eq!(
        (going, staying),
        (removed.deleted, removed.kept),
        "{plan:?}"
    );
    removed
}

#[tokio::test]
async fn an_added_recipient_opens_everything_and_a_removed_one_nothing() {
    let ground = ground(2).await;
    let colleague = Person::new(&ground, "colleague");
    let before = data_objects(&ground);
    let error = colleague.reads(&ground, 0).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Refused,
        "a wrong identity: {error}"
    );

    let mut told = Vec::new();
    let added = ground
        .repository
        .add_recipient(&colleague.recipient, |done, of| told.push((done, of)))
        .await
        .unwrap();
    assert_eq!((added.added, added.present), (2, 0));
    assert!(added.failure().is_none());
    assert_eq!(told, [(1, 2), (2, 2)]);
    for backup in [0, 1] {
        colleague.reads(&ground, backup).await.unwrap();
    }
    let again = ground
        .repository
        .add_recipient(&colleague.recipient, |_, _| {})
        .await;
    let again = again.unwrap();
    assert_eq!((again.added, again.present), (0, 2));

    let removed = remove(&ground, &colleague.fingerprint()).await;
    assert_eq!((removed.deleted, removed.kept, removed.left), (2, 0, 0));
    for backup in [0, 1] {
        let error = colleague.reads(&ground, backup).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        read_manifest(&ground.repository, &shard(), &name(backup), None)
            .await
            .unwrap();
    }
    assert_eq!(data_objects(&ground), before, "only key files come and go");
}

#[tokio::test]
async fn i5_the_last_key_of_a_session_is_never_deleted() {
    let ground = ground(3).await;
    let colleague = Person::new(&ground, "colleague");
    ground
        .repository
        .add_recipient(&colleague.recipient, |_, _| {})
        .await
        .unwrap();
    let first = fingerprint_of(&ground.config.recipients[0]).unwrap();
    assert_eq!(remove(&ground, &first).await.deleted, 3);
    let removed = remove(&ground, &colleague.fingerprint()).await;
    assert_eq!((removed.deleted, removed.kept), (0, 3));
    for backup in 0..3 {
        colleague.reads(&ground, backup).await.unwrap();
    }
}

#[tokio::test]
async fn i5_a_key_file_that_is_damaged_does_not_count_as_another_key() {
    let ground = ground(2).await;
    let colleague = Person::new(&ground, "colleague");
    let add = || {
        ground
            .repository
            .add_recipient(&colleague.recipient, |_, _| {})
    };
    add().await.unwrap();
    let keys = files_in(&ground.objects("packs").join("keys"));
    let theirs = keys
        .iter()
        .find(|path| path.to_str().unwrap().contains(&colleague.fingerprint()))
        .unwrap();
    std::fs::write(theirs, b"somebody else was here").unwrap();
    let again = add().await.unwrap();
    assert_eq!((again.present, again.failed.len()), (1, 1));
    assert!(again.failed[0].2.message().contains("damaged"));
    let first = fingerprint_of(&ground.config.recipients[0]).unwrap();
    let removed = remove(&ground, &first).await;
    assert_eq!((removed.deleted, removed.kept), (1, 1));
    read_manifest(&ground.repository, &shard(), &name(0), None)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_removal_goes_in_batches_and_says_what_is_left() {
    let ground = ground(5).await;
    let colleague = Person::new(&ground, "colleague");
    ground
        .repository
        .add_recipient(&colleague.recipient, |_, _| {})
        .await
        .unwrap();
    let fingerprint = colleague.fingerprint();
    let mut batches = Vec::new();
    loop {
        let batch = ground
            .repository
            .remove_recipient(&shard(), &fingerprint, 2)
            .await
            .unwrap();
        batches.push((batch.deleted, batch.left));
        if batch.left == 0 {
            break;
        }
    }
    assert_eq!(batches, [(2, 3), (2, 1), (1, 0)]);
}

#[tokio::test]
async fn sessions_that_the_identity_does_not_open_are_listed() {
    let ground = ground(1).await;
    let other = Person::new(&ground, "other");
    let for_other = RepositoryConfig {
        recipients: vec![other.recipient.clone()],
        ..ground.config.clone()
    };
    let writer = Repository::open(&for_other).await.unwrap();
    back_up(&ground, &writer, 1).await;

    let colleague = Person::new(&ground, "colleague");
    let added = ground
        .repository
        .add_recipient(&colleague.recipient, |_, _| {})
        .await;
    let added = added.unwrap();
    assert_eq!((added.added, added.failed.len()), (1, 1));
    assert_eq!(added.failed[0].1, name(1));
    let failure = added.failure().unwrap();
    assert_eq!(failure.kind(), ErrorKind::Refused);
    assert!(failure.message().contains(name(1).as_str()), "{failure}");

    // Taken up by somebody who can open it.
    let rest = other
        .open(&ground)
        .await
        .add_recipient(&colleague.recipient, |_, _| {})
        .await;
    let rest = rest.unwrap();
    assert_eq!((rest.added, rest.present), (1, 1));
    colleague.reads(&ground, 1).await.unwrap();
}

#[tokio::test]
async fn recipients_are_listed_with_what_they_open_and_who_they_are() {
    let ground = ground(2).await;
    let colleague = Person::new(&ground, "colleague");
    ground
        .repository
        .add_recipient(&colleague.recipient, |_, _| {})
        .await
        .unwrap();
    let passphrase = Passphrase::new("correct horse", "x").unwrap();
    let stored = ground
        .repository
        .put_identity("ops", &generate_identity(), &passphrase)
        .await
        .unwrap();
    back_up(&ground, &ground.repository, 2).await;

    let uses = ground.repository.recipient_uses().await.unwrap();
    assert_eq!(uses.sessions, 3);
    let of = |recipient: &str| {
        let fingerprint = fingerprint_of(recipient).unwrap();
        let mut found = uses
            .recipients
            .iter()
            .filter(|u| u.fingerprint == fingerprint);
        let one = found.next().unwrap();
        assert_eq!(one.recipient.as_deref(), Some(recipient));
        (one.sessions, one.identities.clone())
    };
    assert_eq!(of(&ground.config.recipients[0]), (3, vec![]));
    assert_eq!(of(&colleague.recipient), (2, vec![]));
    assert_eq!(of(&stored.recipient), (0, vec!["ops".to_owned()]));

    // A public key that does not fit its fingerprint is not shown.
    let noted = ground.path(&format!(
        "repository/recipients/{}",
        colleague.fingerprint()
    ));
    std::fs::write(noted, &ground.config.recipients[0]).unwrap();
    let uses = ground.repository.recipient_uses().await.unwrap();
    let lied = uses
        .recipients
        .iter()
        .find(|u| u.fingerprint == colleague.fingerprint());
    assert_eq!(lied.unwrap().recipient, None);
}
