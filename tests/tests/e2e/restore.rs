//! A tablet with no data restores itself; one that has data, or was not told to, never does.

use anyhow::{Context as _, Result, ensure};
use seawall_proto::v1::{self, operation_spec::Spec};
use seawall_tests::harness::{
    Cluster, ClusterPlan, TabletPlan,
    config::list,
    load::{Load, check_nothing_is_lost},
    tablet::Data,
    wait::{PATIENCE, wait_until},
};

/// Restores that the coordinator has heard of.
pub async fn restores(cluster: &Cluster) -> Result<Vec<v1::Operation>> {
    let mut operations = cluster.operations().await?;
    let request = v1::ListOperationsRequest { all: true };
    let listed = operations.list(request).await?.into_inner().operations;
    let is_restore = |operation: &v1::Operation| {
        let spec = operation.spec.as_ref().and_then(|spec| spec.spec.as_ref());
        matches!(spec, Some(Spec::Restore(_)))
    };
    Ok(listed.into_iter().filter(is_restore).collect())
}

/// A tablet without a data directory, told neither to restore nor to make one.
fn bare(alias: &str) -> TabletPlan {
    let mut plan = TabletPlan::new(alias);
    plan.data = Data::Nothing;
    plan
}

/// Makes a key pair with `seawallctl GenerateIdentity`: the public key and the file of the private one.
async fn new_identity(cluster: &Cluster) -> Result<(String, String)> {
    let file = cluster.scratch.path().join("identity");
    let path = file.display().to_string();
    let printed = cluster
        .ctl(&["GenerateIdentity", "--output-file", &path])
        .await?
        .done()?;
    let public = printed
        .split_whitespace()
        .find(|word| word.starts_with("age1"))
        .with_context(|| format!("no public key in {printed:?}"))?;
    Ok((public.to_owned(), path))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_tablet_restores_the_newest_encrypted_backup_and_follows_the_present_primary()
-> Result<()> {
    let mut cluster = ClusterPlan::new("restore").start().await?;
    let (recipient, identity_file) = new_identity(&cluster).await?;
    let encrypted = |alias: &str| {
        TabletPlan::new(alias)
            .set("repository.recipients", list([recipient.as_str()]))
            .set("repository.identity_file", identity_file.as_str())
    };
    let aliases = ["zone1-101", "zone1-102"];
    cluster.start_shard(&aliases.map(encrypted)).await?;
    let load = Load::start(&cluster.tablet("zone1-101")?.server).await?;
    load.wait_progress(50).await?;
    let first = cluster.back_up("zone1-102").await?;
    load.wait_progress(50).await?;
    let newest = cluster.back_up("zone1-102").await?;
    ensure!(first != newest);
    let listed = cluster.backups("commerce/0", false).await?;
    ensure!(listed.iter().all(|backup| backup.encrypted), "{listed:?}");
    let names: Vec<&str> = listed.iter().map(|backup| backup.name.as_str()).collect();
    ensure!(names == [&first, &newest], "oldest first: {names:?}");

    let args = [
        "PlannedReparentShard",
        "commerce/0",
        "--new-primary",
        "zone1-102",
    ];
    cluster.ctl(&args).await?.done()?;
    load.move_to(&cluster.tablet("zone1-102")?.server);
    load.wait_progress(20).await?;
    cluster.start_tablet(&encrypted("zone1-103").restored())?;
    cluster.wait_serving("zone1-103").await?;
    let restores = restores(&cluster).await?;
    ensure!(
        restores.len() == 1 && restores[0].backup == newest,
        "{restores:?}"
    );

    let orders = load.stop().await?;
    cluster.wait_caught_up("zone1-103", "zone1-102").await?;
    cluster.wait_caught_up("zone1-101", "zone1-102").await?;
    cluster
        .check_equal(&["zone1-101", "zone1-102", "zone1-103"])
        .await?;
    check_nothing_is_lost(&cluster.tablet("zone1-103")?.server, &orders).await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_restored_in_place_on_request_and_a_primary_is_not() -> Result<()> {
    let mut cluster = ClusterPlan::new("in-place").start().await?;
    cluster.start_small_shard(2).await?;
    let load = Load::start(&cluster.tablet("zone1-101")?.server).await?;
    load.wait_progress(30).await?;
    cluster.back_up("zone1-102").await?;
    let orders = load.stop().await?;
    let replica = &cluster.tablet("zone1-102")?.server;
    replica
        .execute(&["SET sql_log_bin = 0", "DELETE FROM shop.orders"])
        .await?;

    let refused = cluster.ctl(&["Restore", "zone1-101"]).await?;
    refused.refused(1, &["zone1-101", "primary"])?;
    cluster.ctl(&["Restore", "zone1-102"]).await?.done()?;
    cluster.wait_serving("zone1-102").await?;
    cluster.wait_caught_up("zone1-102", "zone1-101").await?;
    cluster.check_equal(&["zone1-101", "zone1-102"]).await?;
    check_nothing_is_lost(replica, &orders).await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_no_backup_at_all_a_tablet_starts_empty() -> Result<()> {
    let mut cluster = ClusterPlan::new("no-backup").start().await?;
    let first = bare("zone1-101")
        .set("restore_from_backup", true)
        .set("initialize", true);
    cluster.start_shard(&[first]).await?;
    let restored = restores(&cluster).await?;
    ensure!(
        restored.iter().all(|restore| restore.backup.is_empty()),
        "{restored:?}"
    );
    let server = &cluster.tablet("zone1-101")?.server;
    server.execute(&["CREATE DATABASE d"]).await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_no_coordinator_at_all_the_repository_alone_is_enough() -> Result<()> {
    let mut cluster = ClusterPlan::new("repository-alone").start().await?;
    cluster.start_small_shard(2).await?;
    let load = Load::start(&cluster.tablet("zone1-101")?.server).await?;
    load.wait_progress(50).await?;
    let orders = load.stop().await?;
    cluster.wait_caught_up("zone1-102", "zone1-101").await?;
    cluster.back_up("zone1-102").await?;
    cluster.coordinators[0].kill()?;

    let plan = TabletPlan::new("zone1-103")
        .restored()
        .set("restore_alone_after", "2s");
    cluster.start_tablet(&plan)?;
    let tablet = cluster.tablet("zone1-103")?;
    wait_until("the restored database answers", PATIENCE, || async {
        Ok(!tablet.server.checksums().await?.is_empty())
    })
    .await?;
    check_nothing_is_lost(&tablet.server, &orders).await?;
    ensure!(!tablet.is_serving().await?, "it serves without a goal");
    ensure!(tablet.server.is_read_only().await?);

    cluster.coordinators[0].start()?;
    cluster.wait_serving("zone1-103").await?;
    cluster.wait_caught_up("zone1-103", "zone1-101").await?;
    cluster.check_equal(&["zone1-101", "zone1-103"]).await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_backups_that_are_all_incomplete_are_an_error_and_no_empty_start() -> Result<()> {
    let mut cluster = ClusterPlan::new("incomplete").start().await?;
    cluster.start_small_shard(2).await?;
    let name = cluster.back_up("zone1-102").await?;
    let manifest = cluster
        .repository
        .backup("commerce/0", &name)
        .join("manifest");
    std::fs::remove_file(&manifest)?;

    let plan = TabletPlan::new("zone1-103")
        .restored()
        .set("initialize", true);
    cluster.start_tablet(&plan)?;
    let tablet = cluster.tablet("zone1-103")?;
    wait_until(
        "the agent says that no backup is complete",
        PATIENCE,
        || async { Ok(tablet.log_text().contains("complete")) },
    )
    .await?;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    ensure!(tablet.server.process().is_none(), "a database was started");
    ensure!(
        !tablet.server.data_dir().exists(),
        "a data directory was made"
    );
    ensure!(!tablet.is_serving().await?);
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_restore_from_backup_a_tablet_never_restores() -> Result<()> {
    let mut cluster = ClusterPlan::new("never").start().await?;
    cluster.start_small_shard(2).await?;
    cluster.back_up("zone1-102").await?;

    cluster.start_tablet(&bare("zone1-103"))?;
    cluster.start_tablet(&bare("zone1-104").set("initialize", true))?;
    // It begins with nothing and gets everything from the primary's own log.
    cluster.wait_serving("zone1-104").await?;
    let waiting = cluster.tablet("zone1-103")?;
    ensure!(
        !waiting.server.data_dir().exists(),
        "it made a data directory"
    );
    ensure!(waiting.server.process().is_none(), "it started a database");
    ensure!(!waiting.is_serving().await?);
    ensure!(restores(&cluster).await?.is_empty());
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_with_user_data_is_never_touched() -> Result<()> {
    let mut cluster = ClusterPlan::new("user-data").start().await?;
    cluster.start_small_shard(2).await?;
    cluster.back_up("zone1-102").await?;

    let third = TabletPlan::new("zone1-103");
    cluster.start_tablet(&third)?;
    cluster.wait_serving("zone1-103").await?;
    let tablet = cluster.tablet_mut("zone1-103")?;
    tablet
        .server
        .execute(&[
            "SET sql_log_bin = 0",
            "CREATE DATABASE mine",
            "CREATE TABLE mine.t (id INT PRIMARY KEY)",
            "INSERT INTO mine.t VALUES (1)",
        ])
        .await?;
    tablet.terminate()?;
    tablet.server.kill().await?;
    tablet.config.set("restore_from_backup", true);
    tablet.start()?;
    cluster.wait_serving("zone1-103").await?;
    let server = &cluster.tablet("zone1-103")?.server;
    let rows: i64 = server.value("SELECT COUNT(*) FROM mine.t").await?;
    ensure!(rows == 1);
    ensure!(restores(&cluster).await?.is_empty());
    cluster.finish().await
}
