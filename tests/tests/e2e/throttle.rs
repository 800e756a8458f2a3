//! How fast an agent may transfer is decided at any time, holds within a second, and is kept.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use seawall_proto::v1::OperationState;
use seawall_tests::harness::{
    Cluster, ClusterPlan, http,
    wait::{PATIENCE, wait_for, wait_until},
};
use serde_json::Value;

const PRIMARY: &str = "zone1-101";
const REPLICA: &str = "zone1-102";
/// Bytes that nothing compresses: at 1 MB/s they take most of a minute.
const ROWS: u64 = 40_000;

async fn shard_with_much_data(name: &str, coordinators: u64) -> Result<Cluster> {
    let plan = ClusterPlan::new(name).coordinators(coordinators);
    let mut cluster = plan.set_agents("transfer_limit", "4MB").start().await?;
    cluster.start_small_shard(2).await?;
    let primary = &cluster.tablet(PRIMARY)?.server;
    primary
        .execute(&[
            "CREATE DATABASE d",
            "USE d",
            "CREATE TABLE d.t (id INT PRIMARY KEY, noise VARBINARY(1000))",
            &format!("INSERT INTO d.t SELECT seq, RANDOM_BYTES(1000) FROM seq_1_to_{ROWS}"),
        ])
        .await?;
    cluster.wait_caught_up(REPLICA, PRIMARY).await?;
    Ok(cluster)
}

async fn status(cluster: &Cluster) -> Result<Value> {
    let printed = cluster
        .ctl(&["-o", "json", "BackupStatus", REPLICA])
        .await?;
    Ok(serde_json::from_str(&printed.done()?)?)
}

async fn throttle(cluster: &Cluster, rate: &str) -> Result<()> {
    let set = cluster.ctl(&["BackupThrottle", REPLICA, rate]).await?;
    set.done().map(drop)
}

/// What has gone to the repository since the agent began, by its own metrics.
async fn sent(cluster: &Cluster) -> Result<u64> {
    let address = cluster.tablet(REPLICA)?.http_address();
    let metrics = http::get(&format!("http://{address}/metrics")).await?;
    let name = "seawall_agent_transfer_bytes_total{direction=\"put\"} ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    Ok(line
        .with_context(|| format!("no {name} in {metrics}"))?
        .parse()?)
}

/// Bytes that are sent in a second, looked at for so long.
async fn rate(cluster: &Cluster, span: Duration) -> Result<u64> {
    let (before, began) = (sent(cluster).await?, Instant::now());
    wait_until("time passes", span * 2, || async {
        Ok(began.elapsed() >= span)
    })
    .await?;
    let bytes = sent(cluster).await? - before;
    Ok((bytes as f64 / began.elapsed().as_secs_f64()) as u64)
}

async fn wait_copying(cluster: &Cluster, operation: &str) -> Result<Value> {
    wait_for("the copy is under way", PATIENCE, || async {
        let status = status(cluster).await?;
        let transfer = status["transfers"][0].clone();
        let is_copying = transfer["operation_id"] == operation && transfer["step"] == "copy";
        let has_moved = transfer["bytes_done"]
            .as_u64()
            .is_some_and(|bytes| bytes > 0);
        Ok((is_copying && has_moved).then_some(transfer))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_backup_is_slowed_paused_and_let_go_and_a_dead_leader_changes_nothing()
-> Result<()> {
    let mut cluster = shard_with_much_data("throttle", 3).await?;
    ensure!(status(&cluster).await?["transfers"] == Value::Array(Vec::new()));
    let operation = cluster.start_backup(REPLICA).await?;
    let transfer = wait_copying(&cluster, &operation.id).await?;
    ensure!(transfer["kind"] == "backup" && transfer["bytes_total"].as_u64() > Some(40_000_000));
    ensure!(transfer["files_total"].as_u64() > Some(10), "{transfer}");

    throttle(&cluster, "1MB").await?;
    // What was on its way may still arrive in the first second.
    rate(&cluster, Duration::from_secs(1)).await?;
    let slow = rate(&cluster, Duration::from_secs(4)).await?;
    ensure!(
        (300_000..1_600_000).contains(&slow),
        "{slow} bytes/s at 1 MB/s"
    );
    let shown = wait_for("it says how long it takes", PATIENCE, || async {
        let transfer = status(&cluster).await?["transfers"][0].clone();
        Ok(transfer["left_ms"].is_u64().then_some(transfer))
    })
    .await?;
    ensure!(shown["bytes_per_second"].as_u64() > Some(0), "{shown}");

    throttle(&cluster, "0").await?;
    rate(&cluster, Duration::from_secs(1)).await?;
    ensure!(
        rate(&cluster, Duration::from_secs(2)).await? == 0,
        "it goes on though paused"
    );
    let leader = cluster.leader().await?;
    cluster.coordinators[leader].kill()?;
    ensure!(cluster.leader().await? != leader);
    let paused = status(&cluster).await?;
    ensure!(
        paused["paused"] == true && paused["limit_was_set"] == true,
        "{paused}"
    );
    ensure!(
        paused["transfers"][0]["operation_id"] == operation.id,
        "{paused}"
    );
    ensure!(rate(&cluster, Duration::from_secs(2)).await? == 0);

    throttle(&cluster, "unlimited").await?;
    cluster.wait_success(&operation.id, PATIENCE * 2).await?;
    cluster.wait_serving(REPLICA).await?;
    ensure!(status(&cluster).await?["transfers"] == Value::Array(Vec::new()));
    cluster.coordinators[leader].start()?;
    cluster.coordinators[leader].wait_ready().await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_backup_can_be_called_off_and_the_pause_outlives_the_agent() -> Result<()> {
    let mut cluster = shard_with_much_data("paused-backup", 1).await?;
    throttle(&cluster, "0").await?;
    let operation = cluster.start_backup(REPLICA).await?;
    wait_copying(&cluster, &operation.id).await?;
    ensure!(rate(&cluster, Duration::from_secs(1)).await? == 0);
    cluster
        .ctl(&["CancelOperation", &operation.id])
        .await?
        .done()?;
    let ended = cluster.wait_operation(&operation.id, PATIENCE).await?;
    ensure!(ended.state() == OperationState::Cancelled, "{ended:?}");
    // Marks are under no limit.
    ensure!(cluster.repository.is_removed("commerce/0", &ended.backup));
    cluster.wait_serving(REPLICA).await?;

    cluster.tablet_mut(REPLICA)?.kill()?;
    cluster.tablet_mut(REPLICA)?.start()?;
    cluster.wait_serving(REPLICA).await?;
    let restarted = status(&cluster).await?;
    ensure!(restarted["paused"] == true, "{restarted}");
    throttle(&cluster, "default").await?;
    let configured = status(&cluster).await?;
    ensure!(
        configured["limit_bytes_per_second"] == 4_000_000,
        "{configured}"
    );
    ensure!(configured["limit_was_set"] == false, "{configured}");

    // A restore is shown, and held up, as well.
    throttle(&cluster, "unlimited").await?;
    let backup = cluster.back_up(REPLICA).await?;
    throttle(&cluster, "500kB").await?;
    let restoring = [
        "Restore", "--detach", "-o", "name", "--backup", &backup, REPLICA,
    ];
    let id = cluster.ctl(&restoring).await?.done()?.trim().to_owned();
    wait_for("the restore is shown", PATIENCE, || async {
        let transfer = status(&cluster).await?["transfers"][0].clone();
        let is_it = transfer["operation_id"] == id.as_str() && transfer["kind"] == "restore";
        Ok(is_it.then_some(()))
    })
    .await?;
    throttle(&cluster, "unlimited").await?;
    cluster.wait_success(&id, PATIENCE * 2).await?;
    cluster.wait_serving(REPLICA).await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_alias_or_rate_is_one_line() -> Result<()> {
    let mut cluster = ClusterPlan::new("throttle-wrong").start().await?;
    cluster.start_small_shard(1).await?;
    for (args, code, word) in [
        (vec!["BackupThrottle", PRIMARY, "fast"], 2, "50MB"),
        (vec!["BackupThrottle", "zone1-199", "1MB"], 1, "zone1-199"),
        (vec!["BackupStatus", "zone1-199"], 1, "zone1-199"),
        (vec!["BackupStatus", "zone1"], 2, "zone1"),
    ] {
        cluster.ctl(&args).await?.refused(code, &[word])?;
    }
    cluster.tablet_mut(PRIMARY)?.terminate()?;
    let away = cluster.ctl(&["BackupStatus", PRIMARY]).await?;
    away.refused(1, &[PRIMARY, "cannot be asked"])?;
    cluster.finish().await
}
