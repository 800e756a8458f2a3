//! Dry runs of removals: what they ask for, what they print, and what they refuse.

use seawall_common::Error;
use seawall_proto::v1::{
    BackupState, PlanRecipientRemovalResponse, PlanRemovalResponse, RecipientKeys,
    ShardRecipientRemoval,
};
use serde_json::json;

use crate::fake::{Coordinator, Script, backup, commerce, run};

const NAME: &str = "2026-10-14.174640.zone1-102";
const RECIPIENT: &str = "0123456789abcdef";

fn script(staying: u64) -> Script {
    let keys = |backup: &str, going, staying| RecipientKeys {
        backup: backup.into(),
        going,
        staying,
    };
    Script {
        removal: PlanRemovalResponse {
            backup: Some(backup(NAME, BackupState::Complete)),
            complete_left: 1,
            grace_ms: 24 * 3600 * 1000,
        },
        recipient_removal: PlanRecipientRemovalResponse {
            shards: vec![ShardRecipientRemoval {
                shard: Some(commerce()),
                backups: vec![
                    keys(NAME, 2, 0),
                    keys("2026-10-15.174640.zone1-102", 0, staying),
                ],
                waits_for: "backup of zone1-101 holds the backup lock of commerce/0".into(),
            }],
        },
        ..Default::default()
    }
}

#[tokio::test]
async fn a_dry_run_of_a_removal_says_what_would_be_left_and_removes_nothing() {
    let coordinator = Coordinator::start(script(0));
    let args = ["RemoveBackup", "commerce/0", NAME, "--dry-run"];
    let printed = run(&coordinator.url(), &args).await;
    let lines: Vec<&str> = printed.result().lines().collect();
    assert_eq!(
        lines,
        [
            "would remove 2026-10-14.174640.zone1-102: complete, 3.0 GiB, taken \
             2026-10-14T17:48:15Z",
            "1 complete backup would be left",
            "what nobody else needs of it would be deleted after 1d00h",
        ]
    );
    let request = coordinator.the_request("Operations.PlanRemoval");
    assert!(request.contains("force: false"), "{request}");
    assert_eq!(coordinator.asked().len(), 1, "{:?}", coordinator.asked());

    let json = [&args[..], &["--force", "-o", "json"]].concat();
    let printed = run(&coordinator.url(), &json).await.json();
    assert_eq!(printed["backup"]["name"], NAME);
    assert_eq!(printed["complete_left"], 1);
    assert_eq!(printed["grace_ms"], 86_400_000);
    assert!(coordinator.asked()[1].contains("force: true"));

    let pinned = Error::refused(format!("{NAME} of commerce/0 is pinned")).hint("Run UnpinBackup.");
    coordinator
        .script
        .lock()
        .unwrap()
        .refusals
        .push_back(pinned.into());
    assert_eq!(
        run(&coordinator.url(), &args).await.failure(1),
        format!(
            "seawallctl: RemoveBackup commerce/0 {NAME} --dry-run: {NAME} of commerce/0 is pinned. \
             Run UnpinBackup."
        )
    );
}

#[tokio::test]
async fn a_dry_run_of_a_recipients_removal_names_its_key_files_and_deletes_none() {
    let coordinator = Coordinator::start(script(0));
    let args = ["RemoveRecipient", RECIPIENT, "--dry-run"];
    let printed = run(&coordinator.url(), &args).await.result().to_owned();
    for part in [
        "commerce/0: it would wait: backup of zone1-101 holds the backup lock",
        "key files that would be deleted: 2",
    ] {
        assert!(printed.contains(part), "no {part} in {printed}");
    }
    let row = printed.lines().find(|line| line.contains(NAME)).unwrap();
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(row, ["commerce/0", NAME, "2", "0"]);
    let request = coordinator.the_request("Operations.PlanRecipientRemoval");
    assert!(request.contains(RECIPIENT), "{request}");
    assert_eq!(coordinator.asked().len(), 1, "{:?}", coordinator.asked());
}

#[tokio::test]
async fn keys_that_would_stay_make_a_dry_run_fail_as_the_removal_would() {
    let coordinator = Coordinator::start(script(3));
    let args = ["RemoveRecipient", RECIPIENT, "--dry-run", "-o", "json"];
    let ended = run(&coordinator.url(), &args).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    let why = "key files that would stay: 3, each the last one of its session";
    assert!(ended.stderr.contains(why), "{}", ended.stderr);
    let printed: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(printed["recipient"], RECIPIENT);
    assert_eq!(
        printed["shards"][0]["backups"],
        json!([
            {"backup": NAME, "going": 2, "staying": 0},
            {"backup": "2026-10-15.174640.zone1-102", "going": 0, "staying": 3},
        ])
    );
}

#[tokio::test]
async fn a_dry_run_begins_no_operation_that_could_be_detached() {
    let coordinator = Coordinator::start(script(0));
    for args in [
        &["RemoveBackup", "commerce/0", NAME][..],
        &["RemoveRecipient", RECIPIENT],
    ] {
        let args = [args, &["--dry-run", "--detach"]].concat();
        run(&coordinator.url(), &args).await.failure(2);
    }
    assert!(coordinator.asked().is_empty());
}
