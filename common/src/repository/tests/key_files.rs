//! Key files that are damaged, exchanged or cut: a verification names them, as far as anybody but
//! their recipient can know.

use super::*;

const OF_OTHERS: &str = "only their form was looked at";

/// A backup for a reader with an identity and for a stranger, and its two key files: the reader's,
/// the stranger's.
async fn backed_up() -> (Ground, PathBuf, PathBuf) {
    let stranger = generate_identity().recipient;
    let ground = Ground::with(|directory| {
        let identity = generate_identity();
        let file = directory.join("identity.txt");
        std::fs::write(&file, identity.file.as_bytes()).unwrap();
        RepositoryConfig {
            recipients: vec![identity.recipient, stranger.clone()],
            identity_file: Some(file),
            ..RepositoryConfig::default()
        }
    })
    .await;
    std::fs::write(ground.data().join("t.ibd"), noise(10_000)).unwrap();
    ground.back_up().await;
    let of_stranger = format!("{}.age", fingerprint_of(&stranger).unwrap());
    let keys = files_in(&ground.objects("packs").join("keys"));
    let (theirs, own): (Vec<_>, Vec<_>) = keys
        .into_iter()
        .partition(|file| file.to_str().unwrap().ends_with(&of_stranger));
    (ground, own[0].clone(), theirs[0].clone())
}

async fn verified(ground: &Ground) -> VerifyReport {
    let options = VerifyOptions {
        depth: Depth::Listed,
        ..VerifyOptions::full(1)
    };
    let (progress, never) = (Progress::new(), CancellationToken::new());
    let repository = &ground.repository;
    verify(
        repository,
        &shard(),
        &name(0),
        None,
        &options,
        &progress,
        &never,
    )
    .await
    .unwrap()
}

fn is_named(report: &VerifyReport, file: &Path) -> bool {
    let file = file.file_name().unwrap().to_str().unwrap();
    report.damage.iter().any(|d| d.object.ends_with(file))
}

fn says_of_others(report: &VerifyReport) -> bool {
    report.unchecked.iter().any(|what| what.contains(OF_OTHERS))
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_each_byte_of_ones_own_key_file_counts() {
    let (ground, own, _) = backed_up().await;
    let whole = std::fs::read(&own).unwrap();
    for at in 0..whole.len() {
        let mut altered = whole.clone();
        altered[at] ^= 1;
        std::fs::write(&own, &altered).unwrap();
        let report = verified(&ground).await;
        assert!(is_named(&report, &own), "byte {at}: {}", report.summary());
        std::fs::write(&own, &whole[..at]).unwrap();
        let report = verified(&ground).await;
        assert!(is_named(&report, &own), "cut at {at}: {}", report.summary());
    }
    std::fs::write(&own, [&whole[..], b"x"].concat()).unwrap();
    assert!(is_named(&verified(&ground).await, &own));
    std::fs::write(&own, &whole).unwrap();
    assert!(verified(&ground).await.passed());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_anothers_key_file_the_form_counts_and_what_was_not_checked_is_said() {
    let (ground, own, theirs) = backed_up().await;
    let whole = std::fs::read(&theirs).unwrap();
    for at in 0..whole.len() {
        std::fs::write(&theirs, &whole[..at]).unwrap();
        let report = verified(&ground).await;
        assert!(is_named(&report, &theirs), "cut at {at}");
        let mut altered = whole.clone();
        altered[at] ^= 1;
        std::fs::write(&theirs, &altered).unwrap();
        let report = verified(&ground).await;
        let noticed = is_named(&report, &theirs) || says_of_others(&report);
        assert!(noticed, "byte {at}: {}", report.summary());
        assert!(!is_named(&report, &own), "byte {at}");
    }
    std::fs::write(&theirs, [&whole[..], b"x"].concat()).unwrap();
    assert!(is_named(&verified(&ground).await, &theirs));
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_key_files_that_were_exchanged_are_named() {
    let (ground, own, theirs) = backed_up().await;
    let read = |file: &Path| std::fs::read(file).unwrap();
    let (of_own, of_theirs) = (read(&own), read(&theirs));
    std::fs::write(&own, &of_theirs).unwrap();
    let report = verified(&ground).await;
    assert!(is_named(&report, &own), "{}", report.summary());
    std::fs::write(&own, &of_own).unwrap();
    std::fs::write(&theirs, &of_own).unwrap();
    let report = verified(&ground).await;
    assert!(is_named(&report, &theirs), "{}", report.summary());
    assert!(!is_named(&report, &own), "{}", report.summary());
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_the_key_file_of_another_session_is_named() {
    let (ground, own, _) = backed_up().await;
    let next = BackupSource {
        name: name(1),
        ..ground.source()
    };
    ground.upload(&next).await.unwrap();
    let recipient = own.file_name().unwrap().to_str().unwrap();
    let (_, recipient) = recipient.split_once('.').unwrap();
    let folder = format!("repository/keyspaces/commerce/0/packs/{}/keys", name(1));
    let of_next = files_in(&ground.path(&folder))
        .into_iter()
        .find(|file| file.to_str().unwrap().ends_with(recipient));
    std::fs::copy(of_next.unwrap(), &own).unwrap();
    let report = verified(&ground).await;
    assert!(is_named(&report, &own), "{}", report.summary());
}
