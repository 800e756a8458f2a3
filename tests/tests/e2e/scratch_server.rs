//! Restore tests that go wrong: whatever becomes of the server that was started aside, and however
//! little room there is, the operation ends, what it came to is recorded, nothing is left, and the
//! tablets serve.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use seawall_proto::v1::{self, BackupState, OperationState};
use seawall_tests::harness::{
    Cluster, ClusterPlan, TabletPlan,
    scratch::processes_in,
    small_disk::SmallDisk,
    wait::{PATIENCE, wait_until},
};

use crate::verify::{aside, entry, start};

const SHARD: &str = "commerce/0";
const REPLICA: &str = "zone1-102";
const POINT: &str = "agent.test_restore.middle";

/// A restore test whose server is there, up or on its way, and that server.
async fn at_its_server(cluster: &Cluster, name: &str) -> Result<(v1::Operation, Pid)> {
    let faults = cluster.tablet(REPLICA)?.faults();
    faults.arm(POINT, "pause").await?;
    let spec = v1::operation_spec::Spec::TestRestore(v1::TestRestoreSpec {
        shard: Some(v1::ShardRef {
            keyspace: "commerce".into(),
            shard: "0".into(),
        }),
        backup: name.to_owned(),
        alias: REPLICA.into(),
        concurrency: 0,
    });
    let operation = cluster.start_operation(spec, None).await?;
    faults.wait_reached(POINT, PATIENCE).await?;
    let server = || processes_in(&aside(cluster)).first().copied();
    wait_until("a server runs aside", PATIENCE, || async {
        Ok(server().is_some())
    })
    .await?;
    Ok((operation, server().context("no server runs aside")?))
}

/// Sends the signal, lets the test go on, and waits for its end.
async fn ended_after(
    cluster: &Cluster,
    (operation, server): (v1::Operation, Pid),
    signal: Signal,
) -> Result<v1::Operation> {
    kill(server, signal)?;
    if signal != Signal::SIGSTOP {
        // It takes its time to write down why it dies, and serves meanwhile.
        wait_until("the server is gone", PATIENCE, || async {
            Ok(!processes_in(&aside(cluster)).contains(&server))
        })
        .await?;
    }
    cluster.tablet(REPLICA)?.faults().disarm(POINT).await?;
    let ended = cluster.wait_operation(&operation.id, PATIENCE * 3).await?;
    let place = aside(cluster);
    wait_until("nothing is left aside", PATIENCE, || async {
        Ok(fs::read_dir(&place)?.count() == 0 && processes_in(&place).is_empty())
    })
    .await?;
    Ok(ended)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_server_that_hangs_or_dies_in_a_restore_test_ends_it_and_leaves_nothing() -> Result<()>
{
    let (cluster, load) = start("scratch-server").await?;
    let primary = &cluster.tablet("zone1-101")?.server;
    primary
        .execute(&[
            "CREATE DATABASE still",
            "CREATE TABLE still.versioned (id INT PRIMARY KEY, v INT) WITH SYSTEM VERSIONING",
            "INSERT INTO still.versioned VALUES (1, 1)",
            "UPDATE still.versioned SET v = 2",
            "CREATE SEQUENCE still.numbers",
            "CREATE DEFINER = 'gone'@'nowhere' VIEW still.orphaned AS SELECT id FROM still.versioned",
        ])
        .await?;
    cluster.wait_caught_up(REPLICA, "zone1-101").await?;
    let name = cluster.back_up(REPLICA).await?;
    cluster.wait_serving(REPLICA).await?;
    let database = cluster.tablet(REPLICA)?.server.process();
    let test = ["TestRestore", SHARD, &name, "--on", REPLICA];
    let output = cluster.ctl(&test).await?.done()?;
    ensure!(output.contains("tables checked"), "{output}");

    // One that hangs says nothing of the backup.
    let begun = at_its_server(&cluster, &name).await?;
    let hung = ended_after(&cluster, begun, Signal::SIGSTOP).await?;
    ensure!(hung.state() == OperationState::Failed, "{hung:?}");
    ensure!(hung.error.contains("no answer within"), "{hung:?}");
    let unharmed = entry(&cluster, &name).await?;
    ensure!(unharmed.state() == BackupState::Complete, "{unharmed:?}");

    // One that dies of its files does.
    let begun = at_its_server(&cluster, &name).await?;
    let died = ended_after(&cluster, begun, Signal::SIGSEGV).await?;
    ensure!(died.state() == OperationState::Failed, "{died:?}");
    ensure!(died.error.contains("SIGSEGV"), "{died:?}");
    let broken = entry(&cluster, &name).await?;
    ensure!(broken.state() == BackupState::Broken, "{broken:?}");
    ensure!(broken.tested.is_some_and(|tested| !tested.passed));

    // Its next one passes, and it is good again.
    cluster.ctl(&test).await?.done()?;
    let good = entry(&cluster, &name).await?;
    ensure!(good.state() == BackupState::Complete, "{good:?}");
    let replica = cluster.tablet(REPLICA)?;
    ensure!(database.is_some() && database == replica.server.process());
    ensure!(replica.is_serving().await? && load.failures() == 0);
    load.stop().await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_restore_test_leaves_a_reserve_to_whoever_else_lives_on_that_disk() -> Result<()> {
    let Some(disk) = SmallDisk::mount(400).await? else {
        return Ok(());
    };
    let mut cluster = ClusterPlan::new("scratch-reserve").start().await?;
    let primary = TabletPlan::new("zone1-101");
    let scratch = disk.path().display().to_string();
    let replica = TabletPlan::new(REPLICA).set("scratch_dir", scratch);
    cluster.start_shard(&[primary, replica]).await?;
    let name = cluster.back_up(REPLICA).await?;
    cluster.wait_serving(REPLICA).await?;
    let test = ["TestRestore", SHARD, &name, "--on", REPLICA];
    cluster.ctl(&test).await?.done()?;

    let refused = async |free: u64| -> Result<String> {
        let _taken = disk.leave(free)?;
        let refused = cluster.ctl(&test).await?;
        let words = ["needs", "bytes below", "are free there", "left to others"];
        refused.refused(1, &words)
    };
    let said = refused(1 << 20).await?;
    // There is room, and whoever else lives there would be left with less than was taken.
    refused(needed(&said)? * 3 / 2).await?;
    let unharmed = entry(&cluster, &name).await?;
    ensure!(unharmed.state() == BackupState::Complete, "{unharmed:?}");
    let left = fs::read_dir(disk.path())?.flatten();
    let left = left.filter(|e| e.file_name().to_string_lossy().starts_with("seawall-test"));
    ensure!(left.count() == 0, "something is left aside");
    cluster.ctl(&test).await?.done()?;
    cluster.finish().await
}

/// The bytes that a refusal for want of room says are needed.
fn needed(said: &str) -> Result<u64> {
    let (_, after) = said.split_once("needs ").context(said.to_owned())?;
    let (bytes, _) = after.split_once(" bytes below").context(said.to_owned())?;
    bytes.parse().context(said.to_owned())
}
