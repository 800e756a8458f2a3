//! Whether memory grows with the directory: a backup and a restore of one, and of one ten times as
//! large, each by agents of their own.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Result;
use seawall_tests::harness::{Cluster, ClusterPlan, TabletPlan};

use super::seawall::{Seawall, wait_restore};

const MIB: usize = 1 << 20;
const FILE_MIB: u64 = 64;

pub async fn print(mib: u64) -> Result<()> {
    println!("\nAgent's peak memory at concurrency 4, in MiB:\n");
    println!("| directory | backing up | restoring |\n|---|---|---|");
    for mib in [mib, 10 * mib] {
        let (backup, restore) = peaks(mib).await?;
        println!("| {mib} MiB | {} | {} |", backup >> 10, restore >> 10);
    }
    Ok(())
}

/// Peak memory of the agent that backs up, and of the one that restores, in KiB.
async fn peaks(mib: u64) -> Result<(u64, u64)> {
    let mut cluster = ClusterPlan::new("bench-memory").start().await?;
    let seawall = Seawall::new(cluster.scratch.path().join("key.txt"))?;
    let (first, data) = tablet(&cluster, &seawall, "zone1-101");
    fill(&data, mib)?;
    cluster.start_tablet(&first)?;
    cluster.wait_registered("zone1-101").await?;
    let init = ["InitShardPrimary", "documents/0", "zone1-101"];
    cluster.ctl(&init).await?.done()?;
    cluster.wait_serving("zone1-101").await?;
    let backup = ["Backup", "--allow-primary", "zone1-101"];
    cluster.ctl(&backup).await?.done()?;

    let (second, _) = tablet(&cluster, &seawall, "zone1-102");
    cluster.start_tablet(&second.set("restore_from_backup", true))?;
    wait_restore(&cluster, "zone1-102").await?;
    let mut peak = |alias| cluster.tablet_mut(alias)?.process()?.peak_memory_kib();
    let peaks = (peak("zone1-101")?, peak("zone1-102")?);
    cluster.wait_serving("zone1-102").await?;
    cluster.finish().await?;
    Ok(peaks)
}

fn tablet(cluster: &Cluster, seawall: &Seawall, alias: &str) -> (TabletPlan, PathBuf) {
    let data = cluster.scratch.path().join(alias).join("data");
    let plan = seawall.plan(alias).directory(&data, "0");
    (plan, data)
}

/// Files that no chunk occurs twice in; two fifths of each do not compress.
fn fill(directory: &Path, mib: u64) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut block = vec![b' '; MIB];
    for number in 0..mib.div_ceil(FILE_MIB) {
        let mut file = BufWriter::new(File::create(directory.join(number.to_string()))?);
        for _ in 0..FILE_MIB.min(mib - number * FILE_MIB) {
            rand::Rng::fill_bytes(&mut rand::rng(), &mut block[..MIB * 2 / 5]);
            file.write_all(&block)?;
        }
        file.flush()?;
    }
    Ok(())
}
