//! Real servers: a backup sends only what storage does not hold, and goes on from an attempt that a
//! kill -9 of its agent has cut off.

use anyhow::{Context as _, Result, ensure};
use seawall_common::repository::{ManifestHeader, Repository, RepositoryConfig, StoredState};
use seawall_proto::v1::OperationState;
use seawall_tests::harness::{Cluster, ClusterPlan, wait::PATIENCE};

const REPLICA: &str = "zone1-102";
const SHARD: &str = "commerce/0";

/// What the manifest of a backup says.
async fn header(cluster: &Cluster, name: &str) -> Result<ManifestHeader> {
    let config = RepositoryConfig::at(cluster.repository.url());
    let repository = Repository::open(&config).await?;
    let stored = repository.scan(&SHARD.parse()?).await?;
    stored
        .into_iter()
        .find(|backup| backup.name.as_str() == name)
        .and_then(|backup| match backup.state {
            StoredState::Complete { header, .. } => Some(*header),
            _ => None,
        })
        .with_context(|| format!("{name} is not complete"))
}

/// Bytes of the packs under a backup's name.
fn sent(cluster: &Cluster, name: &str) -> Result<u64> {
    let packs = cluster.repository.packs(SHARD, name)?;
    let sizes = packs.iter().map(|pack| Ok(pack.metadata()?.len()));
    sizes.sum()
}

/// Some megabytes that do not compress.
async fn fill(cluster: &Cluster) -> Result<()> {
    let primary = &cluster.tablet("zone1-101")?.server;
    primary
        .execute(&[
            "CREATE DATABASE noise",
            "CREATE TABLE noise.noise (id INT PRIMARY KEY AUTO_INCREMENT, bytes LONGBLOB)",
            // Sequences are tables of the database in use.
            "USE noise",
            "INSERT INTO noise.noise (bytes) SELECT RANDOM_BYTES(1024) FROM seq_1_to_20000",
        ])
        .await?;
    cluster.wait_caught_up(REPLICA, "zone1-101").await?;
    cluster.tablet(REPLICA)?.server.purge_at_shutdown().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_cold_backup_of_a_replica_sends_few_bytes_and_restores() -> Result<()> {
    let mut cluster = ClusterPlan::new("incremental").start().await?;
    cluster.start_small_shard(2).await?;
    fill(&cluster).await?;
    let first = cluster.back_up(REPLICA).await?;
    let second = cluster.back_up(REPLICA).await?;
    let (first, second) = (
        header(&cluster, &first).await?,
        header(&cluster, &second).await?,
    );
    eprintln!(
        "{} bytes of files: the first backup stored {}, the second {}",
        second.logical_bytes, first.stored_bytes, second.stored_bytes
    );
    ensure!(second.refers_to == std::slice::from_ref(&first.name));
    ensure!(
        second.stored_bytes * 4 < first.stored_bytes,
        "{} of {} bytes",
        second.stored_bytes,
        first.stored_bytes
    );
    let listed = cluster.backups(SHARD, false).await?;
    ensure!(listed[1].stored_bytes == second.stored_bytes, "{listed:?}");

    let restore = ["Restore", REPLICA, "--backup", second.name.as_str()];
    cluster.ctl(&restore).await?.done()?;
    cluster.wait_serving(REPLICA).await?;
    cluster.wait_caught_up(REPLICA, "zone1-101").await?;
    cluster.check_equal(&["zone1-101", REPLICA]).await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_killed_in_mid_copy_does_not_send_again_what_is_there() -> Result<()> {
    let mut cluster = ClusterPlan::new("resume").start().await?;
    cluster.start_small_shard(2).await?;
    fill(&cluster).await?;
    let point = "agent.copy.middle";
    let faults = cluster.tablet(REPLICA)?.faults();
    faults.arm(point, "pause").await?;
    let operation = cluster.start_backup(REPLICA).await?;
    faults.wait_reached(point, PATIENCE).await?;
    let tablet = cluster.tablet_mut(REPLICA)?;
    tablet.kill()?;
    tablet.start()?;
    let ended = cluster.wait_operation(&operation.id, PATIENCE * 2).await?;
    ensure!(ended.state() == OperationState::Failed, "{ended:?}");
    cluster.wait_serving(REPLICA).await?;
    let attempt = ended.backup;
    ensure!(cluster.repository.is_removed(SHARD, &attempt));
    let sent_before = sent(&cluster, &attempt)?;

    let next = cluster.back_up(REPLICA).await?;
    let header = header(&cluster, &next).await?;
    let sent_now = sent(&cluster, &next)?;
    eprintln!("the attempt had sent {sent_before} bytes, the next backup sent {sent_now}");
    ensure!(sent_before > 1 << 20, "only {sent_before} bytes were sent");
    ensure!(header.refers_to.iter().any(|name| name.as_str() == attempt));
    // Together about one full backup: the server has come up in between and written a little.
    let full = header.stored_bytes;
    ensure!(
        sent_now + sent_before / 2 < full,
        "{sent_now} and {sent_before} of {full}"
    );
    let restore = ["Restore", REPLICA, "--backup", next.as_str()];
    cluster.ctl(&restore).await?.done()?;
    cluster.wait_serving(REPLICA).await?;
    cluster.wait_caught_up(REPLICA, "zone1-101").await?;
    cluster.check_equal(&["zone1-101", REPLICA]).await?;
    cluster.finish().await
}
