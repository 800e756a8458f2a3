//! Backups that are read back and restored aside: what is damaged is named, marked and taken anew,
//! and the tablets serve all the while.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use seawall_proto::v1::{self, BackupState};
use seawall_tests::harness::{
    Cluster, ClusterPlan, TabletPlan, http,
    load::Load,
    mariadb::Server,
    process::Process,
    scratch::{Scratch, processes_in},
    wait::{PATIENCE, wait_until},
};

const SHARD: &str = "commerce/0";

/// A shard of two with a load, whose agents can restore aside.
pub async fn start(name: &str) -> Result<(Cluster, Load)> {
    let plan = ClusterPlan::new(name);
    let scratch = Scratch::create(name)?;
    let aside = scratch.path().join("aside");
    fs::create_dir(&aside)?;
    let plan = plan.set_agents("scratch_dir", aside.display().to_string());
    let mut cluster = Cluster::start_in(scratch, plan).await?;
    cluster.start_small_shard(2).await?;
    let load = Load::start(&cluster.tablet("zone1-101")?.server).await?;
    load.wait_progress(50).await?;
    Ok((cluster, load))
}

pub fn aside(cluster: &Cluster) -> PathBuf {
    cluster.scratch.path().join("aside")
}

pub async fn entry(cluster: &Cluster, name: &str) -> Result<v1::Backup> {
    let backups = cluster.backups(SHARD, false).await?;
    let found = backups.into_iter().find(|backup| backup.name == name);
    found.with_context(|| format!("no backup {name}"))
}

/// The command ends with 1, and its last line names the backup and what is wrong with it.
async fn is_damaged(cluster: &Cluster, command: &str, name: &str, what: &str) -> Result<()> {
    let output = cluster.ctl(&[command, SHARD, name]).await?;
    let last = output.stderr.lines().rfind(|line| !line.is_empty());
    let last = last.unwrap_or_default();
    ensure!(output.code == 1, "{output}");
    ensure!(last.contains(name) && last.contains(what), "{output}");
    Ok(())
}

fn flip(file: &Path) -> Result<()> {
    let mut bytes = fs::read(file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    Ok(fs::write(file, bytes)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i8_a_damaged_pack_is_named_marked_passed_over_and_sent_anew() -> Result<()> {
    let (mut cluster, load) = start("verify").await?;
    let older = cluster.back_up("zone1-102").await?;
    load.wait_progress(20).await?;
    let newer = cluster.back_up("zone1-102").await?;
    for name in [&older, &newer] {
        let output = cluster.ctl(&["Verify", SHARD, name]).await?.done()?;
        ensure!(output.contains("passed"), "{output}");
    }
    let found = entry(&cluster, &newer).await?;
    ensure!(found.verified.is_some_and(|v| v.passed && v.percent == 100));
    let shown = cluster.ctl(&["ListBackups", SHARD]).await?.done()?;
    ensure!(shown.contains("read 20"), "{shown}");

    // Only the newer one has packs of its own name.
    let pack = cluster.repository.packs(SHARD, &newer)?.remove(0);
    let id = pack.file_name().context("a pack without a name")?;
    let id = id.to_string_lossy().into_owned();
    flip(&pack)?;
    is_damaged(&cluster, "Verify", &newer, &id).await?;
    let broken = entry(&cluster, &newer).await?;
    ensure!(broken.state() == BackupState::Broken, "{broken:?}");
    ensure!(broken.note.contains(&id), "{}", broken.note);
    let intact = entry(&cluster, &older).await?;
    ensure!(intact.state() == BackupState::Complete, "{intact:?}");
    let leader = cluster.leader().await?;
    let metrics = format!(
        "http://{}/metrics",
        cluster.coordinators[leader].http_address()
    );
    let metrics = http::get(&metrics).await?;
    let alarm = "seawall_coordinator_backups_broken{keyspace=\"commerce\",shard=\"0\"} 1";
    ensure!(metrics.contains(alarm), "{metrics}");

    // An empty start takes the older one, and says so.
    let plan = TabletPlan::new("zone1-103").restored();
    cluster.start_tablet(&plan)?;
    cluster.wait_serving("zone1-103").await?;
    let log = cluster.tablet("zone1-103")?.log_text();
    ensure!(
        log.contains(&format!("{newer} is broken")),
        "not told in the agent's log"
    );
    cluster
        .ctl(&["Restore", "zone1-103", "--backup", &newer])
        .await?
        .refused(1, &["broken", "--allow-broken"])?;

    // The next backup sends anew what is damaged.
    let next = cluster.back_up("zone1-102").await?;
    let output = cluster.ctl(&["Verify", SHARD, &next]).await?.done()?;
    ensure!(output.contains("passed"), "{output}");
    load.stop().await?;
    cluster.wait_caught_up("zone1-103", "zone1-101").await?;
    cluster.check_equal(&["zone1-101", "zone1-103"]).await?;

    // Repaired: a verification clears what a verification marked.
    flip(&pack)?;
    cluster.ctl(&["Verify", SHARD, &newer]).await?.done()?;
    ensure!(entry(&cluster, &newer).await?.state() == BackupState::Complete);
    let mark = ["MarkBackupBroken", SHARD, &newer, "--reason", "wrong data"];
    cluster.ctl(&mark).await?.done()?;
    cluster.ctl(&["Verify", SHARD, &newer]).await?.done()?;
    let marked = entry(&cluster, &newer).await?;
    ensure!(marked.state() == BackupState::Broken && marked.note == "wrong data");
    let undo = ["MarkBackupBroken", SHARD, &newer, "--undo"];
    cluster.ctl(&undo).await?.done()?;
    ensure!(entry(&cluster, &newer).await?.state() == BackupState::Complete);
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_backup_is_restored_aside_started_and_checked_while_the_tablets_serve() -> Result<()> {
    let (cluster, load) = start("test-restore").await?;
    let name = cluster.back_up("zone1-102").await?;
    cluster.wait_serving("zone1-102").await?;
    let before = cluster.tablet("zone1-102")?.server.process();
    let test = ["TestRestore", SHARD, &name, "--on", "zone1-102"];
    let output = cluster.ctl(&test).await?.done()?;
    ensure!(output.contains("tables checked"), "{output}");
    let compared = output
        .split_whitespace()
        .zip(output.split_whitespace().skip(1))
        .any(|(count, word)| word == "checksums" && count != "0");
    ensure!(compared, "no checksum was compared: {output}");
    let tested = entry(&cluster, &name).await?.tested;
    ensure!(tested.is_some_and(|tested| tested.passed));
    ensure!(fs::read_dir(aside(&cluster))?.count() == 0);
    let replica = cluster.tablet("zone1-102")?;
    ensure!(before.is_some() && before == replica.server.process());
    ensure!(replica.is_serving().await? && load.failures() == 0);
    load.stop().await?;
    cluster.finish().await
}

/// Changes a row of a stopped server's table, as somebody might who starts it by hand.
async fn change_stopped(server: &Server) -> Result<()> {
    let command = server.start_command()?;
    let mut process = Process::start(
        "by-hand",
        Command::new(&command[0])
            .args(&command[1..])
            .arg("--skip-slave-start"),
        &server.directory.join("by-hand.log"),
    )?;
    wait_until("the server answers", PATIENCE, || async {
        Ok(server.connect().await.is_ok())
    })
    .await?;
    server
        .execute(&[
            "SET SESSION sql_log_bin = 0",
            "UPDATE still.life SET value = 2",
        ])
        .await?;
    // It may be gone before it answers: its end is what counts.
    let _ = server.execute(&["SHUTDOWN"]).await;
    process.wait(PATIENCE)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_not_as_its_checksum_says_fails_the_restore_test() -> Result<()> {
    let (cluster, load) = start("test-restore-checksum").await?;
    let primary = &cluster.tablet("zone1-101")?.server;
    primary
        .execute(&[
            "CREATE DATABASE still",
            "CREATE TABLE still.life (id INT PRIMARY KEY, value INT)",
            "INSERT INTO still.life VALUES (1, 1)",
        ])
        .await?;
    cluster.wait_caught_up("zone1-102", "zone1-101").await?;
    let replica = cluster.tablet("zone1-102")?;
    // The checksums are noted, the database is down, nothing is copied yet.
    let faults = replica.faults();
    faults.arm("agent.stop.end", "pause").await?;
    let operation = cluster.start_backup("zone1-102").await?;
    faults.wait_reached("agent.stop.end", PATIENCE).await?;
    change_stopped(&replica.server).await?;
    faults.disarm("agent.stop.end").await?;
    let name = cluster
        .wait_success(&operation.id, PATIENCE * 2)
        .await?
        .backup;

    is_damaged(&cluster, "TestRestore", &name, "still.life has checksum").await?;
    let broken = entry(&cluster, &name).await?;
    ensure!(broken.state() == BackupState::Broken, "{broken:?}");
    ensure!(broken.tested.is_some_and(|tested| !tested.passed));
    // Every byte of it is what was written: reading it back finds nothing.
    cluster.ctl(&["Verify", SHARD, &name]).await?.done()?;
    load.stop().await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_an_agent_killed_in_a_restore_test_leaves_no_server_and_no_directory() -> Result<()> {
    let (mut cluster, load) = start("test-restore-killed").await?;
    let name = cluster.back_up("zone1-102").await?;
    cluster.wait_serving("zone1-102").await?;
    let replica = cluster.tablet("zone1-102")?;
    let database = replica.server.process();
    let faults = replica.faults();
    faults.arm("agent.test_restore.middle", "pause").await?;
    let spec = v1::operation_spec::Spec::TestRestore(v1::TestRestoreSpec {
        shard: Some(v1::ShardRef {
            keyspace: "commerce".into(),
            shard: "0".into(),
        }),
        backup: name.clone(),
        alias: "zone1-102".into(),
        concurrency: 0,
    });
    let operation = cluster.start_operation(spec, None).await?;
    faults
        .wait_reached("agent.test_restore.middle", PATIENCE)
        .await?;
    ensure!(
        !processes_in(&aside(&cluster)).is_empty(),
        "no server runs aside"
    );
    cluster.tablet_mut("zone1-102")?.kill()?;
    ensure!(
        !processes_in(&aside(&cluster)).is_empty(),
        "it died with the agent"
    );
    cluster.tablet_mut("zone1-102")?.start()?;
    let place = aside(&cluster);
    // Begun again by the coordinator's call, and this time to its end.
    let ended = cluster.wait_success(&operation.id, PATIENCE * 2).await?;
    ensure!(ended.backup == name);
    wait_until("nothing is left aside", PATIENCE, || async {
        Ok(fs::read_dir(&place)?.count() == 0 && processes_in(&place).is_empty())
    })
    .await?;
    ensure!(database == cluster.tablet("zone1-102")?.server.process());
    load.stop().await?;
    cluster.finish().await
}
