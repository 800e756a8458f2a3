//! What many tablets and watchers cost the leader of a group of three: memory, time of its
//! processor, growth of the log; and how long a change takes until everybody who watches knows.
//!
//! Agents and watchers are simulated: each has its own session or watch, as the real ones, on
//! connections that so many share.

mod fleet;
mod usage;

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use seawall_proto::v1::{ClusterStatusRequest, cluster_client::ClusterClient};
use seawall_tests::harness::{Cluster, ClusterPlan};

use fleet::Fleet;
use usage::Usage;

/// Below both, with 10,000 tablets and 1,000 watchers.
const MEMORY_MIB_MAX: u64 = 1024;
const CORES_MAX: f64 = 1.0;
/// Until everybody talks and watches.
const SETTLE: Duration = Duration::from_secs(15);

#[derive(Clone, Copy)]
pub struct Plan {
    pub tablets: usize,
    pub watchers: usize,
    /// Sessions, and watches, that share a connection.
    pub share: usize,
    pub seconds: u64,
}

struct Group {
    cluster: Cluster,
    leader: usize,
}

impl Group {
    async fn start() -> Result<Self> {
        let mut cluster = ClusterPlan::new("bench-tablets")
            .coordinators(3)
            .start()
            .await?;
        let leader = cluster.leader().await?;
        Ok(Self { cluster, leader })
    }

    /// Entries in the leader's log, and its bytes.
    async fn log(&self) -> Result<(u64, u64)> {
        let member = &self.cluster.coordinators[self.leader];
        let mut client = ClusterClient::new(member.channel().await?);
        let status = client.status(ClusterStatusRequest {}).await?.into_inner();
        Ok((status.last_applied, status.log_bytes))
    }

    /// Of the leader first.
    fn usages(&mut self) -> Result<Vec<Usage>> {
        let leader = self.leader;
        let mut members: Vec<_> = self.cluster.coordinators.iter_mut().collect();
        members.swap(0, leader);
        members
            .into_iter()
            .map(|member| Usage::of(member.process()?.id()))
            .collect()
    }
}

pub async fn print(plan: Plan) -> Result<()> {
    println!(
        "\n{} tablets that heart-beat each second and {} watchers on the leader of three, {} a connection\n",
        plan.tablets, plan.watchers, plan.share
    );
    let mut group = Group::start().await?;
    let url = group.cluster.coordinators[group.leader].url();
    let began = Instant::now();
    let mut fleet = Fleet::register(&url, plan).await?;
    println!(
        "registering took {:.1} s, all at once; at rest before: {}",
        began.elapsed().as_secs_f64(),
        group.usages()?[0]
    );
    fleet.talk()?;
    tokio::time::sleep(SETTLE).await;
    let began = Instant::now();
    fleet.watch().await?;
    println!(
        "all watchers had the whole set after {:.1} s: {}",
        began.elapsed().as_secs_f64(),
        group.usages()?[0]
    );

    println!(
        "\n| | leader's cores | its memory, MiB | at most | a follower's cores | answers/s | answered within, median | 99 % | log entries | log bytes |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let quiet = measure(&mut group, &fleet, plan.seconds, "nothing changes").await?;
    fleet.flip.store(plan.tablets / 100, Relaxed);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let busy = measure(
        &mut group,
        &fleet,
        plan.seconds,
        "1 % begin or end to serve each second",
    )
    .await?;
    println!("\n{}", fleet.reach());
    ensure!(
        fleet.lost() == 0,
        "{} sessions or watches broke off",
        fleet.lost()
    );
    drop(fleet);
    group.cluster.finish().await?;
    let memory_mib = quiet.memory_mib.max(busy.memory_mib);
    ensure!(
        memory_mib < MEMORY_MIB_MAX && quiet.cores < CORES_MAX,
        "the leader took {:.2} cores while nothing changed, and {memory_mib} MiB at most: {CORES_MAX} core and {MEMORY_MIB_MAX} MiB are expected",
        quiet.cores
    );
    println!("below {MEMORY_MIB_MAX} MiB and {CORES_MAX} core, as expected");
    Ok(())
}

struct Measured {
    cores: f64,
    memory_mib: u64,
}

async fn measure(group: &mut Group, fleet: &Fleet, seconds: u64, what: &str) -> Result<Measured> {
    fleet.forget_times();
    let (usages, log, began) = (group.usages()?, group.log().await?, Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let elapsed = began.elapsed().as_secs_f64();
    let (later, later_log) = (group.usages()?, group.log().await?);
    let cores = |member: usize| (later[member].cpu - usages[member].cpu).as_secs_f64() / elapsed;
    let times = fleet.answer_times();
    println!(
        "| {what} | {:.2} | {} | {} | {:.2} | {:.0} | {:.1} ms | {:.1} ms | {} | {} |",
        cores(0),
        later[0].memory_mib,
        later[0].peak_mib,
        cores(1).max(cores(2)),
        times.count as f64 / elapsed,
        times.median_ms,
        times.high_ms,
        later_log.0 - log.0,
        later_log.1.saturating_sub(log.1),
    );
    Ok(Measured {
        cores: cores(0),
        memory_mib: later[0].peak_mib,
    })
}
