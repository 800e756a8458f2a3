//! kill -9 of the leader while it deletes, with the delete side of the lock in its hand: another one
//! finishes what it had begun.

use anyhow::{Result, ensure};
use rand::{SeedableRng as _, rngs::StdRng};
use seawall_proto::v1::{self, LockSide};
use seawall_tests::harness::{Cluster, ClusterPlan, wait::PATIENCE};

use crate::directories::{
    self, SHARD, change, check_nothing_unneeded, check_restores, directory, tree, wait_idle,
};

const REPLICA: &str = "zone1-102";
const MIDDLE: &str = "coordinator.sweep.middle";

async fn someone_deletes(cluster: &Cluster) -> Result<bool> {
    let mut locks = cluster.locks().await?;
    let listed = locks.list(v1::ListHoldsRequest::default()).await?;
    let mut holds = listed.into_inner().holds.into_iter();
    Ok(holds.any(|hold| hold.side() == LockSide::Delete))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_a_leader_killed_in_the_middle_of_a_collection_leaves_nothing_wrong() -> Result<()> {
    let mut cluster = ClusterPlan::new("collector")
        .coordinators(3)
        .set("removal_grace", "200ms")
        .start()
        .await?;
    let mut random = StdRng::seed_from_u64(1);
    directories::start_shard(&mut cluster, &["zone1-101", REPLICA], "", &mut random).await?;
    let data = directory(&cluster, REPLICA);
    let mut kept = Vec::new();
    for _ in 0..3 {
        change(&data, &mut random)?;
        let tree = tree(&data)?;
        kept.push((cluster.back_up(REPLICA).await?, tree));
    }
    let (going, _) = kept.remove(0);

    let leader = cluster.leader().await?;
    let faults = cluster.coordinators[leader].faults();
    faults.arm(MIDDLE, "pause").await?;
    cluster
        .ctl(&["RemoveBackup", SHARD, &going])
        .await?
        .done()?;
    faults.wait_reached(MIDDLE, PATIENCE).await?;
    ensure!(someone_deletes(&cluster).await?, "deleted without a hold");
    ensure!(!cluster.repository.has_manifest(SHARD, &going));
    ensure!(!cluster.repository.packs(SHARD, &going)?.is_empty());
    cluster.coordinators[leader].kill()?;
    for (name, tree) in &kept {
        check_restores(&cluster, name, tree).await?;
    }

    wait_idle(&cluster).await?;
    ensure!(!someone_deletes(&cluster).await?, "a hold was left behind");
    check_nothing_unneeded(&cluster).await?;
    for (name, tree) in &kept {
        check_restores(&cluster, name, tree).await?;
    }
    cluster.back_up(REPLICA).await?;
    cluster.finish().await
}
