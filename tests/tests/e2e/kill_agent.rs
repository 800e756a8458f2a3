//! kill -9 of the agent, in each step of a backup: after its restart all is as it was.
//!
//! Here each step is killed once, at its beginning (the copy also in its middle and around the
//! manifest); with `SEAWALL_SOAK=1` at the beginning, the middle and the end of each.

use anyhow::{Result, ensure};
use seawall_proto::v1::{BackupState, OperationState};
use seawall_tests::harness::{
    Cluster, ClusterPlan,
    load::{Load, check_nothing_is_lost},
    wait::PATIENCE,
};

use crate::is_soak;

/// The victim of every kill.
const REPLICA: &str = "zone1-102";

/// The points of `steps` at which this run kills.
fn points(steps: &[&str], always: &[&str]) -> Vec<String> {
    let moments: &[&str] = if is_soak() {
        &["begin", "middle", "end"]
    } else {
        &["begin"]
    };
    let of_steps = steps.iter().flat_map(|step| {
        moments
            .iter()
            .map(move |moment| format!("agent.{step}.{moment}"))
    });
    let mut points: Vec<String> = of_steps.collect();
    points.extend(always.iter().map(|point| (*point).to_owned()));
    points.dedup();
    points
}

async fn kill_at_each(name: &str, points: &[String]) -> Result<()> {
    let mut cluster = ClusterPlan::new(name).start().await?;
    cluster.start_small_shard(2).await?;
    let load = Load::start(&cluster.tablet("zone1-101")?.server).await?;
    for point in points {
        eprintln!("killing the agent at {point}");
        kill_at(&mut cluster, point).await?;
        check_as_before(&cluster, point).await?;
        cluster.back_up(REPLICA).await?;
    }
    ensure!(load.failures() == 0, "the primary refused writes");
    let orders = load.stop().await?;
    cluster.wait_caught_up(REPLICA, "zone1-101").await?;
    cluster.check_equal(&["zone1-101", REPLICA]).await?;
    check_nothing_is_lost(&cluster.tablet(REPLICA)?.server, &orders).await?;
    cluster.finish().await
}

async fn kill_at(cluster: &mut Cluster, point: &str) -> Result<()> {
    let faults = cluster.tablet(REPLICA)?.faults();
    faults.arm(point, "pause").await?;
    let operation = cluster.start_backup(REPLICA).await?;
    faults.wait_reached(point, PATIENCE).await?;
    let tablet = cluster.tablet_mut(REPLICA)?;
    tablet.kill()?;
    tablet.start()?;
    check_end(cluster, &operation.id, point).await
}

/// The operation ends and tells the truth about the backup, which exists in full or not at all.
async fn check_end(cluster: &Cluster, id: &str, point: &str) -> Result<()> {
    let operation = cluster.wait_operation(id, PATIENCE * 2).await?;
    let is_complete = cluster
        .repository
        .has_manifest("commerce/0", &operation.backup)
        && !cluster
            .repository
            .is_removed("commerce/0", &operation.backup);
    match operation.state() {
        OperationState::Succeeded => ensure!(is_complete, "{point}: success without a backup"),
        OperationState::Failed => ensure!(!operation.error.is_empty(), "{point}: no reason given"),
        other => anyhow::bail!("{point}: the operation ended as {other:?}"),
    }
    for backup in cluster.backups("commerce/0", false).await? {
        ensure!(
            backup.state() == BackupState::Complete,
            "{point}: {} is listed as {:?}",
            backup.name,
            backup.state()
        );
        ensure!(cluster.repository.has_manifest("commerce/0", &backup.name));
        ensure!(!cluster.repository.is_removed("commerce/0", &backup.name));
    }
    let listed = cluster.backups("commerce/0", false).await?;
    let is_listed = listed.iter().any(|backup| backup.name == operation.backup);
    ensure!(
        is_listed == is_complete,
        "{point}: listed {is_listed}, complete {is_complete}"
    );
    Ok(())
}

async fn check_as_before(cluster: &Cluster, point: &str) -> Result<()> {
    cluster.wait_serving(REPLICA).await?;
    let server = &cluster.tablet(REPLICA)?.server;
    ensure!(
        server.is_replicating().await?,
        "{point}: it does not replicate"
    );
    ensure!(
        server.is_read_only().await?,
        "{point}: it can be written to"
    );
    cluster.wait_caught_up(REPLICA, "zone1-101").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_an_agent_killed_before_the_copy_puts_its_database_back() -> Result<()> {
    let points = points(&["prepare", "drain", "note", "stop"], &[]);
    kill_at_each("kill-before", &points).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_an_agent_killed_while_copying_leaves_a_whole_backup_or_none() -> Result<()> {
    let always = [
        "agent.copy.middle",
        "agent.announce.begin",
        "agent.announce.end",
        "agent.manifest.end",
    ];
    kill_at_each("kill-copy", &points(&["copy"], &always)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_an_agent_killed_after_the_copy_puts_its_database_back() -> Result<()> {
    let points = points(&["start", "reinstate", "catch_up", "serve"], &[]);
    kill_at_each("kill-after", &points).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_killed_when_the_backup_has_just_been_granted_can_be_backed_up_again() -> Result<()>
{
    let mut cluster = ClusterPlan::new("kill-grant").start().await?;
    cluster.start_small_shard(2).await?;
    let faults = cluster.coordinators[0].faults();
    faults.arm("coordinator.prepare.begin", "pause").await?;
    let operation = cluster.start_backup(REPLICA).await?;
    faults
        .wait_reached("coordinator.prepare.begin", PATIENCE)
        .await?;
    cluster.tablet_mut(REPLICA)?.kill()?;
    faults.disarm("coordinator.prepare.begin").await?;
    cluster.tablet_mut(REPLICA)?.start()?;
    check_end(&cluster, &operation.id, "grant").await?;
    check_as_before(&cluster, "grant").await?;
    cluster.back_up(REPLICA).await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_database_killed_during_the_backup_is_put_back() -> Result<()> {
    let mut cluster = ClusterPlan::new("kill-server").start().await?;
    cluster.start_small_shard(2).await?;
    for point in [
        "agent.note.end",
        "agent.stop.middle",
        "agent.reinstate.begin",
        "agent.catch_up.begin",
    ] {
        eprintln!("killing the database at {point}");
        let tablet = cluster.tablet(REPLICA)?;
        let faults = tablet.faults();
        faults.arm(point, "pause").await?;
        let operation = cluster.start_backup(REPLICA).await?;
        faults.wait_reached(point, PATIENCE).await?;
        tablet.server.kill().await?;
        faults.disarm(point).await?;
        check_end(&cluster, &operation.id, point).await?;
        check_as_before(&cluster, point).await?;
        cluster.back_up(REPLICA).await?;
    }
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_an_agent_asked_to_end_in_mid_copy_ends_and_puts_its_database_back_at_its_next_start()
-> Result<()> {
    let mut cluster = ClusterPlan::new("end-copy").start().await?;
    cluster.start_small_shard(2).await?;
    let point = "agent.copy.middle";
    let faults = cluster.tablet(REPLICA)?.faults();
    faults.arm(point, "pause").await?;
    let operation = cluster.start_backup(REPLICA).await?;
    faults.wait_reached(point, PATIENCE).await?;
    let tablet = cluster.tablet_mut(REPLICA)?;
    tablet.terminate()?;
    tablet.start()?;
    check_end(&cluster, &operation.id, point).await?;
    check_as_before(&cluster, point).await?;
    cluster.back_up(REPLICA).await?;
    cluster.finish().await
}
