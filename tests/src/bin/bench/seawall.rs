//! Seawall's own part of a round: the copy and fetch steps of a real cluster, without what its
//! database takes to stop, start and catch up.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use seawall_proto::v1::{self, operation_spec::Spec};
use seawall_tests::harness::{
    Cluster, TabletPlan,
    config::list,
    wait::{PATIENCE, wait_for},
};

use super::{
    contender::{Contender, Task},
    stages::{counted, since},
};

pub const SHARD: &str = "commerce/0";
pub const PRIMARY: &str = "zone1-101";
pub const REPLICA: &str = "zone1-102";
pub const PATIENCE_WITH_DATA: Duration = Duration::from_secs(1800);

const FETCHED: &str = "seawall_agent_restore_requested_bytes_total";

pub struct Seawall {
    pub recipient: String,
    pub key: PathBuf,
    pub measured: Contender,
    pub logical_bytes: u64,
    pub backup_peak_kib: u64,
    pub restore_peak_kib: u64,
}

impl Seawall {
    pub fn new(key: PathBuf) -> Result<Self> {
        Ok(Self {
            recipient: new_key(&key)?,
            key,
            measured: Contender::new("seawall, encrypted, concurrency 4"),
            logical_bytes: 0,
            backup_peak_kib: 0,
            restore_peak_kib: 0,
        })
    }

    pub fn plan(&self, alias: &str) -> TabletPlan {
        TabletPlan::new(alias)
            .set("repository.recipients", list([self.recipient.as_str()]))
            .set("repository.identity_file", self.key.display().to_string())
            .set("restore_concurrency", 4)
    }

    /// The copy step alone. The backup's name.
    pub async fn back_up(&mut self, cluster: &mut Cluster, task: Task) -> Result<String> {
        let before = counted(cluster.tablet(REPLICA)?, "backup").await?;
        let operation = cluster.start_backup(REPLICA).await?;
        let operation = cluster
            .wait_success(&operation.id, PATIENCE_WITH_DATA)
            .await?;
        let listed = cluster.backups(SHARD, false).await?;
        let backup = listed.iter().find(|backup| backup.name == operation.backup);
        let backup = backup.context("the backup is not listed")?;
        ensure!(backup.encrypted, "the backup is not encrypted");
        self.logical_bytes = backup.logical_bytes;
        let seconds = seconds_of(&operation, "copy")?;
        self.measured.note(task, seconds, Some(backup.stored_bytes));
        let now = counted(cluster.tablet(REPLICA)?, "backup").await?;
        self.measured.note_stages(task, since(&before, now));
        let peak = cluster.tablet_mut(REPLICA)?.process()?.peak_memory_kib()?;
        self.backup_peak_kib = self.backup_peak_kib.max(peak);
        Ok(operation.backup)
    }

    /// The fetch step of a tablet with an empty data directory.
    pub async fn restore_anew(&mut self, cluster: &mut Cluster, alias: &str) -> Result<()> {
        cluster.start_tablet(&self.plan(alias).restored())?;
        let restore = wait_restore(cluster, alias).await?;
        self.note_restore(cluster, alias, Task::FullRestore, &restore)
            .await?;
        cluster.wait_serving(alias).await?;
        let peak = cluster.tablet_mut(alias)?.process()?.peak_memory_kib()?;
        self.restore_peak_kib = self.restore_peak_kib.max(peak);
        Ok(())
    }

    /// The fetch step of a tablet that has nearly the same data.
    pub async fn restore_over(
        &mut self,
        cluster: &Cluster,
        alias: &str,
        backup: &str,
    ) -> Result<()> {
        let spec = Spec::Restore(v1::RestoreSpec {
            alias: alias.to_owned(),
            backup: backup.to_owned(),
            ..Default::default()
        });
        let operation = cluster.start_operation(spec, None).await?;
        let operation = cluster
            .wait_success(&operation.id, PATIENCE_WITH_DATA)
            .await?;
        self.note_restore(cluster, alias, Task::DeltaRestore, &operation)
            .await
    }

    /// Of an agent that has restored once since it was started.
    async fn note_restore(
        &mut self,
        cluster: &Cluster,
        alias: &str,
        task: Task,
        operation: &v1::Operation,
    ) -> Result<()> {
        let tablet = cluster.tablet(alias)?;
        let fetched = tablet.metric(FETCHED).await?;
        self.measured
            .note(task, seconds_of(operation, "fetch")?, Some(fetched));
        let stages = counted(tablet, "restore").await?;
        self.measured.note_stages(task, stages);
        Ok(())
    }

    /// So that the next round's first backup finds nothing to refer to.
    pub async fn forget_backups(&self, cluster: &Cluster) -> Result<()> {
        for backup in cluster.backups(SHARD, false).await? {
            cluster
                .ctl(&["RemoveBackup", "--force", SHARD, &backup.name])
                .await?
                .done()?;
        }
        Ok(())
    }
}

/// Waits until the restore of a tablet has succeeded.
pub async fn wait_restore(cluster: &Cluster, alias: &str) -> Result<v1::Operation> {
    let id = wait_for("the restore begins", PATIENCE, || async {
        let request = v1::ListOperationsRequest { all: true };
        let listed = cluster.operations().await?.list(request).await?;
        Ok(listed
            .into_inner()
            .operations
            .into_iter()
            .find(|operation| {
                matches!(
                    operation.spec.as_ref().and_then(|spec| spec.spec.as_ref()),
                    Some(Spec::Restore(spec)) if spec.alias == alias
                )
            }))
    })
    .await?
    .id;
    cluster.wait_success(&id, PATIENCE_WITH_DATA).await
}

/// Makes a key pair; answers the public one.
fn new_key(file: &Path) -> Result<String> {
    let output = Command::new("age-keygen").arg("-o").arg(file).output()?;
    ensure!(output.status.success(), "age-keygen failed");
    let text = std::fs::read_to_string(file)?;
    text.lines()
        .find_map(|line| line.strip_prefix("# public key: "))
        .map(str::to_owned)
        .context("age-keygen wrote no public key")
}

fn seconds_of(operation: &v1::Operation, step: &str) -> Result<f64> {
    let step = operation
        .steps
        .iter()
        .rfind(|candidate| candidate.name == step && candidate.error.is_empty())
        .with_context(|| format!("the operation has no step {step}"))?;
    Ok((step.ended_unix_ms - step.started_unix_ms) as f64 / 1e3)
}
