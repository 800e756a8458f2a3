//! What each command asks the coordinator for.

use seawall_proto::v1::{OperationState, StartBackupsResponse};

use crate::fake::{Coordinator, Script, backup_operation, run};

const HOLD: &str = "0193f9b0-0000-7000-8000-000000000001";

/// Runs a command and gives the one request of `method` that it sent.
async fn request_of(method: &str, args: &[&str]) -> String {
    let coordinator = Coordinator::start(Script {
        operation: backup_operation(OperationState::Succeeded, "serve"),
        start_backups: StartBackupsResponse {
            operations: vec![backup_operation(OperationState::Succeeded, "serve")],
            refused: vec![],
        },
        next_timestamp: 41,
        ..Default::default()
    });
    run(&coordinator.url(), args).await.result();
    coordinator.the_request(method)
}

/// All of `parts` stand in the request.
#[track_caller]
fn says(request: &str, parts: &[&str]) {
    for part in parts {
        assert!(request.contains(part), "no {part:?} in {request}");
    }
}

#[tokio::test]
async fn tablets_are_declared_changed_listed_and_forgotten() {
    let init = [
        "InitTablet",
        "--keyspace",
        "commerce",
        "--shard",
        "-80",
        "--type",
        "spare",
        "zone1-101",
    ];
    let request = request_of("Topology.InitTablet", &init).await;
    says(
        &request,
        &[
            "alias: \"zone1-101\"",
            "keyspace: \"commerce\"",
            "shard: \"-80\"",
            "Spare",
        ],
    );

    let change = ["ChangeTabletType", "zone1-101", "rdonly"];
    let request = request_of("Topology.ChangeTabletType", &change).await;
    says(&request, &["alias: \"zone1-101\"", "Rdonly"]);

    let request = request_of("Topology.ListTablets", &["ListTablets", "commerce/0"]).await;
    says(&request, &["keyspace: \"commerce\"", "shard: \"0\""]);
    let request = request_of("Topology.ListTablets", &["ListTablets", "commerce"]).await;
    says(&request, &["keyspace: \"commerce\"", "shard: \"\""]);

    let request = request_of("Topology.RemoveTablet", &["RemoveTablet", "zone1-101"]).await;
    says(&request, &["alias: \"zone1-101\""]);

    let request = request_of("Topology.GetHistory", &["GetHistory", "commerce/0"]).await;
    says(&request, &["keyspace: \"commerce\"", "shard: \"0\""]);
}

#[tokio::test]
async fn long_work_is_started_as_operations_with_ids_of_our_own() {
    let backup = [
        "Backup",
        "--concurrency",
        "2",
        "--no-wait",
        "--deadline",
        "1h",
        "zone1-102",
    ];
    let request = request_of("Operations.Start", &backup).await;
    says(
        &request,
        &[
            "id: \"0",
            "Backup(BackupSpec { alias: \"zone1-102\", concurrency: 2, no_wait: true, allow_primary: false",
            "timeout_ms: 3600000",
        ],
    );

    let restore = [
        "Restore",
        "zone1-103",
        "--backup",
        "2026-10-14.174640.zone1-102",
    ];
    let request = request_of("Operations.Start", &restore).await;
    says(
        &request,
        &[
            "Restore(RestoreSpec { alias: \"zone1-103\", backup: \"2026-10-14.174640.zone1-102\", empty_start: false, concurrency: 0",
        ],
    );
    let restore = ["Restore", "zone1-103", "--concurrency", "2"];
    let request = request_of("Operations.Start", &restore).await;
    says(&request, &["concurrency: 2"]);

    let primary = ["InitShardMaster", "commerce/0", "zone1-101"];
    let request = request_of("Operations.Start", &primary).await;
    says(
        &request,
        &["InitShardPrimary(", "shard: \"0\"", "alias: \"zone1-101\""],
    );

    let reparent = [
        "PlannedReparentShard",
        "commerce/0",
        "--new-primary",
        "zone1-102",
    ];
    let request = request_of("Operations.Start", &reparent).await;
    says(
        &request,
        &["PlannedReparent(", "new_primary: \"zone1-102\""],
    );

    let remove = [
        "RemoveBackup",
        "commerce/0",
        "2026-10-14.174640.zone1-102",
        "--force",
    ];
    let request = request_of("Operations.Start", &remove).await;
    says(
        &request,
        &[
            "RemoveBackup(",
            "backup: \"2026-10-14.174640.zone1-102\", force: true",
        ],
    );

    let cancel = [
        "CancelOperation",
        "0193f9b0-0000-7000-8000-000000000001",
        "--reason",
        "too late",
    ];
    let request = request_of("Operations.Cancel", &cancel).await;
    says(
        &request,
        &[
            "0193f9b0-0000-7000-8000-000000000001",
            "reason: \"too late\"",
        ],
    );
}

#[tokio::test]
async fn many_shards_are_backed_up_by_one_request() {
    let request = request_of(
        "Operations.StartBackups",
        &["BackupShard", "commerce/0", "--allow-primary"],
    )
    .await;
    says(
        &request,
        &[
            "keyspace: \"commerce\", shard: \"0\", concurrency: 4",
            "allow_primary: true",
        ],
    );
    let request = request_of("Operations.StartBackups", &["BackupKeyspace", "commerce"]).await;
    says(&request, &["keyspace: \"commerce\", shard: \"\""]);
}

#[tokio::test]
async fn the_backup_lock_is_taken_released_and_broken_by_hand() {
    let acquire = [
        "backup-lock",
        "--acquire",
        "--reason",
        "a copy",
        "--for",
        "2h",
        "--scope",
        "commerce",
    ];
    let request = request_of("Locks.Acquire", &acquire).await;
    says(
        &request,
        &[
            "reason: \"a copy\"",
            "duration_ms: 7200000",
            "keyspace: \"commerce\"",
        ],
    );
    let request = request_of("Locks.Release", &["backup-lock", "--release", "--id", HOLD]).await;
    says(&request, &[HOLD]);
    let request = request_of(
        "Locks.Break",
        &[
            "backup-lock",
            "--break",
            "--scope",
            "commerce/0",
            "--reason",
            "gone home",
        ],
    )
    .await;
    says(
        &request,
        &[
            "id: \"\"",
            "keyspace: \"commerce\", shard: \"0\"",
            "reason: \"gone home\"",
            "operator: \"",
        ],
    );
}

#[tokio::test]
async fn a_fetched_timestamp_is_what_is_fast_forwarded_to() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backup.timestamp");
    let file = file.to_str().unwrap();
    let forward = ["timestamp", "fast-forward", "--file", file];
    for (count, last) in [("1", "timestamp: 41"), ("3", "timestamp: 43")] {
        let fetch = ["timestamp", "fetch", "--file", file, "--count", count];
        request_of("Timestamps.Fetch", &fetch).await;
        let request = request_of("Timestamps.FastForward", &forward).await;
        says(&request, &[last]);
    }
}

#[tokio::test]
async fn a_backup_is_verified_tested_and_marked_as_broken() {
    let name = "2026-10-14.174640.zone1-102";
    let verify = [
        "Verify",
        "commerce/0",
        name,
        "--percent",
        "5",
        "--on",
        "zone1-102",
    ];
    let request = request_of("Operations.Start", &verify).await;
    says(
        &request,
        &["Verify(", name, "percent: 5", "alias: \"zone1-102\""],
    );
    let whole = request_of("Operations.Start", &["Verify", "commerce/0", name]).await;
    says(&whole, &["percent: 100", "alias: \"\""]);

    let test = ["TestRestore", "commerce/0", name, "--on", "zone1-103"];
    let request = request_of("Operations.Start", &test).await;
    says(&request, &["TestRestore(", name, "alias: \"zone1-103\""]);

    let mark = [
        "MarkBackupBroken",
        "commerce/0",
        name,
        "--reason",
        "wrong data",
    ];
    let request = request_of("Catalogue.MarkBackupBroken", &mark).await;
    says(&request, &[name, "reason: \"wrong data\"", "undo: false"]);
    let undo = ["MarkBackupBroken", "commerce/0", name, "--undo"];
    let request = request_of("Catalogue.MarkBackupBroken", &undo).await;
    says(&request, &["undo: true"]);

    let restore = ["Restore", "zone1-102", "--backup", name, "--allow-broken"];
    let request = request_of("Operations.Start", &restore).await;
    says(&request, &["allow_broken: true"]);
}
