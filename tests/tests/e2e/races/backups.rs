//! Backups of the shard's tablets, one after the other: left alone, cancelled, or with an agent that
//! stands still until its lease is over.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use rand::{RngExt as _, rngs::StdRng};
use seawall_proto::v1::{self, OperationState};
use seawall_tests::harness::{
    faults::Faults,
    wait::{PATIENCE, wait_until},
};

use super::{BACKED_UP, LEASE, Race, locked};
use crate::directories::{SHARD, change, directory, tree};

const BEFORE_THE_MANIFEST: &str = "agent.announce.end";

impl Race {
    pub(super) async fn back_up(&self, mut random: StdRng) -> Result<()> {
        while !self.is_over() {
            let alias = BACKED_UP[random.random_range(0..BACKED_UP.len())];
            let data = directory(&self.cluster, alias);
            change(&data, &mut random)?;
            let tree = tree(&data)?;
            let Ok(operation) = self.cluster.start_backup(alias).await else {
                // Somebody deletes just now, or the tablet is not back yet.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            locked(&self.expected).insert(operation.backup.clone(), tree);
            match random.random_range(0..10) {
                0..=5 => {}
                6..=7 => self.cancel(&operation, &mut random).await?,
                8 => self.stall(alias, &operation, &mut random).await?,
                _ => self.stall_before_the_manifest(alias, &operation).await?,
            }
            self.judge(alias, &operation).await?;
        }
        Ok(())
    }

    /// However it ended, the directory is as it was; and what failed is gone for good.
    async fn judge(&self, alias: &str, operation: &v1::Operation) -> Result<()> {
        let ended = self.cluster.wait_operation(&operation.id, PATIENCE * 2);
        let ended = ended.await?;
        let name = &operation.backup;
        match ended.state() {
            OperationState::Succeeded => self.count("complete"),
            // Complete, and then its agent was silent for too long.
            OperationState::Failed if ended.irrevocable => self.count("complete, then silent"),
            OperationState::Failed | OperationState::Cancelled => {
                self.count("given up");
                ensure!(
                    self.cluster.repository.is_removed(SHARD, name),
                    "{name} was given up, and has no mark"
                );
                locked(&self.gone).insert(name.clone());
            }
            state => anyhow::bail!("{name} ended as {state:?}"),
        }
        let data = directory(&self.cluster, alias);
        self.compare(name, &data)
    }

    async fn cancel(&self, operation: &v1::Operation, random: &mut StdRng) -> Result<()> {
        self.count("cancelled");
        tokio::time::sleep(Duration::from_millis(random.random_range(0..2000))).await;
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
        self.count("stalled");
        tokio::time::sleep(Duration::from_millis(random.random_range(0..2000))).await;
        self.stand_still(alias, operation, None).await
    }

    /// The manifest is announced; the agent stands still before it is put, and wakes up when nobody
    /// waits for it any more.
    async fn stall_before_the_manifest(
        &self,
        alias: &str,
        operation: &v1::Operation,
    ) -> Result<()> {
        let faults = self.cluster.tablet(alias)?.faults();
        faults.arm(BEFORE_THE_MANIFEST, "pause").await?;
        let announced = || async {
            let announced = self.cluster.operation(&operation.id).await?;
            let is_over = announced.finished_unix_ms > 0;
            let shown = announced.progress.map(|progress| progress.message);
            Ok(is_over || shown.is_some_and(|message| message.contains("announcing")))
        };
        wait_until("the manifest is announced", PATIENCE, announced).await?;
        self.count("stalled before the manifest");
        self.stand_still(alias, operation, Some(&faults)).await
    }

    /// Until the backup has been given up, or is over. What is let go of at `faults` is so in the
    /// moment in which the agent wakes up: it puts its manifest as late as can be.
    async fn stand_still(
        &self,
        alias: &str,
        operation: &v1::Operation,
        faults: Option<&Faults>,
    ) -> Result<()> {
        let agent = *self.agents.get(alias).context("no such agent")?;
        kill(agent, Signal::SIGSTOP)?;
        let name = &operation.backup;
        // Past its point of no return it is not given up for as long as this.
        let limit = LEASE + Duration::from_secs(6);
        let given_up = wait_until("it is given up", limit, || async {
            let ended = self.cluster.operation(&operation.id).await?;
            Ok(ended.finished_unix_ms > 0 || self.cluster.repository.is_removed(SHARD, name))
        });
        if given_up.await.is_ok() {
            self.count("lost its lease");
        }
        let wake = || async {
            // The words of the other side are there when it wakes up.
            tokio::time::sleep(Duration::from_millis(100)).await;
            kill(agent, Signal::SIGCONT)?;
            anyhow::Ok(())
        };
        match faults {
            None => wake().await,
            Some(faults) => {
                let (disarmed, woken) = tokio::join!(faults.disarm(BEFORE_THE_MANIFEST), wake());
                woken.and(disarmed)
            }
        }
    }
}
