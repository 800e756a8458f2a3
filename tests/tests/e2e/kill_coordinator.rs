//! kill -9 of the leading coordinator: what it had begun, the next leader finishes.

use anyhow::{Result, ensure};
use seawall_proto::v1::{OperationState, TabletType};
use seawall_tests::harness::{
    Cluster, ClusterPlan,
    load::{Load, check_nothing_is_lost},
    wait::{PATIENCE, wait_until},
};

use crate::is_soak;

const REPLICA: &str = "zone1-102";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_goes_on_under_the_next_leader_and_who_watches_it_reconnects() -> Result<()> {
    let mut cluster = ClusterPlan::new("leader").coordinators(3).start().await?;
    cluster.start_small_shard(2).await?;
    let load = Load::start(&cluster.tablet("zone1-101")?.server).await?;
    load.wait_progress(20).await?;
    let faults = cluster.tablet(REPLICA)?.faults();
    faults.arm("agent.copy.middle", "pause").await?;
    let mut watching = cluster.start_ctl("watching", &["Backup", REPLICA])?;
    faults.wait_reached("agent.copy.middle", PATIENCE).await?;

    let leader = cluster.leader().await?;
    cluster.coordinators[leader].kill()?;
    let next = cluster.leader().await?;
    ensure!(next != leader);
    faults.disarm("agent.copy.middle").await?;
    let status = tokio::task::block_in_place(|| watching.wait(PATIENCE * 2))?;
    ensure!(status.success(), "seawallctl ended with {status}");

    let backups = cluster.backups("commerce/0", false).await?;
    ensure!(backups.len() == 1, "{backups:?}");
    let printed = watching.log_text();
    ensure!(printed.contains(&backups[0].name), "it printed: {printed}");
    let operation = cluster.operation(&backups[0].operation_id).await?;
    ensure!(operation.state() == OperationState::Succeeded);
    ensure!(operation.attempt == 1, "it was begun anew: {operation:?}");
    cluster.wait_serving(REPLICA).await?;

    cluster.coordinators[leader].start()?;
    cluster.coordinators[leader].wait_ready().await?;
    cluster.back_up(REPLICA).await?;
    ensure!(load.failures() == 0);
    let orders = load.stop().await?;
    cluster.wait_caught_up(REPLICA, "zone1-101").await?;
    check_nothing_is_lost(&cluster.tablet(REPLICA)?.server, &orders).await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_one_takes_its_operation_up_again_after_a_kill() -> Result<()> {
    let mut cluster = ClusterPlan::new("alone").start().await?;
    cluster.start_small_shard(2).await?;
    let faults = cluster.tablet(REPLICA)?.faults();
    faults.arm("agent.copy.middle", "pause").await?;
    let operation = cluster.start_backup(REPLICA).await?;
    faults.wait_reached("agent.copy.middle", PATIENCE).await?;
    cluster.coordinators[0].kill()?;
    cluster.coordinators[0].start()?;
    cluster.coordinators[0].wait_ready().await?;
    faults.disarm("agent.copy.middle").await?;
    cluster.wait_success(&operation.id, PATIENCE * 2).await?;
    cluster.wait_serving(REPLICA).await?;
    cluster.finish().await
}

/// Kills the leader at one of its own pause points and demands that the backup still succeeds.
async fn kill_leader_at(cluster: &mut Cluster, point: &str) -> Result<()> {
    let leader = cluster.leader().await?;
    let faults = cluster.coordinators[leader].faults();
    faults.arm(point, "pause").await?;
    let operation = cluster.start_backup(REPLICA).await?;
    faults.wait_reached(point, PATIENCE).await?;
    cluster.coordinators[leader].kill()?;
    let done = cluster.wait_success(&operation.id, PATIENCE * 2).await?;
    ensure!(cluster.repository.has_manifest("commerce/0", &done.backup));
    cluster.wait_serving(REPLICA).await?;
    cluster.coordinators[leader].start()?;
    cluster.coordinators[leader].wait_ready().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_killed_around_any_step_is_replaced_and_the_backup_completes() -> Result<()> {
    let mut cluster = ClusterPlan::new("leader-steps")
        .coordinators(3)
        .start()
        .await?;
    cluster.start_small_shard(2).await?;
    let steps: &[&str] = if is_soak() {
        &[
            "prepare",
            "drain",
            "note",
            "stop",
            "copy",
            "start",
            "reinstate",
            "catch_up",
            "serve",
        ]
    } else {
        &["stop", "copy"]
    };
    for step in steps {
        for moment in ["begin", "end"] {
            let point = format!("coordinator.{step}.{moment}");
            eprintln!("killing the leader at {point}");
            kill_leader_at(&mut cluster, &point).await?;
        }
    }
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_paused_finds_its_work_done_by_another() -> Result<()> {
    let mut cluster = ClusterPlan::new("paused").coordinators(3).start().await?;
    cluster.start_small_shard(2).await?;
    let faults = cluster.tablet(REPLICA)?.faults();
    faults.arm("agent.copy.middle", "pause").await?;
    let operation = cluster.start_backup(REPLICA).await?;
    faults.wait_reached("agent.copy.middle", PATIENCE).await?;

    let old = cluster.leader().await?;
    cluster.coordinators[old].process()?.pause()?;
    let urls: Vec<String> = cluster.coordinator_urls();
    let others: Vec<String> = urls
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != old)
        .map(|(_, url)| url.clone())
        .collect();
    let cancel = ["CancelOperation", operation.id.as_str()];
    seawall_tests::harness::ctl::run(&others, &cancel)
        .await?
        .done()?;
    faults.disarm("agent.copy.middle").await?;
    cluster.wait_serving(REPLICA).await?;

    cluster.coordinators[old].process()?.resume()?;
    let ended = cluster.wait_operation(&operation.id, PATIENCE).await?;
    ensure!(ended.state() == OperationState::Cancelled, "{ended:?}");
    ensure!(cluster.repository.is_removed("commerce/0", &ended.backup));
    // Long enough for the old leader to have sent what it had in hand.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    ensure!(cluster.tablet(REPLICA)?.is_serving().await?);
    let known = cluster.known_tablet(REPLICA).await?;
    ensure!(known.is_some_and(|tablet| tablet.r#type() == TabletType::Replica));
    cluster.back_up(REPLICA).await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_with_all_coordinators_gone_an_agent_puts_its_database_back_by_itself() -> Result<()> {
    let mut cluster = ClusterPlan::new("silence")
        .set_agents("operation_silence", "3s")
        .start()
        .await?;
    cluster.start_small_shard(2).await?;
    let faults = cluster.coordinators[0].faults();
    faults.arm("coordinator.copy.begin", "pause").await?;
    let operation = cluster.start_backup(REPLICA).await?;
    faults
        .wait_reached("coordinator.copy.begin", PATIENCE)
        .await?;
    ensure!(cluster.tablet(REPLICA)?.server.process().is_none());
    cluster.coordinators[0].kill()?;
    let server = &cluster.tablet(REPLICA)?.server;
    wait_until("the replica replicates again", PATIENCE, || async {
        server.is_replicating().await
    })
    .await?;

    cluster.coordinators[0].start()?;
    cluster.coordinators[0].wait_ready().await?;
    let ended = cluster.wait_operation(&operation.id, PATIENCE * 2).await?;
    ensure!(ended.state() == OperationState::Failed, "{ended:?}");
    ensure!(!cluster.repository.has_manifest("commerce/0", &ended.backup));
    cluster.wait_serving(REPLICA).await?;
    cluster.back_up(REPLICA).await?;
    cluster.finish().await
}
