//! Schedules: backups that nobody asks for, on real servers, whoever leads.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use seawall_tests::harness::{
    Cluster, ClusterPlan, http,
    wait::{PATIENCE, wait_for, wait_until},
};
use serde_json::Value;

const SHARD: &str = "commerce/0";
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
