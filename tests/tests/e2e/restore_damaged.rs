//! Damaged storage is noticed before a database is started on it, and the object is named.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use seawall_tests::harness::{
    Cluster, ClusterPlan, TabletPlan,
    load::Load,
    wait::{PATIENCE, wait_until},
};

/// Restores from a repository in which `damage` was done to the largest pack, and demands a clear
/// failure.
async fn restore_after(name: &str, damage: impl Fn(&Path) -> Result<()>) -> Result<()> {
    let mut cluster = ClusterPlan::new(name).start().await?;
    cluster.start_small_shard(2).await?;
    let load = Load::start(&cluster.tablet("zone1-101")?.server).await?;
    load.wait_progress(50).await?;
    let backup = cluster.back_up("zone1-102").await?;
    load.stop().await?;
    let packs = cluster.repository.packs("commerce/0", &backup)?;
    let pack = packs.first().context("a backup without packs")?;
    damage(pack)?;

    let plan = TabletPlan::new("zone1-103")
        .restored()
        .set("initialize", true);
    cluster.start_tablet(&plan)?;
    check_refused(&cluster, pack).await?;
    cluster.finish().await
}

async fn check_refused(cluster: &Cluster, pack: &Path) -> Result<()> {
    let object = pack.file_name().context("a pack without a name")?;
    let object = object.to_string_lossy();
    let tablet = cluster.tablet("zone1-103")?;
    wait_until(
        "an operation names the damaged object",
        PATIENCE,
        || async {
            let restores = crate::restore::restores(cluster).await?;
            Ok(restores
                .iter()
                .any(|restore| restore.error.contains(&*object)))
        },
    )
    .await?;
    // Long enough for another try to have done what it must not.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    ensure!(tablet.server.process().is_none(), "a database was started");
    ensure!(
        !tablet.server.data_dir().exists(),
        "something looks restored"
    );
    ensure!(!tablet.is_serving().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i8_a_truncated_pack_stops_the_restore_and_is_named() -> Result<()> {
    restore_after("truncated", |pack| {
        let file = std::fs::OpenOptions::new().write(true).open(pack)?;
        let size = file.metadata()?.len();
        Ok(file.set_len(size / 2)?)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i8_an_altered_pack_stops_the_restore_and_is_named() -> Result<()> {
    restore_after("altered", |pack| {
        let mut bytes = std::fs::read(pack)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        Ok(std::fs::write(pack, bytes)?)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i8_a_missing_pack_stops_the_restore_and_is_named() -> Result<()> {
    restore_after("missing", |pack| Ok(std::fs::remove_file(pack)?)).await
}
