//! The simplest engine: a directory, and a program that has it open.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use seawall_tests::harness::{Cluster, ClusterPlan, TabletPlan};

/// A tablet whose "server" is a program that reads a file of the directory for ever.
pub fn directory_tablet(cluster: &Cluster, alias: &str) -> (TabletPlan, PathBuf) {
    let data = cluster.scratch.path().join(alias).join("data");
    let plan = TabletPlan::new(alias).directory(&data, "journal");
    (plan, data)
}

pub fn fill(directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory.join("deep/er/empty"))?;
    std::fs::write(directory.join("journal"), "one\n")?;
    std::fs::write(directory.join("deep/nothing"), "")?;
    std::fs::write(directory.join("deep/er/large"), vec![7; 3 << 20])?;
    let sparse = std::fs::File::create(directory.join("sparse"))?;
    sparse.set_len(8 << 20)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_with_a_start_command_is_backed_up_and_restored() -> Result<()> {
    let mut cluster = ClusterPlan::new("files").start().await?;
    let (first, data) = directory_tablet(&cluster, "zone1-101");
    fill(&data)?;
    cluster.start_tablet(&first)?;
    cluster.wait_registered("zone1-101").await?;
    let init = ["InitShardPrimary", "documents/0", "zone1-101"];
    cluster.ctl(&init).await?.done()?;
    cluster.wait_serving("zone1-101").await?;
    let args = ["Backup", "--allow-primary", "zone1-101"];
    let name = cluster.ctl(&args).await?.done()?;
    ensure!(cluster.repository.has_manifest("documents/0", name.trim()));
    cluster.wait_serving("zone1-101").await?;

    let (second, restored) = directory_tablet(&cluster, "zone1-102");
    cluster.start_tablet(&second.set("restore_from_backup", true))?;
    cluster.wait_serving("zone1-102").await?;
    let difference = std::process::Command::new("diff")
        .arg("-r")
        .args([&data, &restored])
        .output()?;
    let printed = String::from_utf8_lossy(&difference.stdout).into_owned();
    ensure!(difference.status.success(), "they differ: {printed}");
    cluster.finish().await
}
