//! What a probe finds out about a store, and what a listing does when it breaks off.

use std::sync::Arc;

use bytes::Bytes;
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use uuid::Uuid;

use super::{
    super::{layout, probe::probe, store::Store},
    broken::{Broken, Vice},
    *,
};

const URL: &str = "s3://bucket/a";

async fn probed(vice: Vice) -> (Arc<Broken>, Result<()>) {
    let broken = Broken::new(vice);
    let store = Store::over(Arc::clone(&broken) as Arc<dyn ObjectStore>);
    let outcome = probe(&store, URL).await;
    (broken, outcome)
}

async fn left_in(store: &Broken) -> Vec<String> {
    use futures::TryStreamExt;
    let listed: Vec<_> = store.inner.list(None).try_collect().await.unwrap();
    listed.iter().map(|o| o.location.to_string()).collect()
}

#[tokio::test]
async fn a_store_that_can_do_everything_is_probed_without_a_trace() {
    let (store, outcome) = probed(Vice::None).await;
    outcome.unwrap();
    assert!(left_in(&store).await.is_empty());
}

#[tokio::test]
async fn i2_a_store_whose_create_only_puts_do_not_hold_is_refused() {
    for vice in [Vice::Overwrites, Vice::LooksThenWrites] {
        let (store, outcome) = probed(vice).await;
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        let text = error.to_string();
        assert!(text.contains("create-only puts do not hold"), "{text}");
        assert!(text.contains(URL), "{text}");
        assert!(left_in(&store).await.is_empty(), "{vice:?}");
    }
}

#[tokio::test]
async fn a_probe_says_what_a_store_lacks_in_one_line() {
    for (vice, says, hints) in [
        (Vice::MayNotPut, "cannot put", "create objects"),
        (Vice::MayNotGet, "cannot get", "read objects"),
        (Vice::MayNotList, "cannot list", "list objects"),
        (Vice::MayNotDelete, "cannot delete", "delete objects"),
        (Vice::ListsNothing, "does not list what was put", ""),
        (Vice::DeletesNothing, "an object that was deleted", ""),
    ] {
        let error = probed(vice).await.1.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        let text = error.to_string();
        assert!(
            text.contains(says) && text.contains(hints),
            "{vice:?}: {text}"
        );
        assert!(text.contains(URL) && !text.contains('\n'), "{text}");
    }
}

#[tokio::test]
async fn i5_a_probe_deletes_what_older_probes_left_and_nothing_else() {
    let broken = Broken::new(Vice::None);
    let store = Store::over(Arc::clone(&broken) as Arc<dyn ObjectStore>);
    let now = crate::clock::now_unix_ms();
    let folder = |began| layout::probe(began, Uuid::new_v4());
    let old = folder(now - 2 * 3_600_000).join("race-0");
    let kept = [
        folder(now - 60_000).join("race-0"),
        folder(now - 2 * 3_600_000).join("other"),
        layout::probes().join("notes"),
        layout::header(),
    ];
    for key in kept.iter().chain([&old]) {
        broken.inner.put(key, "x".into()).await.unwrap();
    }
    probe(&store, URL).await.unwrap();
    let mut kept = kept.map(|key| key.to_string()).to_vec();
    kept.sort();
    assert_eq!(left_in(&broken).await, kept);
}

#[tokio::test]
async fn i5_a_listing_that_breaks_off_is_gone_on_with_and_lacks_nothing() {
    for (vice, is_whole) in [(Vice::BreaksOff, true), (Vice::BreaksOffOutOfOrder, false)] {
        let broken = Broken::new(vice);
        let store = Store::over(Arc::clone(&broken) as Arc<dyn ObjectStore>);
        for i in 0..2500 {
            let key = Path::from(format!("packs/{i:05}"));
            broken.inner.put(&key, Bytes::new().into()).await.unwrap();
        }
        match store.list(&Path::from("packs")).await {
            Ok(listed) => assert!(is_whole && listed.len() == 2500),
            Err(e) => assert!(!is_whole && e.kind() == ErrorKind::Internal, "{e}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_repository_is_probed_when_it_is_made_and_left_clean() {
    let ground = Ground::new().await;
    assert!(!ground.path("repository/probes").exists());
    ground.repository.probe().await.unwrap();
}

#[cfg(feature = "fault-injection")]
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_does_what_every_store_must_do() {
    let directory = tempfile::tempdir().unwrap();
    let config = RepositoryConfig::at(format!("file://{}/a", directory.path().display()));
    super::super::conformance(&config).await.unwrap();
}
