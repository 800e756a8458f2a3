//! A restore keeps what it needs: nothing of its shard is deleted before it has ended.

use seawall_proto::v1::OperationState;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_a_restore_keeps_what_it_needs_while_removals_and_collections_are_asked_for()
-> Result<()> {
    let mut ground = Ground::start("restoring", "4s").await?;
    let backups = ground.back_up_times(3).await?;
    let [first, second, third] = &backups[..] else {
        anyhow::bail!("three backups")
    };
    let point = "agent.fetch.middle";
    let (plan, restored) = directory_tablet(&ground.cluster, "zone1-102");
    ground
        .cluster
        .start_tablet(&plan.set("restore_from_backup", true))?;
    ground.cluster.wait_serving("zone1-102").await?;
    ground.cluster.wait_known_serving("zone1-102").await?;
    ground.check_holds(&restored, third)?;

    // Its grace time ends while the restore is at work. What that needs lies under its name, too.
    let remove = ["RemoveBackup", SHARD, first.as_str()];
    ground.ctl(&remove).await?.done()?;
    let faults = ground.cluster.tablet("zone1-102")?.faults();
    faults.arm(point, "pause").await?;
    let args = ["Restore", "zone1-102", "--backup", second.as_str()];
    let mut restoring = ground.cluster.start_ctl("restoring", &args)?;
    faults.wait_reached(point, PATIENCE).await?;

    let before = ground.objects()?;
    for backup in [second, third] {
        let remove = ["RemoveBackup", SHARD, backup];
        ground.ctl(&remove).await?.refused(1, &["restore"])?;
    }
    let collect = ["CollectGarbage", SHARD, "--detach", "-o", "name"];
    let collection = ground.ctl(&collect).await?.done()?;
    let collection = collection.trim();
    let log = &ground.cluster.coordinators[0];
    wait_until("the collection was told to wait", PATIENCE, || async {
        let log = log.log_text();
        let mut waits = log
            .lines()
            .filter(|line| line.contains("the deletion waits"));
        Ok(waits.any(|line| line.contains(collection)))
    })
    .await?;
    let known = ground.cluster.operation(collection).await?;
    ensure!(known.state() == OperationState::Running, "{known:?}");
    ensure!(ground.objects()? == before, "deleted under a restore");

    faults.disarm(point).await?;
    let status = tokio::task::block_in_place(|| restoring.wait(PATIENCE))?;
    ensure!(status.success(), "{}", restoring.log_text());
    ground.check_holds(&restored, second)?;
    ground.cluster.wait_success(collection, PATIENCE).await?;
    ground.wait_swept(first).await?;
    ground.check_restores(second).await?;
    let remove = ["RemoveBackup", SHARD, second.as_str()];
    ground.ctl(&remove).await?.done()?;
    ground.wait_swept(second).await?;
    ground.wait_listed(&[third]).await?;
    ground.check_whole().await?;
    ground.finish().await
}
