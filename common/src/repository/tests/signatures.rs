//! Who wrote a backup: manifests that are signed, not signed, wrongly signed, forged.

use super::*;

/// Whoever knows a repository's public keys can write a backup that opens: only the signature says
/// that it is none of ours.
struct Signed {
    ground: Ground,
    writer: WriterKey,
}

impl Signed {
    async fn new(encrypted: bool) -> Self {
        let ground = match encrypted {
            true => Ground::encrypted().await,
            false => Ground::new().await,
        };
        fill(&ground.data());
        Self {
            ground,
            writer: WriterKey::generate().unwrap(),
        }
    }

    async fn back_up(&self, signer: Option<&WriterKey>) {
        let source = BackupSource {
            signer: signer.cloned(),
            ..self.ground.source()
        };
        let prepared = self.ground.upload(&source).await.unwrap();
        prepared.put(&self.ground.repository).await.unwrap();
    }

    /// The same repository as somebody sees it who trusts these writers.
    async fn pinning(&self, writers: &[&WriterKey]) -> Repository {
        let config = RepositoryConfig {
            trusted_writers: writers.iter().map(|w| w.public().to_string()).collect(),
            ..self.ground.config.clone()
        };
        Repository::open(&config).await.unwrap()
    }

    fn manifest_file(&self) -> PathBuf {
        self.ground.objects("backups").join("manifest")
    }
}

async fn read(repository: &Repository) -> Result<Manifest> {
    read_manifest(repository, &shard(), &name(0), None).await
}

#[tokio::test]
async fn i8_a_forged_backup_is_refused_by_a_restore_with_pins() {
    for encrypted in [false, true] {
        let signed = Signed::new(encrypted).await;
        let forger = WriterKey::generate().unwrap();
        // The right recipients, every seal in order, the wrong signer.
        signed.back_up(Some(&forger)).await;
        let error = read(&signed.pinning(&[&signed.writer]).await)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(error.message().contains("is forged"), "{error}");
        assert!(error.message().contains(&forger.public().to_string()));
        assert!(error.hint_text().unwrap().contains("trusted_writers"));
        // Without pins it cannot be told, and the documents say so.
        read(&signed.ground.repository).await.unwrap();
        read(&signed.pinning(&[&signed.writer, &forger]).await)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn i8_an_unsigned_backup_is_refused_by_a_restore_with_pins() {
    let signed = Signed::new(true).await;
    signed.back_up(None).await;
    let error = read(&signed.pinning(&[&signed.writer]).await)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.message().contains("not signed"), "{error}");
    let manifest = read(&signed.ground.repository).await.unwrap();
    assert_eq!(manifest.header.writer_key, "");
}

#[tokio::test]
async fn a_backup_says_who_signed_it_and_restores_with_pins() {
    let signed = Signed::new(true).await;
    signed.back_up(Some(&signed.writer)).await;
    let manifest = read(&signed.pinning(&[&signed.writer]).await)
        .await
        .unwrap();
    assert_eq!(
        manifest.header.writer_key,
        signed.writer.public().to_string()
    );
}

/// A pin that was forgotten must not mark a backup as broken for those who have it.
#[tokio::test]
async fn i8_a_verification_with_pins_refuses_a_forged_backup_and_does_not_call_it_damaged() {
    let signed = Signed::new(true).await;
    signed.back_up(Some(&signed.writer)).await;
    let stranger = WriterKey::generate().unwrap();
    let options = VerifyOptions::full(2);
    for (pins, is_refused) in [(&stranger, true), (&signed.writer, false)] {
        let (progress, cancel) = (Progress::new(), CancellationToken::new());
        let repository = signed.pinning(&[pins]).await;
        let (shard, name) = (shard(), name(0));
        let verified = verify(
            &repository,
            &shard,
            &name,
            None,
            &options,
            &progress,
            &cancel,
        );
        match verified.await {
            Ok(report) => assert!(report.passed() && !is_refused),
            Err(e) => assert!(e.kind() == ErrorKind::Refused && is_refused, "{e}"),
        }
        let everything = InspectOptions {
            concurrency: 2,
            ..InspectOptions::default()
        };
        let found = inspect(&repository, &everything, &progress, &cancel)
            .await
            .unwrap();
        assert_eq!(found.damaged, u64::from(is_refused), "{found:?}");
    }
}

#[tokio::test]
async fn i8_any_change_to_a_signed_manifest_is_damage_with_and_without_pins() {
    let signed = Signed::new(false).await;
    signed.back_up(Some(&signed.writer)).await;
    let pinning = signed.pinning(&[&signed.writer]).await;
    let whole = std::fs::read(signed.manifest_file()).unwrap();
    let signature = whole.len() - 100..whole.len();
    for at in (0..whole.len()).step_by(13).chain(signature) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(signed.manifest_file(), damaged).unwrap();
        for repository in [&signed.ground.repository, &pinning] {
            let error = read(repository).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error}");
        }
        let scanned = pinning.scan(&shard()).await.unwrap();
        let is_broken = matches!(scanned[0].state, StoredState::Broken { .. });
        assert!(is_broken, "byte {at}: {scanned:?}");
    }
}

/// Not encrypted, nothing but the signature keeps others from making a manifest that says anything.
#[tokio::test]
async fn i8_a_signature_taken_off_or_exchanged_does_not_pass() {
    let signed = Signed::new(false).await;
    signed.back_up(Some(&signed.writer)).await;
    let whole = std::fs::read(signed.manifest_file()).unwrap();
    let body = &whole[..whole.len() - 100];
    let other = WriterKey::generate().unwrap();
    let unsigned = [body, &[0; 100]].concat();
    let resigned = [body, &manifest_signature(body, &other)].concat();
    for forged in [unsigned, resigned] {
        std::fs::write(signed.manifest_file(), forged).unwrap();
        for repository in [
            &signed.ground.repository,
            &signed.pinning(&[&signed.writer]).await,
        ] {
            let error = read(repository).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(error.message().contains("another writer"), "{error}");
        }
    }
}

/// Written from the document, not with the code that is tested.
fn manifest_signature(body: &[u8], key: &WriterKey) -> Vec<u8> {
    let message = [b"seawall manifest signature 2".as_slice(), body].concat();
    let kind = 1_u32.to_le_bytes();
    [&kind[..], key.public().bytes(), &key.sign(&message)].concat()
}
