//! What lies on a tablet already is not fetched: neither what a restore that was killed has left,
//! nor what the replaced data holds.

use anyhow::{Result, ensure};
use seawall_tests::harness::{
    Cluster, ClusterPlan, Tablet, TabletPlan, load::Load, load::check_nothing_is_lost,
    wait::PATIENCE,
};

const FETCHED: &str = r#"seawall_agent_restored_bytes_total{source="repository"}"#;
const RESUMED: &str = r#"seawall_agent_restored_bytes_total{source="cut_off_restore"}"#;
const COPIED: &str = r#"seawall_agent_restored_bytes_total{source="replaced_data"}"#;
const REQUESTED: &str = "seawall_agent_restore_requested_bytes_total";
const REQUESTS: &str = "seawall_agent_restore_requests_total";

/// Rows that take some megabytes and do not compress.
pub async fn add_noise(tablet: &Tablet, mib: u32) -> Result<()> {
    let rows = format!(
        "INSERT INTO noise.t SELECT seq, UNHEX(CONCAT({})) FROM seq_1_to_{}",
        vec!["SHA2(RAND(), 512)"; 16].join(", "),
        mib * 1024
    );
    let table = "CREATE TABLE noise.t (id INT PRIMARY KEY, a VARBINARY(1024))";
    let statements = ["CREATE DATABASE noise", table, "USE noise", &rows];
    tablet.server.execute(&statements).await
}

async fn backed_up_shard(name: &str) -> Result<Cluster> {
    let mut cluster = ClusterPlan::new(name).start().await?;
    cluster.start_small_shard(2).await?;
    add_noise(cluster.tablet("zone1-101")?, 24).await?;
    cluster.wait_caught_up("zone1-102", "zone1-101").await?;
    cluster
        .tablet("zone1-102")?
        .server
        .purge_at_shutdown()
        .await?;
    cluster.back_up("zone1-102").await?;
    Ok(cluster)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_an_agent_killed_in_mid_fetch_fetches_only_the_rest_at_its_next_start() -> Result<()> {
    let mut cluster = backed_up_shard("resumed").await?;
    let point = "agent.fetch.middle";
    let plan = TabletPlan::new("zone1-103")
        .restored()
        .set("restore_concurrency", 1)
        .faults(&format!("{point}=pause"));
    let tablet = cluster.start_tablet(&plan)?;
    tablet.faults().wait_reached(point, PATIENCE).await?;
    tablet.kill()?;
    ensure!(!tablet.server.data_dir().exists(), "it looks restored");
    let left = tablet.directory.join("data.seawall-restore");
    ensure!(left.exists(), "nothing was left to go on with");
    tablet.faults_at_start("");
    tablet.start()?;
    cluster.wait_serving("zone1-103").await?;
    cluster.wait_caught_up("zone1-103", "zone1-101").await?;
    cluster.check_equal(&["zone1-101", "zone1-103"]).await?;
    let tablet = cluster.tablet("zone1-103")?;
    let (fetched, resumed) = (tablet.metric(FETCHED).await?, tablet.metric(RESUMED).await?);
    eprintln!("fetched {fetched} bytes, {resumed} were there");
    // A run of 8 MiB had been written.
    ensure!(resumed >= 7 << 20, "fetched {fetched}, resumed {resumed}");
    ensure!(fetched >= 7 << 20, "fetched {fetched}, resumed {resumed}");
    ensure!(!left.exists(), "left behind");
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_in_place_fetches_what_has_changed_as_its_dry_run_says() -> Result<()> {
    let mut cluster = backed_up_shard("delta").await?;
    let load = Load::start(&cluster.tablet("zone1-101")?.server).await?;
    load.wait_progress(100).await?;
    let orders = load.stop().await?;
    cluster.wait_caught_up("zone1-102", "zone1-101").await?;

    let dry_run = ["Restore", "zone1-102", "--dry-run", "-o", "json"];
    let plan = cluster.ctl(&dry_run).await?.done()?;
    let plan: serde_json::Value = serde_json::from_str(&plan)?;
    let planned = |field: &str| plan["fetch"][field].as_u64().unwrap_or_default();
    ensure!(plan["fetch_unknown"].is_null(), "{plan:#}");
    ensure!(planned("copied_bytes") > 24 << 20, "{plan:#}");
    ensure!(planned("missing_bytes") < 20 << 20, "{plan:#}");
    ensure!(planned("fetch_bytes") < 8 << 20, "{plan:#}");

    cluster.ctl(&["Restore", "zone1-102"]).await?.done()?;
    let tablet = cluster.tablet("zone1-102")?;
    let (fetched, copied) = (tablet.metric(FETCHED).await?, tablet.metric(COPIED).await?);
    let requested = tablet.metric(REQUESTED).await?;
    eprintln!("fetched {fetched}, asked for {requested}, copied {copied}: {plan:#}");
    ensure!(copied + fetched == planned("data_bytes"), "{plan:#}");
    // The server runs meanwhile: some more of its pages may have been written.
    ensure!(copied > 24 << 20, "copied {copied}");
    ensure!(requested < 8 << 20, "asked for {requested}");
    ensure!(tablet.metric(REQUESTS).await? > 0);
    cluster.wait_caught_up("zone1-102", "zone1-101").await?;
    cluster.check_equal(&["zone1-101", "zone1-102"]).await?;
    check_nothing_is_lost(&cluster.tablet("zone1-102")?.server, &orders).await?;

    cluster.tablet_mut("zone1-102")?.kill()?;
    let plan = cluster.ctl(&dry_run).await?.done()?;
    let plan: serde_json::Value = serde_json::from_str(&plan)?;
    ensure!(plan["backup"]["name"].is_string(), "{plan:#}");
    ensure!(plan["fetch"].is_null(), "{plan:#}");
    ensure!(plan["fetch_unknown"].is_string(), "{plan:#}");
    cluster.tablet_mut("zone1-102")?.start()?;
    cluster.wait_serving("zone1-102").await?;
    cluster.finish().await
}
