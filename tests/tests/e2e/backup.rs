//! A backup takes a replica away and gives it back as it was, while everything else goes on.

use anyhow::{Result, ensure};
use seawall_proto::v1::TabletType;
use seawall_tests::harness::{
    Cluster, ClusterPlan, TabletPlan,
    load::{Load, check_nothing_is_lost},
    wait::PATIENCE,
};

/// Settings of a replica that a restart would lose, were they not put back.
const FLAGS: [(&str, &str); 3] = [
    ("rpl_semi_sync_slave_enabled", "1"),
    ("event_scheduler", "ON"),
    ("rpl_semi_sync_master_enabled", "1"),
];

async fn set_flags(cluster: &Cluster, alias: &str) -> Result<Vec<String>> {
    let server = &cluster.tablet(alias)?.server;
    for (name, value) in FLAGS {
        server
            .execute(&[&format!("SET GLOBAL {name} = {value}")])
            .await?;
    }
    flags(cluster, alias).await
}

async fn flags(cluster: &Cluster, alias: &str) -> Result<Vec<String>> {
    let server = &cluster.tablet(alias)?.server;
    let mut values = vec![format!("read_only={}", server.is_read_only().await?)];
    for (name, _) in FLAGS {
        values.push(format!("{name}={}", server.variable(name).await?));
    }
    Ok(values)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_replica_is_backed_up_and_comes_back_as_it_was_while_two_shards_go_on_writing()
-> Result<()> {
    let mut cluster = ClusterPlan::new("backup").coordinators(3).start().await?;
    cluster.start_small_shard(3).await?;
    let second: Vec<TabletPlan> = (201..=203)
        .map(|uid| TabletPlan::new(&format!("zone1-{uid}")).shard("80-"))
        .collect();
    cluster.start_shard(&second).await?;
    let load = Load::start(&cluster.tablet("zone1-101")?.server).await?;
    let other_load = Load::start(&cluster.tablet("zone1-201")?.server).await?;
    let primary = cluster.tablet("zone1-101")?.server.process();
    let before = set_flags(&cluster, "zone1-102").await?;

    let replica = cluster.tablet("zone1-102")?;
    let faults = replica.faults();
    faults.arm("agent.copy.begin", "pause").await?;
    let operation = cluster.start_backup("zone1-102").await?;
    faults.wait_reached("agent.copy.begin", PATIENCE).await?;
    ensure!(replica.serving_status().await? == 503, "it still serves");
    ensure!(replica.server.process().is_none(), "the server still runs");
    let known = cluster.known_tablet("zone1-102").await?;
    ensure!(known.is_some_and(|tablet| tablet.r#type() == TabletType::Backup));
    load.wait_progress(20).await?;
    faults.disarm("agent.copy.begin").await?;
    cluster.wait_success(&operation.id, PATIENCE * 2).await?;

    cluster.wait_serving("zone1-102").await?;
    ensure!(replica.server.is_replicating().await?);
    let after = flags(&cluster, "zone1-102").await?;
    ensure!(before == after, "flags before {before:?}, after {after:?}");
    let known = cluster.known_tablet("zone1-102").await?;
    ensure!(known.is_some_and(|tablet| tablet.r#type() == TabletType::Replica));
    ensure!(primary.is_some() && primary == cluster.tablet("zone1-101")?.server.process());
    ensure!(load.failures() == 0, "the primary refused writes");

    cluster.ctl(&["BackupKeyspace", "commerce"]).await?.done()?;
    ensure!(cluster.backups("commerce/0", false).await?.len() == 2);
    ensure!(cluster.backups("commerce/80-", false).await?.len() == 1);
    let (orders, others) = (load.stop().await?, other_load.stop().await?);
    for (alias, primary, rows) in [
        ("zone1-102", "zone1-101", &orders),
        ("zone1-103", "zone1-101", &orders),
        ("zone1-202", "zone1-201", &others),
    ] {
        cluster.wait_caught_up(alias, primary).await?;
        cluster.check_equal(&[primary, alias]).await?;
        check_nothing_is_lost(&cluster.tablet(alias)?.server, rows).await?;
    }
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_it_serves_only_once_it_has_reached_a_goal_read_after_the_restart() -> Result<()> {
    let mut cluster = ClusterPlan::new("goal").start().await?;
    cluster.start_small_shard(2).await?;
    let primary = &cluster.tablet("zone1-101")?.server;
    let replica = cluster.tablet("zone1-102")?;
    primary
        .execute(&["CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)"])
        .await?;
    let faults = replica.faults();
    faults.arm("agent.catch_up.begin", "pause").await?;
    let operation = cluster.start_backup("zone1-102").await?;
    faults
        .wait_reached("agent.catch_up.begin", PATIENCE)
        .await?;

    // Written after the restart, and held up on the replica: the goal must contain it.
    let mut holder = replica.server.connect().await?;
    mysql_async::prelude::Queryable::query_drop(&mut holder, "FLUSH TABLES WITH READ LOCK").await?;
    primary.execute(&["INSERT INTO d.t VALUES (1)"]).await?;
    faults.disarm("agent.catch_up.begin").await?;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    ensure!(
        replica.serving_status().await? == 503,
        "it serves stale data"
    );
    ensure!(cluster.operation(&operation.id).await?.finished_unix_ms == 0);

    holder.disconnect().await?;
    cluster.wait_serving("zone1-102").await?;
    let rows: i64 = replica.server.value("SELECT COUNT(*) FROM d.t").await?;
    ensure!(rows == 1, "it serves without the row");
    cluster.wait_success(&operation.id, PATIENCE).await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_replica_whose_replication_was_stopped_by_hand_stays_stopped() -> Result<()> {
    let mut cluster = ClusterPlan::new("stopped").start().await?;
    cluster.start_small_shard(2).await?;
    let primary = &cluster.tablet("zone1-101")?.server;
    let server = &cluster.tablet("zone1-102")?.server;
    server.execute(&["STOP SLAVE"]).await?;
    primary.execute(&["CREATE DATABASE after_the_stop"]).await?;

    let operation = cluster.start_backup("zone1-102").await?;
    cluster.wait_success(&operation.id, PATIENCE).await?;
    // Long enough for whatever looks after replication to have had its turn.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    ensure!(server.replication("Slave_IO_Running").await?.as_deref() == Some("No"));
    ensure!(server.replication("Slave_SQL_Running").await?.as_deref() == Some("No"));
    ensure!(server.is_read_only().await?);
    let port = primary.port().to_string();
    ensure!(server.replication("Master_Port").await? == Some(port));

    server.execute(&["START SLAVE"]).await?;
    cluster.wait_caught_up("zone1-102", "zone1-101").await?;
    cluster.wait_serving("zone1-102").await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_promotion_during_the_backup_is_not_undone() -> Result<()> {
    let mut cluster = ClusterPlan::new("promotion").start().await?;
    cluster.start_small_shard(3).await?;
    let load = Load::start(&cluster.tablet("zone1-101")?.server).await?;
    load.wait_progress(20).await?;
    let promoted = cluster.tablet("zone1-102")?;
    let faults = promoted.faults();
    faults.arm("agent.catch_up.end", "pause").await?;
    let operation = cluster.start_backup("zone1-102").await?;
    faults.wait_reached("agent.catch_up.end", PATIENCE).await?;

    let args = [
        "PlannedReparentShard",
        "commerce/0",
        "--new-primary",
        "zone1-102",
    ];
    cluster.ctl(&args).await?.done()?;
    load.move_to(&promoted.server);
    load.wait_progress(20).await?;
    faults.disarm("agent.catch_up.end").await?;
    cluster.wait_success(&operation.id, PATIENCE).await?;

    // Long enough for whatever looks after replication to have had its turn.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    load.wait_progress(20).await?;
    ensure!(!promoted.server.is_read_only().await?);
    ensure!(
        promoted
            .server
            .replication("Slave_IO_Running")
            .await?
            .as_deref()
            != Some("Yes")
    );
    let known = cluster.known_tablet("zone1-102").await?;
    ensure!(known.is_some_and(|tablet| tablet.r#type() == TabletType::Primary));
    cluster.wait_serving("zone1-102").await?;
    let orders = load.stop().await?;
    for alias in ["zone1-101", "zone1-103"] {
        cluster.wait_serving(alias).await?;
        cluster.wait_caught_up(alias, "zone1-102").await?;
    }
    cluster
        .check_equal(&["zone1-101", "zone1-102", "zone1-103"])
        .await?;
    check_nothing_is_lost(&cluster.tablet("zone1-103")?.server, &orders).await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tablet_that_is_no_longer_primary_is_free_for_other_work_at_once() -> Result<()> {
    let mut cluster = ClusterPlan::new("handed-over").start().await?;
    cluster.start_small_shard(2).await?;
    let (mut old, mut new) = ("zone1-101", "zone1-102");
    for _ in 0..4 {
        let args = ["PlannedReparentShard", "commerce/0", "--new-primary", new];
        cluster.ctl(&args).await?.done()?;
        cluster.ctl(&["Backup", old]).await?.done()?;
        cluster.wait_serving(old).await?;
        cluster.wait_caught_up(old, new).await?;
        (old, new) = (new, old);
    }
    cluster.finish().await
}
