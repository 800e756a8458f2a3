//! Backups, removals, collections, restores and stalled agents of one shard race each other, on a
//! store that answers now sooner, now later. Whatever is listed as complete restores to what was
//! backed up; what was removed or given up stays so; and in the end nothing lies in the repository
//! that nobody needs.
//!
//! `SEAWALL_RACE_SECONDS` says for how long, `SEAWALL_RACE_SEED` repeats a run's choices.

mod backups;
mod removals;
mod restores;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::unistd::Pid;
use rand::{SeedableRng as _, rngs::StdRng};
use seawall_proto::v1::BackupState;
use seawall_tests::harness::{Cluster, ClusterPlan};

use crate::{
    directories::{self, SHARD, Tree, check_nothing_unneeded, check_restores, tree, wait_idle},
    is_soak,
};

const PRIMARY: &str = "zone1-101";
const BACKED_UP: [&str; 3] = ["zone1-102", "zone1-103", "zone1-104"];
const RESTORED: &str = "zone1-105";
/// What the coordinator waits before it gives a silent agent's work up.
const LEASE: Duration = Duration::from_secs(4);
const JITTER: &str =
    "repository.put=jitter;repository.get=jitter;repository.list=jitter;repository.look=jitter";

/// What the racers know together.
struct Race {
    cluster: Cluster,
    end: Instant,
    agents: BTreeMap<String, Pid>,
    /// What each backup that was begun must restore to.
    expected: Mutex<BTreeMap<String, Tree>>,
    /// Backups that were seen as removed, and those that were given up.
    gone: Mutex<BTreeSet<String>>,
    /// What is being restored just now.
    restoring: Mutex<Option<String>>,
    counts: Mutex<BTreeMap<&'static str, u32>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Race {
    fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    fn count(&self, what: &'static str) {
        *locked(&self.counts).entry(what).or_default() += 1;
    }

    fn counted(&self, what: &str) -> u32 {
        locked(&self.counts).get(what).copied().unwrap_or(0)
    }

    fn is_gone(&self, backup: &str) -> bool {
        locked(&self.gone).contains(backup)
    }

    async fn complete(&self) -> Result<Vec<String>> {
        let complete = self.cluster.backups(SHARD, false).await?.into_iter();
        let complete = complete.filter(|backup| backup.state() == BackupState::Complete);
        Ok(complete.map(|backup| backup.name).collect())
    }

    /// Looks again and again, until the end, that nothing that is gone comes back.
    async fn watch(&self) -> Result<()> {
        while !self.is_over() {
            self.look().await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    async fn look(&self) -> Result<()> {
        for backup in self.cluster.backups(SHARD, true).await? {
            let name = &backup.name;
            if backup.state() == BackupState::Removed {
                locked(&self.gone).insert(name.clone());
                ensure!(
                    self.cluster.repository.is_removed(SHARD, name),
                    "{name} is listed as removed, and has no mark"
                );
            } else {
                ensure!(
                    !self.is_gone(name),
                    "{name} was gone and came back as {:?}",
                    backup.state()
                );
            }
        }
        Ok(())
    }

    /// What a backup must restore to.
    fn tree_of(&self, name: &str) -> Result<Tree> {
        let expected = locked(&self.expected).get(name).cloned();
        expected.context("a backup that nobody began")
    }

    fn compare(&self, name: &str, directory: &Path) -> Result<()> {
        ensure!(
            tree(directory)? == self.tree_of(name)?,
            "{name} restored to something else"
        );
        Ok(())
    }

    /// What is complete now restores, and what lies there is needed.
    async fn check_all(&self) -> Result<usize> {
        wait_idle(&self.cluster).await?;
        let collect = ["CollectGarbage", SHARD];
        self.cluster.ctl(&collect).await?.done()?;
        self.look().await?;
        let complete = self.complete().await?;
        for name in &complete {
            ensure!(!self.is_gone(name), "{name} was gone and came back");
            let expected = self.tree_of(name)?;
            check_restores(&self.cluster, name, &expected).await?;
        }
        check_nothing_unneeded(&self.cluster).await?;
        Ok(complete.len())
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
        .set("removal_grace", "0s")
        .set("retention_interval", "1s")
        .start()
        .await?;
    let aliases = [&[PRIMARY, RESTORED], &BACKED_UP[..]].concat();
    let mut random = StdRng::seed_from_u64(seed);
    directories::start_shard(&mut cluster, &aliases, JITTER, &mut random).await?;
    let faults = cluster.coordinators[0].faults();
    for request in ["put", "get", "list", "look", "delete"] {
        faults
            .arm(&format!("repository.{request}"), "jitter")
            .await?;
    }
    let mut agents = BTreeMap::new();
    for alias in BACKED_UP {
        let id = cluster.tablet_mut(alias)?.process()?.id();
        agents.insert(alias.to_owned(), Pid::from_raw(i32::try_from(id)?));
    }
    let seconds = number_from("SEAWALL_RACE_SECONDS", if is_soak() { 3600 } else { 60 })?;
    Ok(Race {
        cluster,
        end: Instant::now() + Duration::from_secs(seconds),
        agents,
        expected: Mutex::default(),
        gone: Mutex::default(),
        restoring: Mutex::default(),
        counts: Mutex::default(),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_i5_what_is_listed_restores_and_what_is_removed_stays_so_whatever_races() -> Result<()> {
    let seed = number_from("SEAWALL_RACE_SEED", u64::from(rand::random::<u32>()))?;
    println!("SEAWALL_RACE_SEED={seed}");
    let race = start(seed).await?;
    tokio::try_join!(
        race.back_up(StdRng::seed_from_u64(seed + 1)),
        race.remove(StdRng::seed_from_u64(seed + 2)),
        race.restore(StdRng::seed_from_u64(seed + 3)),
        race.watch(),
    )?;
    let complete = race.check_all().await?;
    let gone = locked(&race.gone).len();
    println!(
        "{:?}; {gone} gone, {complete} complete in the end",
        locked(&race.counts)
    );
    for what in ["complete", "restored"] {
        ensure!(race.counted(what) > 0, "nothing raced: {what}");
    }
    ensure!(gone > 0 && complete > 0, "nothing raced");
    race.cluster.finish().await
}
