//! A disk that has damaged a page of a table: the backup says so, by file and page.

use std::{fs::OpenOptions, os::unix::fs::FileExt as _};

use anyhow::{Context as _, Result, ensure};
use seawall_tests::harness::{ClusterPlan, wait::PATIENCE};
use serde_json::Value;

const PRIMARY: &str = "zone1-101";
const REPLICA: &str = "zone1-102";
const PAGE_BYTES: u64 = 16 << 10;
const PAGE: u64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_the_disk_has_damaged_is_named_and_the_backup_marked() -> Result<()> {
    let mut cluster = ClusterPlan::new("damaged-page").start().await?;
    cluster.start_small_shard(2).await?;
    let primary = &cluster.tablet(PRIMARY)?.server;
    primary
        .execute(&[
            "CREATE DATABASE d",
            "USE d",
            "CREATE TABLE d.unused (id INT PRIMARY KEY, noise VARBINARY(1000))",
            "INSERT INTO d.unused SELECT seq, RANDOM_BYTES(1000) FROM seq_1_to_1000",
        ])
        .await?;
    cluster.wait_caught_up(REPLICA, PRIMARY).await?;
    // Nothing is said of a server whose pages are good, whatever it has.
    let good = cluster.back_up(REPLICA).await?;
    cluster.wait_serving(REPLICA).await?;

    let tablet = cluster.tablet(REPLICA)?;
    let faults = tablet.faults();
    faults.arm("agent.copy.begin", "pause").await?;
    let operation = cluster.start_backup(REPLICA).await?;
    faults.wait_reached("agent.copy.begin", PATIENCE).await?;
    let path = tablet.server.data_dir().join("d/unused.ibd");
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    let (mut byte, at) = ([0], PAGE * PAGE_BYTES + 5000);
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 1], at)?;
    file.sync_all()?;
    faults.disarm("agent.copy.begin").await?;
    let ended = cluster.wait_success(&operation.id, PATIENCE * 2).await?;
    ensure!(cluster.repository.has_manifest("commerce/0", &ended.backup));
    cluster.wait_serving(REPLICA).await?;

    let log = tablet.log_text();
    let line = log.lines().find(|line| line.contains("is damaged"));
    let line = line.with_context(|| format!("no page is named in {log}"))?;
    ensure!(line.contains("page 10 of "), "{line}");
    ensure!(line.contains("d/unused.ibd"), "{line}");
    let backup = get(&cluster, &ended.backup).await?;
    ensure!(backup["damaged_pages"] == 1, "{backup}");
    ensure!(backup["state"] == "broken", "{backup}");
    let whole = get(&cluster, &good).await?;
    ensure!(whole["state"] == "complete", "{whole}");
    ensure!(whole["damaged_pages"] == 0, "{whole}");
    cluster.finish().await
}

async fn get(cluster: &seawall_tests::harness::Cluster, name: &str) -> Result<Value> {
    let printed = cluster
        .ctl(&["-o", "json", "GetBackup", "commerce/0", name])
        .await?;
    Ok(serde_json::from_str(&printed.done()?)?)
}
