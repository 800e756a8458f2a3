//! A store that fails now and then, for ever, or only in its answers.

use std::time::Instant;

use anyhow::{Result, ensure};
use seawall_proto::v1::OperationState;
use seawall_tests::harness::{
    ClusterPlan, TabletPlan,
    load::{Load, check_nothing_is_lost},
    wait::PATIENCE,
};

const REPLICA: &str = "zone1-102";

async fn back_up_and_restore_with(
    name: &str,
    backup_faults: &str,
    restore_faults: &str,
) -> Result<()> {
    let mut cluster = ClusterPlan::new(name).start().await?;
    let replica = TabletPlan::new(REPLICA).faults(backup_faults);
    cluster
        .start_shard(&[TabletPlan::new("zone1-101"), replica])
        .await?;
    let load = Load::start(&cluster.tablet("zone1-101")?.server).await?;
    load.wait_progress(50).await?;
    let backup = cluster.back_up(REPLICA).await?;
    let reached = cluster.tablet(REPLICA)?.faults().reached().await?;
    ensure!(
        reached.iter().any(|point| point == "repository.put"),
        "no fault was met"
    );
    ensure!(cluster.repository.has_manifest("commerce/0", &backup));
    cluster.wait_serving(REPLICA).await?;

    let plan = TabletPlan::new("zone1-103")
        .restored()
        .faults(restore_faults);
    cluster.start_tablet(&plan)?;
    cluster.wait_serving("zone1-103").await?;
    let orders = load.stop().await?;
    cluster.wait_caught_up("zone1-103", "zone1-101").await?;
    cluster.check_equal(&["zone1-101", "zone1-103"]).await?;
    check_nothing_is_lost(&cluster.tablet("zone1-103")?.server, &orders).await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_each_put_and_each_get_fails_once_backup_and_restore_succeed() -> Result<()> {
    let faults = "repository.put=fail-once;repository.get=fail-once";
    back_up_and_restore_with("fail-once", faults, faults).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_a_put_whose_answer_was_lost_is_recognised_as_done() -> Result<()> {
    back_up_and_restore_with("lost-answer", "repository.put=lose-answer-once", "").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_store_that_fails_for_ever_fails_the_backup_in_time_and_the_database_is_back()
-> Result<()> {
    let mut cluster = ClusterPlan::new("fail")
        .set_agents("repository.retry_limit", "5s")
        .start()
        .await?;
    cluster.start_small_shard(2).await?;
    let faults = cluster.tablet(REPLICA)?.faults();
    faults.arm("repository.put", "fail").await?;
    let began = Instant::now();
    let output = cluster.ctl(&["Backup", REPLICA]).await?;
    ensure!(output.code == 1, "{output}");
    let line = output.stderr.lines().last().unwrap_or_default();
    ensure!(
        line.contains("put") || line.contains("repository"),
        "unclear: {output}"
    );
    ensure!(began.elapsed() < PATIENCE, "it took {:?}", began.elapsed());
    cluster.wait_serving(REPLICA).await?;
    ensure!(cluster.tablet(REPLICA)?.server.is_replicating().await?);
    ensure!(cluster.backups("commerce/0", false).await?.is_empty());

    faults.disarm("repository.put").await?;
    cluster.back_up(REPLICA).await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_backup_that_misses_its_deadline_is_undone() -> Result<()> {
    let mut cluster = ClusterPlan::new("deadline").start().await?;
    cluster.start_small_shard(2).await?;
    let faults = cluster.tablet(REPLICA)?.faults();
    faults.arm("repository.put", "fail").await?;
    let spec = seawall_tests::harness::cluster::backup_spec(REPLICA);
    let limit = std::time::Duration::from_secs(8);
    let operation = cluster.start_operation(spec, Some(limit)).await?;
    let ended = cluster.wait_operation(&operation.id, PATIENCE).await?;
    ensure!(ended.state() == OperationState::Failed, "{ended:?}");
    ensure!(!ended.error.is_empty());
    ensure!(cluster.repository.is_removed("commerce/0", &ended.backup));
    cluster.wait_serving(REPLICA).await?;
    faults.disarm("repository.put").await?;
    cluster.back_up(REPLICA).await?;
    cluster.finish().await
}
