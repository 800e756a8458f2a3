//! What is refused, and with which words; what is called off, and what remains of it.

use anyhow::{Context as _, Result, ensure};
use seawall_proto::v1::{BackupState, OperationState};
use seawall_tests::harness::{
    Cluster, ClusterPlan, TabletPlan,
    wait::{PATIENCE, wait_until},
};

const REPLICA: &str = "zone1-102";

async fn small_shard(name: &str, tablets: usize) -> Result<Cluster> {
    let mut cluster = ClusterPlan::new(name)
        .set("removal_grace", "0s")
        .start()
        .await?;
    cluster.start_small_shard(tablets).await?;
    Ok(cluster)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_backup_of_a_shard_is_refused_and_told_the_first_ones_operation() -> Result<()> {
    let cluster = small_shard("second", 3).await?;
    let faults = cluster.tablet(REPLICA)?.faults();
    faults.arm("agent.copy.begin", "pause").await?;
    let first = cluster.start_backup(REPLICA).await?;
    faults.wait_reached("agent.copy.begin", PATIENCE).await?;
    for args in [
        ["Backup", "zone1-103"],
        ["Backup", REPLICA],
        ["BackupShard", "commerce/0"],
    ] {
        cluster.ctl(&args).await?.refused(1, &[&first.id])?;
    }
    ensure!(cluster.tablet("zone1-103")?.is_serving().await?);
    faults.disarm("agent.copy.begin").await?;
    cluster.wait_success(&first.id, PATIENCE).await?;
    cluster.ctl(&["Backup", "zone1-103"]).await?.done()?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_is_backed_up_only_when_that_is_allowed() -> Result<()> {
    let cluster = small_shard("primary", 2).await?;
    let refused = cluster.ctl(&["Backup", "zone1-101"]).await?;
    refused.refused(1, &["zone1-101", "--allow-primary"])?;
    let server = &cluster.tablet("zone1-101")?.server;
    server.execute(&["CREATE DATABASE before_it"]).await?;
    let allowed = ["Backup", "--allow-primary", "zone1-101"];
    cluster.ctl(&allowed).await?.done()?;
    cluster.wait_serving("zone1-101").await?;
    ensure!(!server.is_read_only().await?);
    server.execute(&["CREATE DATABASE after_it"]).await?;
    cluster.wait_caught_up(REPLICA, "zone1-101").await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_a_removed_backup_is_gone_and_the_last_one_only_goes_by_force() -> Result<()> {
    let cluster = small_shard("remove", 2).await?;
    let first = cluster.back_up(REPLICA).await?;
    let unknown = "2020-01-01.000000.zone1-102";
    let remove = |name: &str| ["RemoveBackup", "commerce/0", name].map(str::to_owned);
    let run = async |args: &[String]| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        cluster.ctl(&args).await
    };
    run(&remove(unknown)).await?.refused(1, &[unknown])?;
    run(&remove(&first))
        .await?
        .refused(1, &[&first, "--force"])?;
    ensure!(cluster.backups("commerce/0", false).await?.len() == 1);

    let second = cluster.back_up(REPLICA).await?;
    run(&remove(&first)).await?.done()?;
    let listed = cluster.backups("commerce/0", false).await?;
    ensure!(listed.len() == 1 && listed[0].name == second, "{listed:?}");
    wait_until("the backup's manifest is gone", PATIENCE, || async {
        Ok(!cluster.repository.has_manifest("commerce/0", &first))
    })
    .await?;
    // The second one refers to what the first one had sent.
    ensure!(!cluster.repository.packs("commerce/0", &first)?.is_empty());
    let mut forced = remove(&second).to_vec();
    forced.push("--force".to_owned());
    run(&forced).await?.done()?;
    ensure!(cluster.backups("commerce/0", false).await?.is_empty());
    wait_until("nothing of either is left", PATIENCE, || async {
        Ok(cluster.repository.packs("commerce/0", &first)?.is_empty()
            && cluster.repository.packs("commerce/0", &second)?.is_empty())
    })
    .await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_while_somebody_holds_the_backup_lock_nothing_is_removed() -> Result<()> {
    let cluster = small_shard("hold", 2).await?;
    let first = cluster.back_up(REPLICA).await?;
    cluster.back_up(REPLICA).await?;
    let acquire = [
        "backup-lock",
        "--acquire",
        "--reason",
        "an audit of the vault",
    ];
    cluster.ctl(&acquire).await?.done()?;
    let again = cluster.ctl(&acquire).await?;
    again.refused(1, &["an audit of the vault"])?;
    let refused = cluster.ctl(&["RemoveBackup", "commerce/0", &first]).await?;
    refused.refused(1, &["an audit of the vault"])?;
    // Backups stand on the same side of the lock as the hold.
    cluster.back_up(REPLICA).await?;
    cluster.ctl(&["backup-lock", "--release"]).await?.done()?;
    cluster
        .ctl(&["RemoveBackup", "commerce/0", &first])
        .await?
        .done()?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_a_backup_cancelled_in_mid_copy_leaves_its_mark_and_the_database_back() -> Result<()> {
    let cluster = small_shard("cancel", 2).await?;
    let faults = cluster.tablet(REPLICA)?.faults();
    faults.arm("agent.copy.middle", "pause").await?;
    let operation = cluster.start_backup(REPLICA).await?;
    faults.wait_reached("agent.copy.middle", PATIENCE).await?;
    let cancel = ["CancelOperation", operation.id.as_str()];
    cluster.ctl(&cancel).await?.done()?;
    faults.disarm("agent.copy.middle").await?;
    let ended = cluster.wait_operation(&operation.id, PATIENCE).await?;
    ensure!(ended.state() == OperationState::Cancelled, "{ended:?}");
    ensure!(cluster.repository.is_removed("commerce/0", &ended.backup));
    ensure!(!cluster.repository.has_manifest("commerce/0", &ended.backup));
    cluster.wait_serving(REPLICA).await?;
    ensure!(cluster.tablet(REPLICA)?.server.is_replicating().await?);
    ensure!(cluster.backups("commerce/0", false).await?.is_empty());
    let all = cluster.backups("commerce/0", true).await?;
    let given_up = all.iter().find(|backup| backup.name == ended.backup);
    let given_up = given_up.context("not even --all shows what was given up")?;
    ensure!(given_up.state() == BackupState::Removed, "{given_up:?}");
    cluster.back_up(REPLICA).await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_exist_is_named() -> Result<()> {
    let mut cluster = small_shard("unknown", 1).await?;
    cluster.start_tablet(&TabletPlan::new("zone1-201").shard("80-"))?;
    cluster.wait_registered("zone1-201").await?;
    for (args, word) in [
        (vec!["Backup", "zone1-999"], "zone1-999"),
        (vec!["Restore", "zone1-999"], "zone1-999"),
        (vec!["BackupShard", "commerce/ff-"], "commerce/ff-"),
        (vec!["BackupShard", "commerce/0"], "--allow-primary"),
        (
            vec!["InitShardPrimary", "commerce/0", "zone1-201"],
            "zone1-201",
        ),
        (vec!["RemoveTablet", "zone1-101"], "zone1-101"),
        (
            vec!["WatchOperation", "0196d6f0-0000-7000-8000-000000000000"],
            "0196d6f0",
        ),
    ] {
        cluster.ctl(&args).await?.refused(1, &[word])?;
    }
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_a_backup_whose_hold_is_broken_is_given_up_before_it_is_complete() -> Result<()> {
    let cluster = small_shard("broken", 2).await?;
    let faults = cluster.tablet(REPLICA)?.faults();
    faults.arm("agent.copy.middle", "pause").await?;
    let operation = cluster.start_backup(REPLICA).await?;
    faults.wait_reached("agent.copy.middle", PATIENCE).await?;
    let break_it = [
        "backup-lock",
        "--break",
        "--scope",
        "commerce/0",
        "--reason",
        "the vault is on fire",
    ];
    cluster.ctl(&break_it).await?.done()?;
    faults.disarm("agent.copy.middle").await?;
    let ended = cluster.wait_operation(&operation.id, PATIENCE).await?;
    ensure!(ended.state() == OperationState::Failed, "{ended:?}");
    ensure!(!cluster.repository.has_manifest("commerce/0", &ended.backup));
    ensure!(cluster.repository.is_removed("commerce/0", &ended.backup));
    cluster.wait_serving(REPLICA).await?;
    cluster.back_up(REPLICA).await?;
    cluster.finish().await
}
