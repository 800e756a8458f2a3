//! What a backup that was cut off has sent is not sent again.

use super::{line::Line, *};

const MIB: u64 = 1 << 20;
const DATA_MIB: usize = 100;

async fn cut_off_after_two(ground: Ground) -> (Line, BackupName) {
    std::fs::write(ground.data().join("t.ibd"), noise(DATA_MIB << 20)).unwrap();
    let mut line = Line::new(ground);
    let attempt = line.cut_off("agent", 2).await;
    (line, attempt)
}

/// The next backup sent what the attempt had not, and takes the rest over.
async fn is_taken_over(line: &mut Line, attempt: &BackupName, agent: &str) {
    let sent_before = line.bytes_of(attempt);
    assert!(sent_before > 60 * MIB, "{sent_before}");
    let next = line.back_up(agent).await.header().clone();
    let sent = line.bytes_of(&next.name);
    let all = (DATA_MIB as u64) * MIB;
    assert!(
        (sent + sent_before).abs_diff(all) < MIB,
        "{sent} and {sent_before}"
    );
    assert_eq!(next.refers_to, std::slice::from_ref(attempt));
    assert!(
        next.stored_bytes >= all,
        "no complete backup held any of it"
    );
    line.comes_back(&next.name).await;

    // What was taken over is held by a complete backup from now on, and the attempt is not named.
    line.given_up.clear();
    let last = line.back_up(agent).await.header().clone();
    assert!(last.stored_bytes < MIB, "{}", last.stored_bytes);
    assert_eq!(last.refers_to, [attempt.clone(), next.name]);
    line.comes_back(&last.name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_agent_goes_on_from_what_it_sealed_without_an_identity() {
    let (mut line, attempt) = cut_off_after_two(Ground::encrypted().await).await;
    let reader = line.ground.repository.clone();
    let config = RepositoryConfig {
        identity_file: None,
        ..line.ground.config.clone()
    };
    let blind = Repository::open(&config).await.unwrap();
    let writer = line.writer_of(&blind, "agent");
    let sessions = line.ground.path("agent/sessions");
    assert!(sessions.join(attempt.as_str()).is_dir());
    let next = line.try_backup(&writer).await.unwrap().header().clone();
    let sent = line.bytes_of(&next.name) + line.bytes_of(&attempt);
    assert!(sent.abs_diff(DATA_MIB as u64 * MIB) < MIB, "{sent}");
    assert_eq!(next.refers_to, std::slice::from_ref(&attempt));
    assert!(!sessions.join(next.name.as_str()).exists(), "it ended well");
    line.ground.repository = reader;
    line.comes_back(&next.name).await;
    // Who has this directory now cannot read what the attempt wrote either.
    assert!(!sessions.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_agent_goes_on_with_an_identity() {
    let (mut line, attempt) = cut_off_after_two(Ground::encrypted().await).await;
    is_taken_over(&mut line, &attempt, "other").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_agent_goes_on_where_nothing_is_encrypted() {
    let (mut line, attempt) = cut_off_after_two(Ground::new().await).await;
    is_taken_over(&mut line, &attempt, "other").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_agent_without_a_key_sends_everything() {
    let (mut line, attempt) = cut_off_after_two(Ground::encrypted().await).await;
    let config = RepositoryConfig {
        identity_file: None,
        ..line.ground.config.clone()
    };
    let blind = Repository::open(&config).await.unwrap();
    let writer = line.writer_of(&blind, "other");
    let next = line.try_backup(&writer).await.unwrap().header().clone();
    assert_eq!(next.refers_to, []);
    assert!(line.bytes_of(&next.name) > DATA_MIB as u64 * MIB);
    assert!(line.bytes_of(&attempt) > 0);
    line.comes_back(&next.name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_a_damaged_pack_of_an_attempt_is_passed_over() {
    let (mut line, attempt) = cut_off_after_two(Ground::encrypted().await).await;
    let packs = line.packs_of(&attempt);
    let bytes = std::fs::read(&packs[0]).unwrap();
    // Within its index.
    let mut altered = bytes.clone();
    let at = bytes.len() - 100;
    altered[at] ^= 1;
    std::fs::write(&packs[0], altered).unwrap();
    // And another, cut to something that cannot be a pack at all.
    std::fs::write(&packs[1], &bytes[..10]).unwrap();
    let next = line.back_up("agent").await.header().clone();
    let untouched: u64 = packs[2..]
        .iter()
        .map(|pack| pack.metadata().unwrap().len())
        .sum();
    let sent = line.bytes_of(&next.name) + untouched;
    assert!(sent.abs_diff(DATA_MIB as u64 * MIB) < MIB, "{sent}");
    line.comes_back(&next.name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_a_pack_of_an_attempt_that_lies_under_another_name_is_passed_over() {
    let ground = Ground::encrypted().await;
    std::fs::write(ground.data().join("t.ibd"), noise(3 << 20)).unwrap();
    let mut line = Line::new(ground);
    let attempt = line.cut_off("agent", 1).await;
    let pack = line.packs_of(&attempt).swap_remove(0);
    let other = pack.with_file_name(uuid::Uuid::new_v4().simple().to_string());
    std::fs::rename(&pack, other).unwrap();
    let next = line.back_up("agent").await.header().clone();
    assert_eq!(next.refers_to, []);
    line.comes_back(&next.name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_prepares_can_be_repeated_and_a_used_name_is_refused() {
    let ground = Ground::encrypted().await;
    std::fs::write(ground.data().join("t.ibd"), noise(3 << 20)).unwrap();
    let mut line = Line::new(ground);
    let (writer, other) = (line.writer("agent"), line.writer("other"));
    let source = line.next();
    let first = writer
        .prepare(&source.shard, &source.name, &[])
        .await
        .unwrap();
    let again = writer
        .prepare(&source.shard, &source.name, &[])
        .await
        .unwrap();
    assert_ne!(first, again, "another session");
    let error = other
        .prepare(&source.shard, &source.name, &[])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let (progress, never) = (Progress::new(), CancellationToken::new());
    let may = MayReferTo::default();
    let uploaded = writer
        .upload(&source, again, &may, 2, &progress, &never)
        .await
        .unwrap();
    uploaded
        .manifest
        .put(&line.ground.repository)
        .await
        .unwrap();
    writer.remember(uploaded).await.unwrap();
    line.comes_back(&source.name).await;
}
