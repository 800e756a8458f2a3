//! `RemoveRecipient` and `ListWriters`: what they ask for, what they print, what they refuse.

use seawall_proto::v1::{Operation, OperationState, Tablet};
use serde_json::json;
use tonic::Status;

use crate::fake::{Coordinator, Script, commerce, run};

const FINGERPRINT: &str = "0123456789abcdef";

fn removal(state: OperationState, result: &str, error: &str) -> Script {
    Script {
        operation: Operation {
            shard: Some(commerce()),
            state: state.into(),
            result: result.into(),
            error: error.into(),
            ..Default::default()
        },
        ..Default::default()
    }
}

#[tokio::test]
async fn a_recipient_is_removed_by_its_fingerprint_or_its_public_key() {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMjA/Hq0ltCcBthQXYD2jYB1gdGB0UvTp7AoF/SfjZPL";
    let with_comment = format!("{key} colleague");
    for (given, fingerprint) in [
        (FINGERPRINT, FINGERPRINT),
        (key, "4f37f186ec5276de"),
        (&with_comment, "4f37f186ec5276de"),
    ] {
        let script = removal(OperationState::Succeeded, "key files deleted: 3", "");
        let coordinator = Coordinator::start(script);
        let done = run(&coordinator.url(), &["RemoveRecipient", given]).await;
        assert_eq!(done.result(), "commerce/0: key files deleted: 3");
        let request = coordinator.the_request("Operations.StartRemoveRecipient");
        let asked = format!("recipient: \"{fingerprint}\"");
        assert!(request.contains(&asked), "{request}");
    }
}

#[tokio::test]
async fn a_removal_that_fails_or_is_refused_says_so_in_one_line() {
    let script = removal(OperationState::Failed, "", "kept: 2, each the last one.");
    let coordinator = Coordinator::start(script);
    let args = ["remove-recipient", FINGERPRINT];
    let failed = run(&coordinator.url(), &args).await;
    let line = failed.failure(1);
    assert!(line.contains("commerce/0: kept: 2"), "{line}");
    // Programs are told of every operation all the same.
    let json = [&args[..], &["-o", "json"]].concat();
    let failed = run(&coordinator.url(), &json).await;
    assert_eq!(failed.code, 1);
    let printed: serde_json::Value = serde_json::from_str(&failed.stdout).unwrap();
    assert_eq!(printed["operations"][0]["state"], "failed");

    let unknown = Status::not_found("recipient has no key file in the repository");
    coordinator
        .script
        .lock()
        .unwrap()
        .refusals
        .push_back(unknown);
    let refused = run(&coordinator.url(), &args).await;
    assert!(
        refused.failure(1).contains("has no key file"),
        "{refused:?}"
    );
    for malformed in ["nobody", "0123", "AGE-SECRET-KEY-1QQQ"] {
        let refused = run(&coordinator.url(), &["RemoveRecipient", malformed]).await;
        let line = refused.failure(2);
        assert!(!line.contains("KEY-1QQQ"), "a secret is repeated: {line}");
    }
}

#[tokio::test]
async fn writers_are_listed_for_pins_without_those_that_have_no_key() {
    let tablet = |alias: &str, key: &str| Tablet {
        alias: alias.into(),
        writer_key: key.into(),
        ..Default::default()
    };
    let coordinator = Coordinator::start(Script {
        tablets: vec![tablet("zone1-101", "0a0a"), tablet("zone1-102", "")],
        ..Default::default()
    });
    let names = run(&coordinator.url(), &["ListWriters", "-o", "name"]).await;
    assert_eq!(names.result(), "0a0a");
    let printed = run(&coordinator.url(), &["list-writers", "-o", "json"]).await;
    let expected = json!({"writers": [
        {"alias": "zone1-101", "writer_key": "0a0a"},
        {"alias": "zone1-102", "writer_key": null},
    ]});
    assert_eq!(printed.json(), expected);
}
