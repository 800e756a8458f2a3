use std::{
    fs::File,
    io::{Read as _, Seek as _},
    sync::Arc,
};

use super::*;

fn replaced(authority: &Authority, valid_for_s: i64) {
    authority.issue(
        "server",
        &Wanted {
            valid_for_s,
            ..Wanted::role("coordinator/1")
        },
    );
}

#[tokio::test]
async fn new_connections_use_the_new_files_and_old_ones_go_on() {
    let authority = Authority::new();
    replaced(&authority, DAY_S);
    let tls = Tls::load(authority.files("server")).unwrap();
    let first = tls.certificate_expires_unix_s().unwrap();
    let address = serve(tls.clone(), ConnectionLimits::new(8)).await;
    let operator = authority.tls("operator/alice");
    let mut before = client(&operator, "https", address);
    before.status(ClusterStatusRequest {}).await.unwrap();

    let watched = tls.clone();
    let watching = tokio::spawn(async move { watched.watch(Duration::from_millis(20)).await });
    replaced(&authority, 3 * DAY_S);
    let is_renewed = async {
        while tls.certificate_expires_unix_s().unwrap() < first + DAY_S {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, is_renewed).await.unwrap();
    before.status(ClusterStatusRequest {}).await.unwrap();
    call(&operator, "https", address).await.unwrap();
    watching.abort();
}

#[tokio::test]
async fn what_cannot_be_used_leaves_the_old_files_in_force() {
    let authority = Authority::new();
    replaced(&authority, DAY_S);
    let files = authority.files("server");
    let tls = Tls::load(files.clone()).unwrap();
    let first = tls.certificate_expires_unix_s();
    let address = serve(tls.clone(), ConnectionLimits::new(8)).await;

    std::fs::write(files.cert_file.as_ref().unwrap(), "nonsense").unwrap();
    assert!(tls.reload().is_err());
    replaced(&authority, -DAY_S);
    let error = tls.reload().unwrap_err();
    assert!(error.message().contains("has expired"), "{error}");
    std::fs::remove_file(files.key_file.as_ref().unwrap()).unwrap();
    assert!(tls.reload().is_err());

    assert_eq!(tls.certificate_expires_unix_s(), first);
    let operator = authority.tls("operator/alice");
    call(&operator, "https", address).await.unwrap();
}

/// The log of this thread, until the guard is dropped.
fn log() -> (File, tracing::subscriber::DefaultGuard) {
    let file = tempfile::tempfile().unwrap();
    let writer = Arc::new(file.try_clone().unwrap());
    let logger = tracing_subscriber::fmt().with_writer(writer).finish();
    (file, tracing::subscriber::set_default(logger))
}

fn count(mut log: &File, said: &str) -> usize {
    let mut text = String::new();
    log.rewind().unwrap();
    log.read_to_string(&mut text).unwrap();
    text.matches(said).count()
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_ends_is_told_of_once_a_day() {
    let authority = Authority::new();
    let day = Duration::from_secs(24 * 3600);
    for (valid_for_s, expires_in, has_expired) in
        [(20 * DAY_S, 0, 0), (13 * DAY_S, 3, 0), (-DAY_S, 0, 3)]
    {
        replaced(&authority, valid_for_s);
        let (log, _guard) = log();
        let tls = Tls::load(authority.files("server")).unwrap();
        timeout(day * 5 / 2, tls.watch(LOOK_EVERY))
            .await
            .unwrap_err();
        assert_eq!(count(&log, "expires in"), expires_in, "{valid_for_s}");
        assert_eq!(count(&log, "has expired"), has_expired, "{valid_for_s}");
    }
}

#[tokio::test]
async fn a_program_that_runs_on_tells_when_its_certificate_comes_near_its_end() {
    let authority = Authority::new();
    replaced(&authority, EXPIRES_SOON_S + 2);
    let (log, _guard) = log();
    let tls = Tls::load(authority.files("server")).unwrap();
    assert_eq!(count(&log, "expires in"), 0);
    let is_told = async {
        while count(&log, "expires in 335 hours") == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = tls.watch(Duration::from_millis(50)) => {}
        told = timeout(PATIENCE, is_told) => told.unwrap(),
    }
}
