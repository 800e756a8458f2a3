//! What stands in the audit log.

use std::io::{Read as _, Seek as _};

use tracing_subscriber::{EnvFilter, fmt};

use super::*;

/// The lines that come of these requests.
async fn lines(access: &Access, requests: Vec<Request<Body>>) -> Vec<serde_json::Value> {
    let mut file = tempfile::tempfile().unwrap();
    let writer = Arc::new(file.try_clone().unwrap());
    let filter = EnvFilter::new("audit=info");
    let builder = fmt().json().flatten_event(true).with_env_filter(filter);
    let guard = tracing::subscriber::set_default(builder.with_writer(writer).finish());
    for request in requests {
        let _ = pass(access, request).await;
    }
    drop(guard);
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

#[tokio::test]
async fn without_mutual_tls_nobody_goes_unnoted_by_saying_that_a_call_was_passed_on() {
    let peer = Peer::new(SocketAddr::from(PEER), None);
    let request = |is_claimed: bool| {
        let removal = v1::RemoveTabletRequest {
            alias: "zone1-101".to_owned(),
        };
        let mut request = call("Topology/RemoveTablet", &peer, framed(&removal));
        if is_claimed {
            let headers = request.headers_mut();
            headers.insert(FORWARDED_KEY, "2".parse().unwrap());
            headers.insert(CALLER_KEY, "operator/alice".parse().unwrap());
        }
        request
    };
    let access = Access::new(Tls::off().unwrap(), ample());
    let lines = lines(&access, vec![request(false), request(true)]).await;
    assert_eq!(lines.len(), 2, "{lines:?}");
    for line in lines {
        assert_eq!(line["caller"], "192.0.2.1:7");
        assert_eq!(line["object"], "zone1-101");
        assert_eq!(line["result"], "ok");
    }
}

#[tokio::test]
async fn what_changes_something_leaves_one_line_that_says_who_what_and_what_came_of_it() {
    let access = Access::new(rules::demanding(), ample());
    let removal = || {
        framed(&v1::RemoveTabletRequest {
            alias: "zone1-101\nfake: line".to_owned(),
        })
    };
    let of = |who: &str| call("Topology/RemoveTablet", &peer(who), removal());
    let mut passed_on = of("coordinator/2");
    let headers = passed_on.headers_mut();
    headers.insert(FORWARDED_KEY, "2".parse().unwrap());
    headers.insert(CALLER_KEY, "operator/alice".parse().unwrap());
    let reading = call(
        "Topology/ListTablets",
        &peer("operator/alice"),
        Bytes::new(),
    );
    let broken = call(
        "Topology/RemoveTablet",
        &peer("operator/alice"),
        Bytes::new(),
    );
    let requests = vec![
        of("operator/alice"),
        of("viewer/bob"),
        passed_on,
        reading,
        broken,
    ];
    let lines = lines(&access, requests).await;
    let text = |line: usize, field: &str| lines[line][field].as_str().unwrap().to_owned();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(text(0, "target"), "audit");
    assert_eq!(text(0, "message"), "Topology/RemoveTablet");
    assert_eq!(text(0, "caller"), "operator/alice");
    assert_eq!(text(0, "object"), "zone1-101 fake: line");
    assert_eq!(text(0, "result"), "ok");
    assert_eq!(text(1, "caller"), "viewer/bob");
    assert!(
        text(1, "result").starts_with("PermissionDenied: "),
        "{lines:?}"
    );
    assert!(
        text(2, "result").starts_with("InvalidArgument: "),
        "{lines:?}"
    );
}
