//! The throttle in both directions of a transfer.

use std::time::{Duration, Instant};

use super::*;

const LIMIT: Duration = Duration::from_secs(60);

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LIMIT, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_backup_puts_no_data_and_goes_on_when_the_limit_is_lifted() {
    let ground = Ground::new().await;
    std::fs::write(ground.data().join("t.ibd"), noise(3 << 20)).unwrap();
    let throttle = ground.repository.throttle();
    throttle.set_limit(Some(0));
    let (source, progress) = (ground.source(), Progress::new());
    let cancel = CancellationToken::new();
    let backup = upload(&ground.repository, &source, 3, &progress, &cancel);
    let watch = async {
        // Read, packed, and nothing to do but to wait.
        until("all is read", || progress.snapshot().bytes_done == 3 << 20).await;
        assert!(!ground.objects("packs").exists());
        assert_eq!(throttle.rate(), 0);
        throttle.set_limit(None);
    };
    let (prepared, ()) = tokio::join!(backup, watch);
    prepared.unwrap().put(&ground.repository).await.unwrap();
    assert!(throttle.rate() > 0);

    throttle.set_limit(Some(0));
    let restored = ground.path("restored/t.ibd");
    let watch = async {
        until("the restore has begun", || ground.path("restored").exists()).await;
        assert!(std::fs::read(&restored).map_or(true, |bytes| bytes.iter().all(|b| *b == 0)));
        throttle.set_limit(None);
    };
    let (target, ()) = tokio::join!(ground.restore(), watch);
    assert_eq!(
        std::fs::read(target.unwrap().join("t.ibd")).unwrap(),
        noise(3 << 20)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_limit_a_backup_takes_its_time_in_packs_of_about_a_second() {
    const RATE: u64 = 4 << 20;
    let ground = Ground::new().await;
    std::fs::write(ground.data().join("t.ibd"), noise(12 << 20)).unwrap();
    ground.repository.throttle().set_limit(Some(RATE));
    let began = Instant::now();
    ground.back_up().await;
    // A quarter of a second's worth may have been saved up.
    assert!(began.elapsed() >= Duration::from_millis(2750));
    let packs = ground.packs();
    assert!(packs.len() >= 3, "{packs:?}");
    for pack in packs {
        let bytes = std::fs::metadata(&pack).unwrap().len();
        assert!(bytes <= RATE + (2 << 20), "{bytes}");
    }
}
