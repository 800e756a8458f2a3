//! A file system that hangs: opening a FIFO takes for ever, as does everything on a network mount
//! whose server is gone.

use std::time::{Duration, Instant};

use futures::future::join_all;
use nix::{sys::stat::Mode, unistd::mkfifo};
use object_store::path::Path;

use super::{
    super::{layout, store::Store},
    *,
};

#[test]
fn i9_a_store_that_hangs_takes_only_threads_of_its_own_and_says_so() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let ground = Ground::new().await;
        let fifo = ground.path("repository/hangs");
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let config = RepositoryConfig {
            request_timeout: "200ms".into(),
            retry_limit: "1ms".into(),
            ..ground.config.clone()
        };
        let store = Store::open(&config, false).await.unwrap();
        let hangs = Path::from("hangs");
        let told = async {
            loop {
                let gets = join_all((0..80).map(|_| store.get(&hangs, 9))).await;
                for error in gets.into_iter().map(|got| got.unwrap_err()) {
                    if error.kind() != ErrorKind::Timeout {
                        return error;
                    }
                }
            }
        };
        let error = tokio::time::timeout(Duration::from_secs(60), told).await;
        let error = error.unwrap();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        let says = "the store does not answer: 64 requests hang since 2";
        assert!(error.message().contains(says), "{error}");

        let began = Instant::now();
        assert!(store.get(&layout::header(), 1 << 20).await.is_err());
        assert!(began.elapsed() < Duration::from_millis(200));
        // The process goes on with everything else.
        let other = tokio::task::spawn_blocking(|| 7).await.unwrap();
        assert_eq!(other, 7);

        // The server is back.
        drop(std::fs::OpenOptions::new().write(true).open(&fifo).unwrap());
        let answers = async { while store.get(&layout::header(), 1 << 20).await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(60), answers)
            .await
            .unwrap();
    });
}
