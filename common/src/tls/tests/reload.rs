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
