//! Who is who: aliases, repositories and their owners. (Members of a group: the coordinator's own tests.)

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use seawall_tests::harness::{
    ClusterPlan, Tablet, TabletPlan,
    coordinator::Coordinator,
    ctl,
    process::Process,
    wait::{PATIENCE, wait_until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_of_two_agents_with_one_alias_is_refused() -> Result<()> {
    let mut cluster = ClusterPlan::new("alias").start().await?;
    cluster.start_small_shard(2).await?;
    let first = cluster
        .known_tablet("zone1-102")
        .await?
        .context("unknown")?;

    // The same alias from another state directory, as after a careless copy of a configuration.
    let mut impostor = Tablet::prepare(
        &cluster.scratch,
        &TabletPlan::new("zone1-103"),
        &cluster.coordinator_urls(),
        &cluster.repository.url(),
    )?;
    impostor.config.set("alias", "zone1-102");
    impostor.start()?;
    wait_until(
        "the impostor says that it was refused",
        PATIENCE,
        || async { Ok(impostor.log_text().contains("another instance")) },
    )
    .await?;
    ensure!(impostor.serving_status().await.unwrap_or(503) == 503);
    let known = cluster
        .known_tablet("zone1-102")
        .await?
        .context("unknown")?;
    ensure!(known.instance == first.instance);
    ensure!(known.agent_address == first.agent_address);
    ensure!(cluster.tablet("zone1-102")?.is_serving().await?);
    impostor.kill().ok();
    cluster.back_up("zone1-102").await?;

    // A second agent on the same state directory does not even start.
    let tablet = cluster.tablet("zone1-102")?;
    let mut command = Command::new(seawall_tests::harness::binary::binary("seawall-agent")?);
    command.arg("--config").arg(tablet.config_file());
    let output = ctl::run_command(command, Duration::from_secs(20)).await?;
    ensure!(output.code == 1, "{output}");
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_a_wrong_repository_prefix_is_not_taken_for_no_backup_yet() -> Result<()> {
    let mut cluster = ClusterPlan::new("prefix").start().await?;
    cluster.start_small_shard(2).await?;
    cluster.back_up("zone1-102").await?;
    let elsewhere = cluster.scratch.path().join("elsewhere");
    std::fs::create_dir(&elsewhere)?;
    let plan = TabletPlan::new("zone1-103")
        .restored()
        .set("initialize", true)
        .set("repository.url", format!("file://{}", elsewhere.display()));
    cluster.start_tablet(&plan)?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let tablet = cluster.tablet_mut("zone1-103")?;
    ensure!(!tablet.server.data_dir().exists(), "it started empty");
    ensure!(tablet.server.process().is_none());
    ensure!(tablet.log_text().contains("seawall.json") || tablet.log_text().contains("repository"));
    ensure!(
        std::fs::read_dir(&elsewhere)?.next().is_none(),
        "it made a repository"
    );
    tablet.kill().ok();
    cluster.tablets.remove("zone1-103");
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_group_on_one_repository_can_read_and_not_write() -> Result<()> {
    let mut cluster = ClusterPlan::new("second-group").start().await?;
    cluster.start_small_shard(2).await?;
    let name = cluster.back_up("zone1-102").await?;

    let url = cluster.repository.url();
    let mut second = Coordinator::plan(&cluster.scratch, "second", 1, &url)?;
    second.start()?;
    let urls = [second.url()];
    wait_until("the second group answers", PATIENCE, || async {
        Ok(ctl::run(&urls, &["ClusterStatus"]).await?.code == 0)
    })
    .await?;
    let listed = ctl::run(&urls, &["ListBackups", "commerce/0", "-o", "name"]).await?;
    ensure!(listed.clone().done()?.trim() == name, "{listed}");
    let removed = ctl::run(&urls, &["RemoveBackup", "--force", "commerce/0", &name]).await?;
    removed.refused(1, &["belongs to coordinator group"])?;
    ensure!(cluster.repository.has_manifest("commerce/0", &name));
    ensure!(!cluster.repository.is_removed("commerce/0", &name));

    // A tablet of the second group can register with it, and cannot be backed up.
    let mut other = Tablet::prepare(&cluster.scratch, &TabletPlan::new("zone2-301"), &urls, &url)?;
    other.start()?;
    let init = ["InitShardPrimary", "commerce/0", "zone2-301"];
    wait_until("the second group refuses to write", PATIENCE, || async {
        let output = ctl::run(&urls, &init).await?;
        Ok(output.code == 1 && output.stderr.contains("belongs to coordinator group"))
    })
    .await?;
    other.kill()?;
    second.terminate()?;
    cluster.back_up("zone1-102").await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_outlives_its_agent_and_is_found_again() -> Result<()> {
    let mut cluster = ClusterPlan::new("outlives").start().await?;
    cluster.start_small_shard(2).await?;
    for alias in ["zone1-101", "zone1-102"] {
        let server = cluster.tablet(alias)?.server.process();
        cluster.tablet_mut(alias)?.kill()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        ensure!(server.is_some() && cluster.tablet(alias)?.server.process() == server);
        cluster.tablet_mut(alias)?.start()?;
        cluster.wait_serving(alias).await?;
        ensure!(
            cluster.tablet(alias)?.server.process() == server,
            "it was restarted"
        );
        ensure!(Process::is_running(cluster.tablet_mut(alias)?.process()?));
    }
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_is_taken_over_only_on_request_and_only_when_its_owner_is_gone() -> Result<()> {
    let mut cluster = ClusterPlan::new("replace").start().await?;
    cluster.start_small_shard(2).await?;
    let first = cluster
        .known_tablet("zone1-102")
        .await?
        .context("unknown")?;
    let mut successor = Tablet::prepare(
        &cluster.scratch,
        &TabletPlan::new("zone1-103").set("replace", true),
        &cluster.coordinator_urls(),
        &cluster.repository.url(),
    )?;
    successor.config.set("alias", "zone1-102");
    successor.start()?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let known = cluster
        .known_tablet("zone1-102")
        .await?
        .context("unknown")?;
    ensure!(
        known.instance == first.instance,
        "taken over from one that is there"
    );

    // Its machine is lost: agent and database are gone.
    successor.kill().ok();
    let lost = cluster.tablet_mut("zone1-102")?;
    lost.kill()?;
    lost.server.kill().await?;
    cluster.tablets.remove("zone1-102");
    wait_until("the successor is taken", PATIENCE, || {
        if !successor.process().is_ok_and(Process::is_running) {
            // Refused while the first one had been seen of late: as a supervisor would, again.
            successor.start().ok();
        }
        let known = cluster.known_tablet("zone1-102");
        let first = &first.instance;
        async move { Ok(known.await?.is_some_and(|known| known.instance != *first)) }
    })
    .await?;
    cluster.tablets.insert("zone1-102".to_owned(), successor);
    cluster.wait_serving("zone1-102").await?;
    cluster.back_up("zone1-102").await?;
    cluster.finish().await
}
