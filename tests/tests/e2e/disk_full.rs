//! Disks that are full: a clear error with the bytes needed and there, nothing that looks restored,
//! and a database that runs.

use anyhow::{Result, ensure};
use seawall_proto::v1::OperationState;
use seawall_tests::harness::{
    Cluster, ClusterPlan, TabletPlan,
    config::list,
    small_disk::SmallDisk,
    wait::{PATIENCE, wait_for},
};

use crate::restore_delta::add_noise;

/// A primary, and a replica laid out by `plan`; what the replica has it also serves.
async fn start_shard(cluster: &mut Cluster, replica: TabletPlan) -> Result<()> {
    let primary = TabletPlan::new("zone1-101");
    cluster.start_shard(&[primary, replica]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_a_restore_that_does_not_fit_is_refused_before_anything_is_fetched() -> Result<()> {
    let Some(disk) = SmallDisk::mount(24).await? else {
        return Ok(());
    };
    let mut cluster = ClusterPlan::new("disk-small").start().await?;
    start_shard(&mut cluster, TabletPlan::new("zone1-102")).await?;
    add_noise(cluster.tablet("zone1-101")?, 24).await?;
    cluster.wait_caught_up("zone1-102", "zone1-101").await?;
    cluster.back_up("zone1-102").await?;

    disk.link(&cluster.scratch.path().join("zone1-103"))?;
    cluster.start_tablet(&TabletPlan::new("zone1-103").restored())?;
    let failed = wait_for("the restore is refused", PATIENCE, || async {
        let restores = crate::restore::restores(&cluster).await?;
        Ok(restores
            .into_iter()
            .find(|restore| !restore.error.is_empty()))
    })
    .await?;
    let error = &failed.error;
    ensure!(
        error.contains("needs") && error.contains("are free there"),
        "{error}"
    );
    let tablet = cluster.tablet("zone1-103")?;
    ensure!(
        !tablet.server.data_dir().exists(),
        "something looks restored"
    );
    let left = tablet.directory.join("data.seawall-restore");
    ensure!(!left.exists(), "it was begun");
    ensure!(tablet.server.process().is_none(), "a database was started");
    let plan = cluster.ctl(&["Restore", "zone1-103", "--dry-run"]).await;
    // Between two tries of its own; otherwise one of them is in the way, which is said.
    if let Ok(printed) = plan?.done() {
        ensure!(printed.contains("it would be refused"), "{printed}");
    }
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_disk_that_fills_up_in_mid_restore_leaves_the_old_database_running() -> Result<()> {
    let Some(disk) = SmallDisk::mount(220).await? else {
        return Ok(());
    };
    let mut cluster = ClusterPlan::new("disk-fills").start().await?;
    disk.link(&cluster.scratch.path().join("zone1-102"))?;
    start_shard(&mut cluster, TabletPlan::new("zone1-102")).await?;
    add_noise(cluster.tablet("zone1-101")?, 24).await?;
    cluster.wait_caught_up("zone1-102", "zone1-101").await?;
    let backup = cluster.back_up("zone1-102").await?;
    // Everything that the backup holds is gone from here: it has to be fetched.
    let replica = cluster.tablet("zone1-102")?;
    let statements = ["SET sql_log_bin = 0", "DROP DATABASE noise"];
    replica.server.execute(&statements).await?;
    replica.server.execute(&["CREATE DATABASE mine"]).await?;

    let point = "agent.fetch.middle";
    replica.faults().arm(point, "pause").await?;
    let args = [
        "Restore",
        "zone1-102",
        "--backup",
        &backup,
        "--concurrency",
        "1",
    ];
    let restore = cluster.start_ctl("restore", &args)?;
    replica.faults().wait_reached(point, PATIENCE).await?;
    let filler = disk.fill()?;
    replica.faults().disarm(point).await?;
    let failed = wait_for("the restore fails", PATIENCE, || async {
        let restores = crate::restore::restores(&cluster).await?;
        let ended = |restore: &&_| is_over(restore);
        Ok(restores.iter().find(ended).cloned())
    })
    .await?;
    let error = &failed.error;
    ensure!(failed.state() == OperationState::Failed, "{failed:?}");
    for word in ["No space left", "needs", "are free there"] {
        ensure!(error.contains(word), "no {word:?} in {error}");
    }
    // The disk is as full as before for whoever else fills it.
    cluster.wait_serving("zone1-102").await?;
    let replica = cluster.tablet("zone1-102")?;
    ensure!(!replica.directory.join("data.seawall-restore").exists());
    let mine: i64 = replica
        .server
        .value("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = 'mine'")
        .await?;
    ensure!(mine == 1, "it is not the old database");
    ensure!(replica.server.is_replicating().await?);
    drop(filler);
    restore.leave_running();
    cluster.finish().await
}

fn is_over(operation: &seawall_proto::v1::Operation) -> bool {
    operation.finished_unix_ms > 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_full_state_directory_does_not_keep_a_database_down() -> Result<()> {
    let Some(disk) = SmallDisk::mount(16).await? else {
        return Ok(());
    };
    let mut cluster = ClusterPlan::new("state-full").start().await?;
    let state_dir = disk.path().join("state");
    let plan = TabletPlan::new("zone1-102").set("state_dir", state_dir.display().to_string());
    start_shard(&mut cluster, plan).await?;
    let replica = cluster.tablet("zone1-102")?;
    let point = "agent.copy.begin";
    replica.faults().arm(point, "pause").await?;
    let started = cluster.start_backup("zone1-102").await?;
    replica.faults().wait_reached(point, PATIENCE).await?;
    ensure!(replica.server.process().is_none(), "it was not shut down");
    let filler = disk.fill()?;
    replica.faults().disarm(point).await?;
    let ended = cluster.wait_operation(&started.id, PATIENCE).await?;
    eprintln!("the backup ended as {:?}: {}", ended.state(), ended.error);
    let is_clear = match ended.state() {
        OperationState::Succeeded => cluster.repository.has_manifest("commerce/0", &ended.backup),
        _ => ended.error.contains("space"),
    };
    ensure!(is_clear, "{ended:?}");
    cluster.wait_serving("zone1-102").await?;

    // A new process finds its way as well, and with room again everything goes on.
    let tablet = cluster.tablet_mut("zone1-102")?;
    tablet.kill()?;
    tablet.start()?;
    cluster.wait_serving("zone1-102").await?;
    drop(filler);
    cluster.back_up("zone1-102").await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_chunks_that_finds_no_room_costs_the_next_backup_its_references_and_no_more()
-> Result<()> {
    let Some(disk) = SmallDisk::mount(16).await? else {
        return Ok(());
    };
    let mut cluster = ClusterPlan::new("known-full").start().await?;
    // It writes and cannot read: what an earlier backup holds it knows from its own list only.
    let identity = cluster.scratch.path().join("identity");
    let identity = identity.display().to_string();
    let made = cluster
        .ctl(&["GenerateIdentity", "--output-file", &identity])
        .await?;
    let recipient = made.done()?.trim().to_owned();
    let state_dir = disk.path().join("state");
    let plan = TabletPlan::new("zone1-102")
        .set("state_dir", state_dir.display().to_string())
        .set("repository.recipients", list([recipient.as_str()]));
    start_shard(&mut cluster, plan).await?;
    add_noise(cluster.tablet("zone1-101")?, 24).await?;
    cluster.wait_caught_up("zone1-102", "zone1-101").await?;

    let faults = cluster.tablet("zone1-102")?.faults();
    faults.arm("agent.copy.middle", "pause").await?;
    let started = cluster.start_backup("zone1-102").await?;
    faults.wait_reached("agent.copy.middle", PATIENCE).await?;
    let filler = disk.fill()?;
    faults.disarm("agent.copy.middle").await?;
    let ended = cluster.wait_success(&started.id, PATIENCE * 2).await?;
    let note = "the next backup cannot refer to this one";
    ensure!(ended.result.contains(note), "{}", ended.result);
    ensure!(ended.result.contains("No space left"), "{}", ended.result);
    cluster.wait_serving("zone1-102").await?;
    drop(filler);
    let mut left = Vec::new();
    for directory in ["known", "."] {
        let Ok(entries) = std::fs::read_dir(state_dir.join(directory)) else {
            continue;
        };
        left.extend(entries.flatten().map(|e| e.file_name()));
    }
    let left: Vec<_> = left.iter().map(|name| name.to_string_lossy()).collect();
    let is_unfinished = |name: &&std::borrow::Cow<'_, str>| {
        name.starts_with(&*ended.backup) || name.ends_with(".new") || name.contains("tmp")
    };
    ensure!(!left.iter().any(|name| is_unfinished(&name)), "{left:?}");

    let sent = async |name: &str| {
        let backups = cluster.backups("commerce/0", false).await?;
        let found = backups.iter().find(|backup| backup.name == name);
        anyhow::Ok(found.map_or(0, |backup| backup.stored_bytes))
    };
    let first = sent(&ended.backup).await?;
    let second = sent(&cluster.back_up("zone1-102").await?).await?;
    cluster.wait_serving("zone1-102").await?;
    let third = sent(&cluster.back_up("zone1-102").await?).await?;
    eprintln!("sent: {first}, {second}, {third} bytes");
    ensure!(second > first / 2, "it referred to what it cannot know");
    ensure!(third < first / 4, "it has not recovered");
    cluster.finish().await
}
