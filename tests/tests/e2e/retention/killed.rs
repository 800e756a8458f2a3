//! kill -9 of the coordinator in a collection: the next start finishes it.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_a_coordinator_killed_in_a_collection_finishes_it_and_nothing_else_goes() -> Result<()> {
    let mut ground = Ground::start("killed-collector", "0s").await?;
    let mut backups = ground.back_up_times(4).await?;
    for moment in ["begin", "middle", "end"] {
        let point = format!("coordinator.sweep.{moment}");
        eprintln!("killing the coordinator at {point}");
        let going = backups.remove(0);
        let faults = ground.cluster.coordinators[0].faults();
        faults.arm(&point, "pause").await?;
        let before = ground.objects()?;
        let remove = ["RemoveBackup", SHARD, going.as_str()];
        ground.ctl(&remove).await?.done()?;
        faults.wait_reached(&point, PATIENCE).await?;
        let has_manifest = ground.cluster.repository.has_manifest(SHARD, &going);
        ensure!(has_manifest == (moment == "begin"), "at {point}");
        let own_left = |objects: &BTreeMap<String, u64>| {
            let own = objects.keys().filter(|key| key.contains(going.as_str()));
            own.filter(|key| !key.ends_with("/removed")).count()
        };
        let left = own_left(&ground.objects()?);
        let expected = match moment {
            "begin" => left == own_left(&before),
            "middle" => left > 0 && left < own_left(&before),
            _ => left == 0,
        };
        ensure!(expected, "at {point} {left} objects are left");

        let coordinator = &mut ground.cluster.coordinators[0];
        coordinator.kill()?;
        coordinator.start()?;
        coordinator.wait_ready().await?;
        ground.wait_swept(&going).await?;
        ground
            .wait_listed(&backups.iter().collect::<Vec<_>>())
            .await?;
        ground.check_whole().await?;
        // Nothing that the collector has deleted is taken for being there.
        backups.push(ground.back_up().await?);
    }
    ground.check_whole().await?;
    ground.finish().await
}
