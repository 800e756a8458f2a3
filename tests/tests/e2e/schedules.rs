//! Schedules: backups that nobody asks for, on real servers, whoever leads.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use seawall_common::clock::now_unix_ms;
use seawall_tests::harness::{
    Cluster, ClusterPlan, http,
    wait::{PATIENCE, wait_for, wait_until},
};
use serde_json::Value;

const SHARD: &str = "commerce/0";
const PRIMARY: &str = "zone1-101";
const REPLICA: &str = "zone1-102";
const NAME: &str = "often";
/// A slot every ten seconds.
const CRON: &str = "*/10 * * * * *";

async fn json(cluster: &Cluster, args: &[&str]) -> Result<Value> {
    let args = [args, &["-o", "json"]].concat();
    Ok(serde_json::from_str(&cluster.ctl(&args).await?.done()?)?)
}

async fn schedule(cluster: &Cluster) -> Result<Value> {
    let listed = json(cluster, &["ListSchedules", NAME]).await?;
    Ok(listed["schedules"][0].clone())
}

/// Runs that have ended, oldest first.
async fn ended(cluster: &Cluster) -> Result<Vec<Value>> {
    let schedule = schedule(cluster).await?;
    Ok(schedule["history"].as_array().cloned().unwrap_or_default())
}

async fn wait_ended(cluster: &Cluster, count: usize) -> Result<Vec<Value>> {
    wait_for(
        &format!("{count} runs have ended"),
        PATIENCE * 2,
        || async {
            let ended = ended(cluster).await?;
            Ok((ended.len() >= count).then_some(ended))
        },
    )
    .await
}

async fn backup_operations(cluster: &Cluster) -> Result<usize> {
    let listed = json(cluster, &["ListOperations", "--all"]).await?;
    let operations = listed["operations"].as_array().context("operations")?;
    let backups = operations.iter().filter(|op| op["kind"] == "backup");
    Ok(backups.count())
}

async fn set(cluster: &Cluster, flags: &[&str]) -> Result<String> {
    let args = [&["SetSchedule", NAME, SHARD, "--cron", CRON], flags].concat();
    cluster.ctl(&args).await?.done()
}

/// A number of the member's, summed up over its labels.
async fn metric(cluster: &Cluster, member: usize, name: &str) -> Result<f64> {
    let url = format!(
        "http://{}/metrics",
        cluster.coordinators[member].http_address()
    );
    let line = format!("seawall_schedule_{name}{{schedule=\"{NAME}\"}} ");
    let text = http::get(&url).await?;
    let value = text.lines().find_map(|text| text.strip_prefix(&line));
    Ok(value
        .with_context(|| format!("no {line}in {text}"))?
        .parse()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_come_and_go_under_one_leader_and_the_next_and_none_begins_twice() -> Result<()> {
    let mut cluster = ClusterPlan::new("schedule").coordinators(3).start().await?;
    cluster.start_small_shard(2).await?;
    let dry = set(&cluster, &["--dry-run"]).await?;
    ensure!(
        dry.contains("nothing is set; it would run for 1 shard"),
        "{dry}"
    );
    ensure!(dry.lines().count() == 6, "five slots: {dry}");
    set(&cluster, &["--history", "100"]).await?;
    wait_ended(&cluster, 1).await?;

    // The leader dies in the middle of a backup, and the next one goes on with it.
    let faults = cluster.tablet(REPLICA)?.faults();
    faults.arm("agent.copy.middle", "pause").await?;
    faults.wait_reached("agent.copy.middle", PATIENCE).await?;
    let leader = cluster.leader().await?;
    cluster.coordinators[leader].kill()?;
    let next = cluster.leader().await?;
    faults.disarm("agent.copy.middle").await?;
    let before = ended(&cluster).await?.len();
    wait_ended(&cluster, before + 2).await?;
    cluster.coordinators[leader].start()?;
    cluster.coordinators[leader].wait_ready().await?;

    let paused = cluster.ctl(&["PauseSchedule", NAME]).await?.done()?;
    ensure!(
        paused.contains("is paused until ResumeSchedule"),
        "{paused}"
    );
    wait_until("nothing of it is at work", PATIENCE, || async {
        Ok(schedule(&cluster).await?["run"].is_null())
    })
    .await?;
    let runs = ended(&cluster).await?;
    let slots: BTreeSet<&str> = runs
        .iter()
        .filter_map(|run| run["slot"]["at"].as_str())
        .collect();
    ensure!(slots.len() == runs.len(), "a slot began twice: {runs:#?}");
    let succeeded = runs.iter().filter(|run| run["outcome"] == "succeeded");
    ensure!(succeeded.count() == runs.len(), "{runs:#?}");
    let numbers: Vec<u64> = runs
        .iter()
        .filter_map(|run| run["number"].as_u64())
        .collect();
    let expected: Vec<u64> = (1..=runs.len() as u64).collect();
    ensure!(numbers == expected, "{numbers:?}");
    ensure!(backup_operations(&cluster).await? == runs.len());
    let backups = cluster.backups(SHARD, false).await?;
    ensure!(backups.len() == runs.len(), "{backups:#?}");
    ensure!(backups.iter().all(|backup| backup.alias == REPLICA));

    ensure!(metric(&cluster, next, "paused").await? == 1.0);
    ensure!(metric(&cluster, next, "consecutive_failures").await? == 0.0);
    ensure!(metric(&cluster, next, "running").await? == 0.0);
    ensure!(metric(&cluster, next, "last_success_timestamp_seconds").await? > 1e9);

    // While it is paused no slot begins anything; then the next one does.
    tokio::time::sleep(Duration::from_secs(12)).await;
    ensure!(ended(&cluster).await?.len() == runs.len());
    cluster.ctl(&["ResumeSchedule", NAME]).await?.done()?;
    wait_ended(&cluster, runs.len() + 1).await?;
    cluster.ctl(&["RemoveSchedule", NAME]).await?.done()?;
    let gone = cluster.ctl(&["ListSchedules", NAME]).await?;
    gone.refused(1, &["no schedule often", "ListSchedules shows them"])?;
    cluster.wait_serving(REPLICA).await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_says_why_it_does_not_run_and_that_a_log_is_too_short() -> Result<()> {
    let mut cluster = ClusterPlan::new("schedule-says").start().await?;
    cluster.start_small_shard(2).await?;
    // Its agent is away: there is nobody to back up.
    cluster.tablet_mut(REPLICA)?.kill()?;
    wait_until("its silence is noticed", PATIENCE, || async {
        let tablet = cluster.known_tablet(REPLICA).await?;
        let seen_unix_ms = tablet.and_then(|tablet| tablet.last_seen_unix_ms);
        let silence_ms = now_unix_ms().saturating_sub(seen_unix_ms.unwrap_or(0));
        Ok(silence_ms > 11_000)
    })
    .await?;
    set(&cluster, &["--tries", "2", "--retry-after", "1s"]).await?;
    wait_until("the alarm is up", PATIENCE, || async {
        Ok(metric(&cluster, 0, "consecutive_failures").await? >= 1.0)
    })
    .await?;
    let failed = wait_ended(&cluster, 1).await?;
    ensure!(failed[0]["outcome"] == "failed", "{failed:#?}");
    let error = failed[0]["errors"][0].as_str().unwrap_or_default();
    ensure!(error.contains("zone1-102 is not heard"), "{error}");
    let table = cluster.ctl(&["ListSchedules"]).await?.done()?;
    ensure!(table.contains("failed, 0 of 1 shards backed up"), "{table}");
    ensure!(table.contains("zone1-102 is not heard"), "{table}");
    cluster.tablet_mut(REPLICA)?.start()?;
    wait_until("the alarm is down", PATIENCE * 2, || async {
        Ok(metric(&cluster, 0, "consecutive_failures").await? == 0.0)
    })
    .await?;
    // Every ten seconds is too often for a log to be too short.
    let weekly = [
        "SetSchedule",
        NAME,
        SHARD,
        "--cron",
        "0 3 * * SUN",
        "--zone",
        "Europe/Zurich",
    ];
    cluster.ctl(&weekly).await?.done()?;
    ensure!(schedule(&cluster).await?["short_logs"] == Value::Array(Vec::new()));
    let server = &cluster.tablet(PRIMARY)?.server;
    server
        .execute(&["SET GLOBAL binlog_expire_logs_seconds = 345600"])
        .await?;
    wait_until("the warning stands", PATIENCE, || async {
        Ok(metric(&cluster, 0, "short_logs").await? == 1.0)
    })
    .await?;
    let short = schedule(&cluster).await?["short_logs"][0].clone();
    ensure!(short["alias"] == PRIMARY, "{short:#}");
    ensure!(short["kept_ms"] == 345_600_000, "{short:#}");
    ensure!(
        short["gap_ms"].as_u64() >= Some(7 * 24 * 3_600_000),
        "{short:#}"
    );
    let said = cluster.ctl(&["ListSchedules"]).await?.done()?;
    let warning = "WARNING: zone1-101 keeps its binary log for 4d00h";
    ensure!(said.contains(warning), "{said}");

    for (args, words) in [
        (
            ["SetSchedule", "x", SHARD, "--cron", "0 3 30 2 *"],
            "never comes",
        ),
        (
            ["SetSchedule", "x", SHARD, "--cron", "0 3 * *"],
            "malformed cron",
        ),
        (
            ["SetSchedule", "x", "comerce", "--cron", CRON],
            "Did you mean commerce?",
        ),
    ] {
        cluster.ctl(&args).await?.refused(1, &[words])?;
    }
    let zone = [&weekly[..6], &["Zurich"]].concat();
    cluster
        .ctl(&zone)
        .await?
        .refused(1, &["no time zone \"Zurich\"", "Europe/Zurich"])?;
    cluster.wait_serving(REPLICA).await?;
    cluster.finish().await
}
