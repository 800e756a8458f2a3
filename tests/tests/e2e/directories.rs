//! Shards of tablets of the simplest engine, for tests that need many quick backups: a directory of
//! a few files, and a program that has one of them open.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};
use rand::{RngExt as _, rngs::StdRng};
use seawall_proto::v1;
use seawall_tests::harness::{
    Cluster, TabletPlan,
    binary::binary,
    ctl,
    wait::{PATIENCE, wait_until},
};

pub const SHARD: &str = "documents/0";
const FILES: usize = 5;
const FILE_BYTES: usize = 3 << 20;
const CHANGED_BYTES: usize = 4096;

/// The hash of each file of a directory.
pub type Tree = BTreeMap<PathBuf, blake3::Hash>;

pub fn tree(directory: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let bytes = std::fs::read(entry.path())?;
        tree.insert(entry.file_name().into(), blake3::hash(&bytes));
    }
    Ok(tree)
}

/// Writes over a few places, so that a backup finds some chunks known and others new.
pub fn change(directory: &Path, random: &mut StdRng) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join("journal"), "open\n")?;
    for number in 0..FILES {
        let path = directory.join(format!("table-{number}"));
        let mut bytes = std::fs::read(&path).unwrap_or_default();
        if bytes.is_empty() {
            bytes = vec![0; FILE_BYTES];
            random.fill(&mut bytes[..]);
        } else if random.random_bool(0.5) {
            continue;
        }
        let at = random.random_range(0..FILE_BYTES - CHANGED_BYTES);
        random.fill(&mut bytes[at..at + CHANGED_BYTES]);
        std::fs::write(&path, bytes)?;
    }
    Ok(())
}

pub fn directory(cluster: &Cluster, alias: &str) -> PathBuf {
    cluster.scratch.path().join(alias).join("data")
}

pub fn tablet(cluster: &Cluster, alias: &str) -> TabletPlan {
    TabletPlan::new(alias).directory(&directory(cluster, alias), "journal")
}

/// Tablets of [`SHARD`], each with files of its own, the first of them its primary. `faults` are
/// armed in every agent.
pub async fn start_shard(
    cluster: &mut Cluster,
    aliases: &[&str],
    faults: &str,
    random: &mut StdRng,
) -> Result<()> {
    let mut plans = Vec::new();
    for alias in aliases {
        change(&directory(cluster, alias), random)?;
        plans.push(tablet(cluster, alias).faults(faults));
    }
    cluster.start_shard(&plans).await
}

pub fn shard() -> v1::ShardRef {
    v1::ShardRef {
        keyspace: "documents".to_owned(),
        shard: "0".to_owned(),
    }
}

/// `seawallctl repository ...`, with no coordinator in sight.
async fn repository(cluster: &Cluster, args: &[&str]) -> Result<String> {
    let mut command = Command::new(binary("seawallctl")?);
    command.args(["-o", "json", "repository"]).args(args);
    command.args(["--repository", &cluster.repository.url()]);
    ctl::run_command(command, PATIENCE * 2).await?.done()
}

/// The backup comes back from the repository alone, every byte of it.
pub async fn check_restores(cluster: &Cluster, name: &str, expected: &Tree) -> Result<()> {
    let target = cluster.scratch.path().join(format!("alone-{name}"));
    let shown = target.display().to_string();
    let args = ["restore", SHARD, name, "--target", &shown];
    repository(cluster, &args).await?;
    let restored = tree(&target.join("data"))?;
    ensure!(restored == *expected, "{name} restored to something else");
    std::fs::remove_dir_all(target)?;
    Ok(())
}

/// Nothing is damaged, and nothing lies there that no backup needs.
pub async fn check_nothing_unneeded(cluster: &Cluster) -> Result<()> {
    let printed = repository(cluster, &["check", "--read-data"]).await?;
    let checked: serde_json::Value = serde_json::from_str(&printed)?;
    ensure!(checked["clean"] == true, "{printed}");
    for what in ["unneeded", "unfinished", "unknown"] {
        ensure!(checked[what]["objects"] == 0, "{what}: {printed}");
    }
    Ok(())
}

/// Until no operation is at work any more: also what was removed has been swept.
pub async fn wait_idle(cluster: &Cluster) -> Result<()> {
    wait_until("no operation is at work", PATIENCE * 2, || async {
        let mut operations = cluster.operations().await?;
        let request = v1::ListOperationsRequest::default();
        let listed = operations.list(request).await?.into_inner().operations;
        Ok(listed
            .iter()
            .all(|operation| operation.finished_unix_ms > 0))
    })
    .await
}
