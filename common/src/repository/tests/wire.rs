//! What goes to a cloud over the wire and what is made of its answers, with a stub in its place.
//!
//! The stub knows puts and gets only. It proves nothing about a cloud: real servers of S3 and Azure
//! are in the whole-system tests, and there is none for Google's.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use object_store::path::Path;

use super::{
    super::{cloud, location::Cloud, store::Store},
    *,
};

const CLOUDS: [Cloud; 3] = [Cloud::S3, Cloud::Google, Cloud::Azure];

#[derive(Default)]
struct Stub {
    objects: BTreeMap<String, Bytes>,
    /// Answered first, instead of what was asked for; the last of them first.
    answers: Vec<(u16, &'static str)>,
    requests: usize,
    /// Puts that would have overwritten what is there.
    unconditional: usize,
}

type Shared = Arc<Mutex<Stub>>;

async fn answer(
    State(stub): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut stub = stub.lock().unwrap();
    stub.requests += 1;
    if let Some((status, body)) = stub.answers.pop() {
        return (StatusCode::from_u16(status).unwrap(), body).into_response();
    }
    let key = uri.path().replace("%2F", "/");
    let found = stub.objects.get(&key).cloned();
    let meta = |bytes: usize| {
        [
            ("etag", "\"e\"".to_owned()),
            ("last-modified", "Wed, 25 Nov 2026 12:00:00 GMT".to_owned()),
            ("content-length", bytes.to_string()),
        ]
    };
    match (method, found) {
        (Method::PUT, found) => {
            let says = |name: &str, value: &str| headers.get(name).is_some_and(|v| v == value);
            if !says("if-none-match", "*") && !says("x-goog-if-generation-match", "0") {
                stub.unconditional += 1;
            }
            if found.is_some() {
                return StatusCode::PRECONDITION_FAILED.into_response();
            }
            stub.objects.insert(key, body);
            (StatusCode::CREATED, [("etag", "\"e\"")]).into_response()
        }
        (_, Some(bytes)) => (StatusCode::OK, meta(bytes.len()), bytes).into_response(),
        (_, None) => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn start(cloud: Cloud) -> (Shared, Store) {
    let stub = Shared::default();
    let router = Router::new().fallback(answer).with_state(Arc::clone(&stub));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = RepositoryConfig {
        endpoint: Some(format!("http://{}", listener.local_addr().unwrap())),
        ..RepositoryConfig::at("stub")
    };
    tokio::spawn(async move { axum::serve(listener, router).await });
    let prefix = Path::from("a");
    let store = cloud::open_with(&config, cloud, "bucket", &prefix, true)
        .await
        .unwrap();
    (stub, Store::over(store))
}

#[tokio::test]
async fn i2_every_put_to_a_cloud_is_create_only() {
    for cloud in CLOUDS {
        let (stub, store) = start(cloud).await;
        let key = Path::from("keyspaces/commerce/0/x");
        for _ in 0..2 {
            store.put_create(&key, "one".into()).await.unwrap();
        }
        let error = store.put_create(&key, "two".into()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{cloud:?}: {error}");
        assert!(!store.put_if_absent(&key, "two".into()).await.unwrap());
        assert_eq!(store.get(&key, 9).await.unwrap(), "one", "{cloud:?}");
        let stub = stub.lock().unwrap();
        assert_eq!(stub.unconditional, 0, "{cloud:?}");
        let names: Vec<&String> = stub.objects.keys().collect();
        assert_eq!(names, ["/bucket/a/keyspaces/commerce/0/x"], "{cloud:?}");
    }
}

#[tokio::test]
async fn a_cloud_that_is_busy_is_asked_again_by_us_alone() {
    for cloud in CLOUDS {
        let (stub, store) = start(cloud).await;
        stub.lock().unwrap().answers = vec![
            (500, "<Error><Code>InternalError</Code></Error>"),
            (429, "<Error><Code>TooManyRequests</Code></Error>"),
            (503, "<Error><Code>SlowDown</Code></Error>"),
        ];
        store
            .put_create(&Path::from("x"), "one".into())
            .await
            .unwrap();
        // Three that failed, the put, and a look whether it is there.
        assert_eq!(stub.lock().unwrap().requests, 5, "{cloud:?}");
    }
}

#[tokio::test]
async fn what_a_cloud_refuses_is_not_asked_again_and_told_in_one_line() {
    const DENIED: &str = "<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code>\
                          <Message>No\nway.</Message><HostId>x</HostId></Error>";
    for (status, body, kind, says) in [
        (403, DENIED, ErrorKind::Refused, "AccessDenied: No way."),
        (
            403,
            DENIED,
            ErrorKind::Refused,
            "permission to create objects",
        ),
        (
            400,
            DENIED,
            ErrorKind::Refused,
            "region, endpoint and credentials",
        ),
        (501, DENIED, ErrorKind::Internal, "knows this request"),
        (
            404,
            "<Error><Code>NoSuchBucket</Code></Error>",
            ErrorKind::Refused,
            "Create the bucket",
        ),
        (
            403,
            "<Error><Code>SignatureDoesNotMatch</Code></Error>",
            ErrorKind::Refused,
            "does not accept the credentials",
        ),
    ] {
        for cloud in CLOUDS {
            let (stub, store) = start(cloud).await;
            stub.lock().unwrap().answers = vec![(status, body)];
            let put = store.put_create(&Path::from("x"), "one".into()).await;
            let error = put.unwrap_err();
            let text = error.to_string();
            assert_eq!(error.kind(), kind, "{cloud:?}: {text}");
            assert!(text.contains(says), "{cloud:?}: {text}");
            assert!(!text.contains('\n') && !text.contains('<'), "{text}");
            assert_eq!(stub.lock().unwrap().requests, 1, "{cloud:?}: {text}");
        }
    }
}
