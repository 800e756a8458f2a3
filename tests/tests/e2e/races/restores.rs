//! Restores of one tablet, which hold the backup side of the lock.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::{RngExt as _, rngs::StdRng};
use seawall_proto::v1::{self, operation_spec::Spec};
use seawall_tests::harness::wait::PATIENCE;

use super::{RESTORED, Race, locked};
use crate::directories::directory;

const BEFORE_THE_FETCH: &str = "agent.fetch.begin";

impl Race {
    pub(super) async fn restore(&self, mut random: StdRng) -> Result<()> {
        while !self.is_over() {
            tokio::time::sleep(Duration::from_millis(random.random_range(100..1500))).await;
            let complete = self.complete().await?;
            if complete.is_empty() {
                continue;
            }
            let name = &complete[random.random_range(0..complete.len())];
            let faults = self.cluster.tablet(RESTORED)?.faults();
            faults.arm(BEFORE_THE_FETCH, "pause").await?;
            let spec = Spec::Restore(v1::RestoreSpec {
                alias: RESTORED.to_owned(),
                backup: name.clone(),
                ..Default::default()
            });
            let Ok(operation) = self.cluster.start_operation(spec, None).await else {
                // Removed since it was listed, or somebody deletes just now.
                continue;
            };
            *locked(&self.restoring) = Some(name.clone());
            // Long enough for others to delete what it needs, if they could.
            tokio::time::sleep(Duration::from_millis(random.random_range(0..3000))).await;
            faults.disarm(BEFORE_THE_FETCH).await?;
            self.cluster
                .wait_success(&operation.id, PATIENCE * 2)
                .await
                .with_context(|| format!("{name} was listed and does not restore"))?;
            self.compare(name, &directory(&self.cluster, RESTORED))?;
            *locked(&self.restoring) = None;
            self.count("restored");
        }
        Ok(())
    }
}
