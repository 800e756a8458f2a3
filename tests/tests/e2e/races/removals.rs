//! Retention of a changing policy, removals by hand, and collections.

use std::time::Duration;

use anyhow::Result;
use rand::{RngExt as _, rngs::StdRng};
use seawall_proto::v1::{self, operation_spec::Spec};
use seawall_tests::harness::wait::PATIENCE;

use super::{Race, locked};
use crate::directories::{SHARD, shard};

impl Race {
    pub(super) async fn remove(&self, mut random: StdRng) -> Result<()> {
        while !self.is_over() {
            tokio::time::sleep(Duration::from_millis(random.random_range(100..1000))).await;
            match random.random_range(0..6) {
                0 => self.set_retention(random.random_range(2..6)).await?,
                1 => {
                    let collect = v1::CollectSpec {
                        shard: Some(shard()),
                    };
                    self.try_to(Spec::Collect(collect), "collected").await?;
                }
                _ => self.remove_one(&mut random).await?,
            }
        }
        Ok(())
    }

    async fn set_retention(&self, count: u32) -> Result<()> {
        let count = count.to_string();
        let args = ["SetRetention", SHARD, "--keep-count", &count];
        self.cluster.ctl(&args).await?.done()?;
        Ok(())
    }

    async fn remove_one(&self, random: &mut StdRng) -> Result<()> {
        let complete = self.complete().await?;
        if complete.len() < 2 {
            return Ok(());
        }
        // Rather one that somebody needs.
        let restoring = locked(&self.restoring).clone();
        let any = complete[random.random_range(0..complete.len())].clone();
        let spec = Spec::RemoveBackup(v1::RemoveBackupSpec {
            shard: Some(shard()),
            backup: restoring.unwrap_or(any),
            force: false,
            ..Default::default()
        });
        self.try_to(spec, "removed by hand").await
    }

    /// Refused while backups and restores are at work, which is most of the time.
    async fn try_to(&self, spec: Spec, what: &'static str) -> Result<()> {
        if let Ok(operation) = self.cluster.start_operation(spec, None).await {
            let ended = self.cluster.wait_success(&operation.id, PATIENCE * 2);
            ended.await?;
            self.count(what);
        }
        Ok(())
    }
}
