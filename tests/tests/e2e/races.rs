//! Backups, retention, removals, restores and stalled agents of one shard race each other, on a store
//! that answers now sooner, now later. Whatever is listed as complete restores to what was backed up;
//! what was removed or given up stays so; in the end nothing is left that no backup needs.
//!
//! `SEAWALL_RACE_SECONDS` says for how long, `SEAWALL_RACE_SEED` repeats a run's choices.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use seawall_proto::v1::{self, BackupState, operation_spec::Spec};
use seawall_tests::harness::{
    Cluster, ClusterPlan, TabletPlan,
    binary::binary,
    config::list,
    ctl,
    tablet::Data,
    wait::{PATIENCE, wait_until},
};

use crate::is_soak;

const SHARD: &str = "documents/0";
const PRIMARY: &str = "zone1-101";
const BACKED_UP: [&str; 3] = ["zone1-102", "zone1-103", "zone1-104"];
const RESTORED: &str = "zone1-105";
/// What the coordinator waits before it gives a silent agent's work up.
const LEASE: Duration = Duration::from_secs(3);
const FILES: usize = 5;
const FILE_BYTES: usize = 3 << 20;
/// Complete backups from which on some are removed by hand ...
const MANY: usize = 3;
/// ... and of which retention leaves no more.
const MOST: &str = "4";

/// The hash of each file of a directory.
type Tree = BTreeMap<PathBuf, blake3::Hash>;

fn tree(directory: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let bytes = std::fs::read(entry.path())?;
        tree.insert(entry.file_name().into(), blake3::hash(&bytes));
    }
    Ok(tree)
}

/// Writes over a few places, so that a backup finds some chunks known and others new.
fn change(directory: &Path, random: &mut StdRng) -> Result<()> {
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
        let at = random.random_range(0..FILE_BYTES - 4096);
        random.fill(&mut bytes[at..at + 4096]);
        std::fs::write(&path, bytes)?;
    }
    Ok(())
}

fn directory(cluster: &Cluster, alias: &str) -> PathBuf {
    cluster.scratch.path().join(alias).join("data")
}

fn plan(cluster: &Cluster, alias: &str) -> TabletPlan {
    let open = directory(cluster, alias).join("journal");
    let mut plan = TabletPlan::new(alias)
        .set("keyspace", "documents")
        .set("engine.kind", "files")
        .set(
            "engine.start_command",
            list(["tail", "-f", &open.display().to_string()]),
        )
        .faults(
            "repository.put=jitter;repository.get=jitter;repository.list=jitter;repository.look=jitter",
        );
    plan.data = Data::Nothing;
    "documents".clone_into(&mut plan.keyspace);
    plan
}

/// What the racers know together.
struct Race {
    cluster: Cluster,
    end: Instant,
    agents: BTreeMap<&'static str, Pid>,
    /// What each backup that was begun must restore to.
    expected: Mutex<BTreeMap<String, Tree>>,
    /// Backups that were listed as removed.
    gone: Mutex<BTreeSet<String>>,
}

impl Race {
    fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    fn tree_of(&self, backup: &str) -> Option<Tree> {
        let expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        expected.get(backup).cloned()
    }

    /// Names of complete backups. What was listed as removed once never comes back.
    async fn complete(&self) -> Result<Vec<String>> {
        let backups = self.cluster.backups(SHARD, true).await?;
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        let mut complete = Vec::new();
        for backup in backups {
            let is_removed = backup.state() == BackupState::Removed;
            ensure!(
                is_removed || !gone.contains(&backup.name),
                "{} was removed and came back",
                backup.name
            );
            match backup.state() {
                BackupState::Removed => drop(gone.insert(backup.name)),
                BackupState::Complete => complete.push(backup.name),
                BackupState::Broken => bail!("{} is broken", backup.name),
                _ => {}
            }
        }
        Ok(complete)
    }

    /// Backups of the shard's tablets, one after the other: left alone, cancelled, or with an agent
    /// that stands still until its lease is over.
    async fn back_up(&self, mut random: StdRng) -> Result<()> {
        while !self.is_over() {
            let alias = BACKED_UP[random.random_range(0..BACKED_UP.len())];
            change(&directory(&self.cluster, alias), &mut random)?;
            let tree = tree(&directory(&self.cluster, alias))?;
            let operation = match self.cluster.start_backup(alias).await {
                Ok(operation) => operation,
                // Somebody removes a backup just now, or the tablet is not back yet.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
            expected.insert(operation.backup.clone(), tree);
            drop(expected);
            match random.random_range(0..10) {
                0..=4 => {}
                5..=6 => self.cancel(&operation, &mut random).await?,
                7 => self.stall(alias, &operation, &mut random).await?,
                _ => self.stall_before_the_manifest(alias, &operation).await?,
            }
            self.cluster
                .wait_operation(&operation.id, PATIENCE * 2)
                .await?;
        }
        Ok(())
    }

    async fn cancel(&self, operation: &v1::Operation, random: &mut StdRng) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1500))).await;
        let request = v1::CancelOperationRequest {
            id: operation.id.clone(),
            reason: "a race".to_owned(),
        };
        // It may have ended, or passed its point of no return.
        let _ = self.cluster.operations().await?.cancel(request).await;
        Ok(())
    }

    /// The agent stands still somewhere, for longer than its lease.
    async fn stall(
        &self,
        alias: &str,
        operation: &v1::Operation,
        random: &mut StdRng,
    ) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1000))).await;
        self.stand_still(alias, operation).await
    }

    async fn stand_still(&self, alias: &str, operation: &v1::Operation) -> Result<()> {
        let agent = self.agents.get(alias).context("no such agent")?;
        kill(*agent, Signal::SIGSTOP)?;
        let ended = self
            .cluster
            .wait_operation(&operation.id, LEASE + Duration::from_secs(2));
        // It may have ended before, or may have to be put back by the agent that stands still.
        let _ = ended.await;
        kill(*agent, Signal::SIGCONT)?;
        Ok(())
    }

    /// Everything is announced; the agent stands still before the manifest is put, and wakes up
    /// when nobody waits for it any more.
    async fn stall_before_the_manifest(
        &self,
        alias: &str,
        operation: &v1::Operation,
    ) -> Result<()> {
        let point = "agent.announce.end";
        let faults = self.cluster.tablet(alias)?.faults();
        faults.arm(point, "pause").await?;
        wait_until(
            "the manifest is announced, or the operation over",
            PATIENCE,
            || async {
                let is_there = faults.reached().await?.iter().any(|p| p == point);
                let operation = self.cluster.operation(&operation.id).await?;
                Ok(is_there || operation.finished_unix_ms > 0)
            },
        )
        .await?;
        let outcome = self.stand_still(alias, operation).await;
        faults.disarm(point).await?;
        outcome
    }

    async fn remove(&self, mut random: StdRng) -> Result<()> {
        while !self.is_over() {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let complete = self.complete().await?;
            if complete.len() < MANY {
                continue;
            }
            let spec = Spec::RemoveBackup(v1::RemoveBackupSpec {
                shard: Some(shard()),
                backup: complete[random.random_range(0..complete.len())].clone(),
                ..Default::default()
            });
            // Refused: retention was faster.
            if let Ok(operation) = self.cluster.start_operation(spec, None).await {
                self.cluster.wait_operation(&operation.id, PATIENCE).await?;
            }
        }
        Ok(())
    }

    /// Restores of a tablet, which hold the backup side of the lock.
    async fn restore(&self, mut random: StdRng) -> Result<u32> {
        let mut restored = 0;
        while !self.is_over() {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let complete = self.complete().await?;
            let Some(name) = complete.get(random.random_range(0..complete.len().max(1))) else {
                continue;
            };
            let spec = Spec::Restore(v1::RestoreSpec {
                alias: RESTORED.to_owned(),
                backup: name.clone(),
                ..Default::default()
            });
            let Ok(operation) = self.cluster.start_operation(spec, None).await else {
                // Removed since it was listed, or somebody deletes just now.
                continue;
            };
            self.cluster
                .wait_success(&operation.id, PATIENCE * 2)
                .await
                .with_context(|| format!("{name} was listed and does not restore"))?;
            self.compare(name, &directory(&self.cluster, RESTORED))?;
            restored += 1;
        }
        Ok(restored)
    }

    fn compare(&self, name: &str, directory: &Path) -> Result<()> {
        let expected = self.tree_of(name).context("a backup that nobody began")?;
        ensure!(
            tree(directory)? == expected,
            "{name} restored to something else"
        );
        Ok(())
    }

    /// What is complete now restores from the repository alone; what is gone has stayed so; after a
    /// collection nothing is left that no backup needs.
    async fn check_all(&self) -> Result<usize> {
        let complete = self.complete().await?;
        for name in &complete {
            let target = self.cluster.scratch.path().join(format!("check-{name}"));
            let mut command = Command::new(binary("seawallctl")?);
            command
                .args(["repository", "restore", SHARD, name, "--repository"])
                .arg(self.cluster.repository.url())
                .arg("--target")
                .arg(&target);
            ctl::run_command(command, PATIENCE).await?.done()?;
            self.compare(name, &target.join("data"))?;
        }
        for name in self
            .gone
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            let was_begun = self.cluster.repository.backup(SHARD, name).exists();
            ensure!(
                !was_begun || self.cluster.repository.is_removed(SHARD, name),
                "{name} is gone, and has no mark"
            );
        }
        self.check_nothing_is_left(&complete).await?;
        Ok(complete.len())
    }

    async fn check_nothing_is_left(&self, complete: &[String]) -> Result<()> {
        let url = self.cluster.repository.url();
        wait_until("nothing is left that nobody needs", PATIENCE, || async {
            self.cluster.ctl(&["CollectGarbage", SHARD]).await?.done()?;
            let mut command = Command::new(binary("seawallctl")?);
            command.args(["-o", "json", "repository", "check", "--repository", &url]);
            let checked = ctl::run_command(command, PATIENCE).await?.done()?;
            let checked: serde_json::Value = serde_json::from_str(&checked)?;
            let backups = checked["backups"].as_array().context("no backups")?;
            let whole = backups.iter().filter(|b| b["state"] == "complete").count();
            ensure!(whole == complete.len(), "{checked:#}");
            Ok(checked["unneeded"]["objects"] == 0 && checked["unfinished"]["objects"] == 0)
        })
        .await
    }
}

fn shard() -> v1::ShardRef {
    v1::ShardRef {
        keyspace: "documents".to_owned(),
        shard: "0".to_owned(),
    }
}

fn number_from(variable: &str, default: u64) -> Result<u64> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable}={text}")),
        Err(_) => Ok(default),
    }
}

async fn start(seed: u64) -> Result<Race> {
    let mut cluster = ClusterPlan::new("races")
        .set("agent_lease", format!("{}s", LEASE.as_secs()))
        .set("removal_grace", "500ms")
        .start()
        .await?;
    for request in ["put", "get", "list", "look", "delete"] {
        let point = format!("repository.{request}");
        cluster.coordinators[0]
            .faults()
            .arm(&point, "jitter")
            .await?;
    }
    let mut random = StdRng::seed_from_u64(seed);
    let mut agents = BTreeMap::new();
    for alias in [PRIMARY, RESTORED].iter().chain(&BACKED_UP) {
        change(&directory(&cluster, alias), &mut random)?;
        let plan = plan(&cluster, alias);
        let id = cluster.start_tablet(&plan)?.process()?.id();
        agents.insert(*alias, Pid::from_raw(i32::try_from(id)?));
    }
    for alias in agents.keys() {
        cluster.wait_registered(alias).await?;
    }
    let init = ["InitShardPrimary", SHARD, PRIMARY];
    cluster.ctl(&init).await?.done()?;
    for alias in agents.keys() {
        cluster.wait_serving(alias).await?;
    }
    let retention = ["SetRetention", SHARD, "--keep-count", MOST];
    cluster.ctl(&retention).await?.done()?;
    let seconds = number_from("SEAWALL_RACE_SECONDS", if is_soak() { 3600 } else { 45 })?;
    Ok(Race {
        cluster,
        end: Instant::now() + Duration::from_secs(seconds),
        agents,
        expected: Mutex::default(),
        gone: Mutex::default(),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_i5_what_is_listed_restores_and_what_is_removed_stays_so_whatever_races() -> Result<()> {
    let seed = number_from("SEAWALL_RACE_SEED", rand::random())?;
    println!("SEAWALL_RACE_SEED={seed}");
    let race = start(seed).await?;
    let ((), (), restored) = tokio::try_join!(
        race.back_up(StdRng::seed_from_u64(seed + 1)),
        race.remove(StdRng::seed_from_u64(seed + 2)),
        race.restore(StdRng::seed_from_u64(seed + 3)),
    )?;
    let complete = race.check_all().await?;
    let begun = race.expected.lock().map_or(0, |begun| begun.len());
    let gone = race.gone.lock().map_or(0, |gone| gone.len());
    println!(
        "{begun} backups begun, {gone} of them gone, {complete} complete; {restored} restores"
    );
    if begun < 3 || gone == 0 || restored == 0 || complete == 0 {
        bail!("nothing raced");
    }
    race.cluster.finish().await
}
