//! What is kept, what goes by itself, and when its objects go: on the simplest engine, a directory.

mod collection;
mod killed;
mod policy;
mod restoring;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use seawall_proto::v1::{self, operations_client::OperationsClient};
use seawall_tests::harness::{
    Cluster, ClusterPlan,
    binary::binary,
    ctl::{Output, run_command},
    wait::{PATIENCE, wait_for, wait_until},
};
use serde_json::Value;

use crate::files::{directory_tablet, fill};

const SHARD: &str = "documents/0";
const TABLET: &str = "zone1-101";

/// A directory that is backed up, and what each backup of it holds.
struct Ground {
    cluster: Cluster,
    data: PathBuf,
    /// The number that a backup's files were filled with.
    filled: BTreeMap<String, u64>,
}

impl Ground {
    /// One directory with a coordinator that applies retention every second.
    async fn start(name: &str, grace: &str) -> Result<Self> {
        let mut cluster = ClusterPlan::new(name)
            .set("removal_grace", grace)
            .set("retention_interval", "1s")
            .start()
            .await?;
        let (tablet, data) = directory_tablet(&cluster, TABLET);
        fill(&data)?;
        fs::write(data.join("constant"), noise(u64::MAX, 2 << 20))?;
        cluster.start_tablet(&tablet)?;
        cluster.wait_registered(TABLET).await?;
        let init = ["InitShardPrimary", SHARD, TABLET];
        cluster.ctl(&init).await?.done()?;
        cluster.wait_serving(TABLET).await?;
        Ok(Self {
            cluster,
            data,
            filled: BTreeMap::new(),
        })
    }

    async fn ctl(&self, args: &[&str]) -> Result<Output> {
        self.cluster.ctl(args).await
    }

    async fn json(&self, args: &[&str]) -> Result<Value> {
        let args = [args, &["-o", "json"]].concat();
        Ok(serde_json::from_str(&self.ctl(&args).await?.done()?)?)
    }

    /// A backup of which one file is its own, and another the same as in all others.
    async fn back_up(&mut self) -> Result<String> {
        let number = self.filled.len() as u64;
        fs::write(self.data.join("own"), noise(number, 1 << 20))?;
        let backup = ["Backup", "--allow-primary", TABLET];
        let name = self.ctl(&backup).await?.done()?.trim().to_owned();
        self.filled.insert(name.clone(), number);
        Ok(name)
    }

    async fn back_up_times(&mut self, count: usize) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for _ in 0..count {
            names.push(self.back_up().await?);
        }
        Ok(names)
    }

    /// The backups that exist.
    async fn listed(&self) -> Result<BTreeSet<String>> {
        let backups = self.cluster.backups(SHARD, false).await?;
        Ok(backups.into_iter().map(|backup| backup.name).collect())
    }

    async fn wait_listed(&self, names: &[&String]) -> Result<()> {
        let expected: BTreeSet<String> = names.iter().map(|name| (*name).clone()).collect();
        let what = format!("only {expected:?} are listed");
        wait_until(&what, PATIENCE, || async {
            let listed = self.listed().await?;
            ensure!(listed.is_superset(&expected), "{listed:?}");
            Ok(listed == expected)
        })
        .await
    }

    /// The operations of a kind on a backup, as `ListOperations` has them.
    async fn operations(&self, kind: &str, backup: &str) -> Result<Vec<Value>> {
        let all = self.json(&["ListOperations", "--all"]).await?;
        let all = all["operations"].as_array().context("no list")?;
        let is_it = |o: &&Value| o["kind"] == kind && o["backup"] == backup;
        Ok(all.iter().filter(is_it).cloned().collect())
    }

    /// The end of the operation that deletes what a removed backup has left.
    async fn wait_swept(&self, backup: &str) -> Result<v1::Operation> {
        wait_for(&format!("{backup} is swept"), PATIENCE, || async {
            let mut operations = OperationsClient::new(self.cluster.channel().await?);
            let request = v1::ListOperationsRequest { all: true };
            let all = operations.list(request).await?.into_inner().operations;
            let is_sweep = |o: &v1::Operation| {
                let spec = o.spec.as_ref().and_then(|spec| spec.spec.as_ref());
                matches!(spec, Some(v1::operation_spec::Spec::Sweep(_))) && o.backup == backup
            };
            let swept = all.into_iter().find(is_sweep);
            let swept = swept.with_context(|| format!("nobody sweeps {backup}"))?;
            Ok((swept.state() == v1::OperationState::Succeeded).then_some(swept))
        })
        .await
    }

    /// Every object with its size; a key begins with `keyspaces/` or the like.
    fn objects(&self) -> Result<BTreeMap<String, u64>> {
        let root = self.cluster.repository.path();
        let mut found = BTreeMap::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let path = entry.path();
                if entry.file_type()?.is_dir() {
                    folders.push(path);
                } else {
                    let key = path.strip_prefix(root)?.display().to_string();
                    found.insert(key, entry.metadata()?.len());
                }
            }
        }
        Ok(found)
    }

    /// Restores a backup from the repository alone, and compares what comes back.
    async fn check_restores(&self, backup: &str) -> Result<()> {
        let target = self.cluster.scratch.path().join("target");
        let shown = target.display().to_string();
        let url = self.cluster.repository.url();
        let mut command = Command::new(binary("seawallctl")?);
        command.args(["repository", "restore", SHARD, backup]);
        command.args(["--target", &shown, "--repository", &url]);
        run_command(command, PATIENCE).await?.done()?;
        self.check_holds(&target.join("data"), backup)?;
        Ok(fs::remove_dir_all(target)?)
    }

    /// A directory holds what this backup is of.
    fn check_holds(&self, directory: &Path, backup: &str) -> Result<()> {
        let number = self.filled.get(backup).context("an unknown backup")?;
        let own = fs::read(directory.join("own"))? == noise(*number, 1 << 20);
        ensure!(own, "{backup} came back with another one's file");
        let constant = fs::read(directory.join("constant"))? == noise(u64::MAX, 2 << 20);
        ensure!(constant, "{backup} came back with another constant");
        Ok(())
    }

    /// Every backup that is listed restores, and of the others only marks are left.
    async fn check_whole(&self) -> Result<()> {
        for backup in self.listed().await? {
            self.check_restores(&backup).await?;
        }
        let mut command = Command::new(binary("seawallctl")?);
        let url = self.cluster.repository.url();
        command.args(["repository", "check", "--repository", &url, "-o", "json"]);
        let checked = run_command(command, PATIENCE).await?.done()?;
        let checked: Value = serde_json::from_str(&checked)?;
        ensure!(checked["clean"] == true, "{checked:#}");
        for sort in ["unneeded", "unfinished", "unknown"] {
            ensure!(checked[sort]["objects"] == 0, "{sort}: {checked:#}");
        }
        Ok(())
    }

    async fn finish(self) -> Result<()> {
        self.cluster.finish().await
    }
}

/// Bytes that do not compress, the same for the same seed.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// The names in a list of objects that each have one.
fn names(list: &Value) -> Vec<&str> {
    let all = list.as_array().into_iter().flatten();
    all.filter_map(|one| one["name"].as_str()).collect()
}
