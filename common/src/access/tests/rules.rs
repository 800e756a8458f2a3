use super::*;
use crate::tls::{Role, TlsConfig};

/// With mutual TLS: the files are never looked at here.
pub fn demanding() -> Tls {
    let directory = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let file = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    Tls::load(TlsConfig {
        cert_file: file("crt", certificate.pem()),
        key_file: file("key", key.serialize_pem()),
        ca_file: file("ca", certificate.pem()),
        http_client_auth: false,
    })
    .unwrap()
}

fn remove(alias: &str) -> Bytes {
    framed(&v1::RemoveTabletRequest {
        alias: alias.to_owned(),
    })
}

const ALL: [&str; 5] = [
    "coordinator/1",
    "agent/zone1-101",
    "operator/alice",
    "viewer/grafana",
    "nobody",
];

#[tokio::test]
async fn each_role_may_do_what_is_its_own_and_the_refusal_names_both_roles() {
    let access = Access::new(demanding(), ample());
    for (method, taken) in [
        ("Topology/ListTablets", &ALL[..4]),
        (
            "Topology/RemoveTablet",
            &["coordinator/1", "operator/alice"],
        ),
        (
            "Operations/Start",
            &["coordinator/1", "agent/zone1-101", "operator/alice"],
        ),
        ("Agents/Session", &["agent/zone1-101"]),
        ("Raft/Vote", &["coordinator/1"]),
        ("Agent/Execute", &["coordinator/1"]),
    ] {
        for who in ALL {
            let request = call(method, &peer(who), framed(&v1::Tablet::default()));
            let (answer, seen) = pass(&access, request).await;
            let reached = seen.lock().unwrap().len();
            if taken.contains(&who) {
                answer.unwrap_or_else(|e| panic!("{who} {method}: {e}"));
                assert_eq!(reached, 1);
                continue;
            }
            let refusal = answer.unwrap_err();
            assert_eq!(refusal.code(), Code::PermissionDenied, "{who} {method}");
            assert!(refusal.message().contains("needs the role"), "{refusal}");
            if who != "nobody" {
                assert!(refusal.message().contains(who), "{refusal}");
            }
            assert_eq!(reached, 0, "{who} has reached {method}");
        }
    }
}

#[tokio::test]
async fn a_caller_whom_a_member_names_is_believed_from_a_member_alone() {
    let access = Access::new(demanding(), ample());
    let passed_on = |by: &str, caller: &str| {
        let mut request = call("Topology/RemoveTablet", &peer(by), remove("zone1-101"));
        let headers = request.headers_mut();
        headers.insert(FORWARDED_KEY, "2".parse().unwrap());
        headers.insert(CALLER_KEY, caller.parse().unwrap());
        request
    };
    let (answer, seen) = pass(&access, passed_on("coordinator/2", "operator/alice")).await;
    answer.unwrap();
    let alice = Identity::new(Role::Operator, "alice").unwrap();
    assert_eq!(seen.lock().unwrap()[0].1, Caller::Known(alice));

    for (by, caller) in [
        ("coordinator/2", "viewer/bob"),
        ("viewer/bob", "operator/alice"),
        ("agent/zone1-101", "operator/alice"),
    ] {
        let (answer, _) = pass(&access, passed_on(by, caller)).await;
        assert_eq!(answer.unwrap_err().code(), Code::PermissionDenied, "{by}");
    }
    // A caller that cannot be read, or is not named at all, has no rights; the member's least of all.
    let mut unnamed = passed_on("coordinator/2", "operator/alice");
    unnamed.headers_mut().remove(CALLER_KEY);
    for request in [passed_on("coordinator/2", "king/alice"), unnamed] {
        let (answer, _) = pass(&access, request).await;
        let refusal = answer.unwrap_err();
        assert_eq!(refusal.code(), Code::PermissionDenied);
        assert!(
            refusal.message().contains("nobody that coordinator/2"),
            "{refusal}"
        );
    }
    // What it has made up does not travel on either.
    let (answer, seen) = pass(&access, passed_on("operator/alice", "coordinator/1")).await;
    answer.unwrap();
    assert_eq!(seen.lock().unwrap()[0].1.to_string(), "operator/alice");
}

#[tokio::test]
async fn without_mutual_tls_everybody_may_do_everything() {
    let access = Access::new(Tls::off().unwrap(), ample());
    let peer = Peer::new(SocketAddr::from(PEER), None);
    let request = call("Topology/RemoveTablet", &peer, remove("zone1-101"));
    let (answer, seen) = pass(&access, request).await;
    answer.unwrap();
    assert_eq!(seen.lock().unwrap()[0].1.to_string(), "192.0.2.1:7");
}

#[tokio::test]
async fn what_is_called_is_told_to_whatever_comes_after_the_layer() {
    let access = Access::new(Tls::off().unwrap(), ample());
    let peer = Peer::new(SocketAddr::from(PEER), None);
    for (path, expected) in [
        ("/seawall.v1.Operations/Watch", Some("Operations/Watch")),
        ("/grpc.health.v1.Health/Check", None),
    ] {
        let seen = Arc::new(std::sync::Mutex::new(None));
        let sees = seen.clone();
        let service = service_fn(move |request: Request<Body>| {
            let called = Method::of_request(&request).map(|method| method.name);
            *sees.lock().unwrap() = Some(called);
            async { Ok::<_, Infallible>(Response::new(Body::empty())) }
        });
        let request = Request::builder().uri(format!("http://a{path}"));
        let request = request.extension(peer.clone()).body(Body::empty());
        let mut guarded = access.layer().layer(service);
        guarded.call(request.unwrap()).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), Some(expected), "{path}");
    }
}

#[test]
fn an_agent_speaks_for_its_own_tablet_alone() {
    let agent = Caller::Known("agent/zone1-101".parse().unwrap());
    agent.check_alias("zone1-101").unwrap();
    let refusal = agent.check_alias("zone1-102").unwrap_err();
    assert!(refusal.message().contains("zone1-101"), "{refusal}");
    let operator = Caller::Known("operator/alice".parse().unwrap());
    operator.check_alias("zone1-102").unwrap();
}

#[tokio::test]
async fn there_are_only_so_many_calls_and_watches_and_members_are_not_counted() {
    let access = Access::new(Tls::off().unwrap(), limits(3, 2, 1));
    let (one, other) = (
        Peer::new(SocketAddr::from(PEER), None),
        Peer::new(SocketAddr::from(PEER), None),
    );
    let list = |peer: &Peer| call("Topology/ListTablets", peer, Bytes::new());
    let watch = |peer: &Peer| call("Topology/WatchServing", peer, Bytes::new());
    let session = |peer: &Peer| call("Agents/Session", peer, Bytes::new());
    let mut open = Vec::new();
    for request in [
        list(&one),
        list(&one),
        list(&other),
        watch(&one),
        session(&one),
    ] {
        open.push(pass(&access, request).await.0.unwrap());
    }
    assert_eq!(access.numbers().requests(), 3);
    for (request, says) in [
        (list(&one), "2 calls are under way on this connection"),
        (list(&other), "3 calls are under way already"),
        (watch(&other), "1 watches are under way already"),
        (session(&other), "1 streams of agents are under way already"),
        // An agent is bounded as well.
        (
            call("Agent/Execute", &other, Bytes::new()),
            "3 calls are under way already",
        ),
    ] {
        let refusal = pass(&access, request).await.0.unwrap_err();
        assert_eq!(refusal.code(), Code::ResourceExhausted);
        assert!(refusal.message().contains(says), "{refusal}");
    }
    let vote = call("Raft/Vote", &one, Bytes::new());
    pass(&access, vote).await.0.unwrap();

    // A place is free as soon as its answer has gone.
    open.clear();
    assert_eq!(access.numbers().requests(), 0);
    pass(&access, watch(&other)).await.0.unwrap();
    pass(&access, session(&other)).await.0.unwrap();
    assert_eq!(access.numbers().refused(), 5);
}

#[tokio::test]
async fn what_is_no_request_is_refused_before_any_service() {
    let access = Access::new(Tls::off().unwrap(), ample());
    let peer = Peer::new(SocketAddr::from(PEER), None);
    let huge = vec![0; REQUEST_BYTES_MAX + 6];
    for (bytes, code) in [
        (Bytes::new(), Code::InvalidArgument),
        (
            Bytes::from_static(&[0, 0, 0, 0, 9, 1]),
            Code::InvalidArgument,
        ),
        (Bytes::from_static(&[1, 0, 0, 0, 0]), Code::InvalidArgument),
        (
            Bytes::from_static(&[0, 0, 0, 0, 1, 0xff]),
            Code::InvalidArgument,
        ),
        (huge.into(), Code::ResourceExhausted),
    ] {
        let request = call("Topology/RemoveTablet", &peer, bytes);
        let (answer, seen) = pass(&access, request).await;
        assert_eq!(answer.unwrap_err().code(), code);
        assert_eq!(seen.lock().unwrap().len(), 0);
    }
}
