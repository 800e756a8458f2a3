//! A restore that is cut off is done again in full at the next start.

use anyhow::{Result, ensure};
use seawall_tests::harness::{
    Cluster, ClusterPlan, TabletPlan,
    load::{Acknowledged, Load, check_nothing_is_lost},
    wait::PATIENCE,
};

use crate::is_soak;

const POINTS: [&str; 3] = [
    "agent.fetch.middle",
    "agent.install.middle",
    "agent.catch_up.begin",
];

const SOAK_POINTS: [&str; 12] = [
    "agent.fetch.begin",
    "agent.fetch.middle",
    "agent.fetch.end",
    "agent.install.begin",
    "agent.install.middle",
    "agent.install.end",
    "agent.start.begin",
    "agent.start.end",
    "agent.reinstate.begin",
    "agent.reinstate.end",
    "agent.catch_up.begin",
    "agent.catch_up.end",
];

/// A shard with some rows, one backup and no more writes.
async fn backed_up_shard(name: &str) -> Result<(Cluster, Acknowledged)> {
    let mut cluster = ClusterPlan::new(name).start().await?;
    cluster.start_small_shard(2).await?;
    let load = Load::start(&cluster.tablet("zone1-101")?.server).await?;
    load.wait_progress(50).await?;
    cluster.back_up("zone1-102").await?;
    let orders = load.stop().await?;
    Ok((cluster, orders))
}

async fn check_restored(cluster: &Cluster, alias: &str, orders: &Acknowledged) -> Result<()> {
    cluster.wait_serving(alias).await?;
    cluster.wait_caught_up(alias, "zone1-101").await?;
    cluster.check_equal(&["zone1-101", alias]).await?;
    let tablet = cluster.tablet(alias)?;
    check_nothing_is_lost(&tablet.server, orders).await?;
    for entry in std::fs::read_dir(&tablet.directory)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        ensure!(!name.contains("seawall-restore"), "left behind: {name}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_an_agent_killed_in_the_middle_of_a_restore_restores_fully_at_its_next_start()
-> Result<()> {
    let (mut cluster, orders) = backed_up_shard("restore-kill").await?;
    let points: &[&str] = if is_soak() { &SOAK_POINTS } else { &POINTS };
    for (number, point) in points.iter().enumerate() {
        eprintln!("killing the agent at {point}");
        let alias = format!("zone1-{}", 110 + number);
        let plan = TabletPlan::new(&alias)
            .restored()
            .faults(&format!("{point}=pause"));
        let tablet = cluster.start_tablet(&plan)?;
        tablet.faults().wait_reached(point, PATIENCE).await?;
        tablet.kill()?;
        tablet.faults_at_start("");
        tablet.start()?;
        check_restored(&cluster, &alias, &orders).await?;
        cluster.tablet_mut(&alias)?.terminate()?;
    }
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_a_database_killed_in_the_middle_of_a_restore_is_restored_fully() -> Result<()> {
    let (mut cluster, orders) = backed_up_shard("restore-server").await?;
    for (alias, point) in [
        ("zone1-110", "agent.reinstate.begin"),
        ("zone1-111", "agent.catch_up.begin"),
    ] {
        let plan = TabletPlan::new(alias)
            .restored()
            .faults(&format!("{point}=pause"));
        let tablet = cluster.start_tablet(&plan)?;
        tablet.faults().wait_reached(point, PATIENCE).await?;
        tablet.server.kill().await?;
        tablet.kill()?;
        tablet.faults_at_start("");
        tablet.start()?;
        check_restored(&cluster, alias, &orders).await?;
    }
    cluster.finish().await
}
