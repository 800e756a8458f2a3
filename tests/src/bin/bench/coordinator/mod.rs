//! The coordinator group: how many timestamps and durable commands it gives, how soon it answers
//! again when its leader is killed, how large its state gets. etcd is measured beside it in the same
//! run, on the same disk, by the same code, through its own gRPC interface.
//!
//! Both are three real processes on loopback with their own default settings, each with a directory
//! of its own, and sync before they answer. Clients call the leader: neither has to pass calls on.

mod etcd;
mod load;
mod recovery;
mod seawall;

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use seawall_common::tls::{Dial, Dialer, ServerUrl, Tls, Whom};
use seawall_tests::harness::binary::binary;
use tonic::transport::Channel;

use etcd::Etcd;
use load::{Caller, Load};
use seawall::Seawall;

const CALLERS: [usize; 3] = [1, 16, 256];
/// Callers that share one connection, at most.
const CALLERS_A_CONNECTION: usize = 16;
/// So many timestamps in a range.
const RANGE: u32 = 1000;
const DIAL: Dial = Dial::within(Duration::from_secs(2));
/// What is larger is only measured, and not compared with anything.
const SHARDS: u32 = 1000;
const BACKUPS_A_SHARD: u32 = 365;

/// How much is measured.
pub struct Plan {
    pub rounds: usize,
    pub kills: usize,
    pub seconds: f64,
}

/// One for each caller; callers share connections as the tasks of a program do.
fn channels(url: &str, callers: usize) -> Result<Vec<Channel>> {
    let url: ServerUrl = url.parse()?;
    let dialer = Dialer::new(Tls::off()?);
    let connections = callers.div_ceil(CALLERS_A_CONNECTION);
    let open = (0..connections).map(|_| dialer.channel(&url, Whom::Coordinator, DIAL));
    let open: Vec<Channel> = open.collect::<seawall_common::Result<_>>()?;
    let shared = open.iter().cycle().take(callers);
    Ok(shared.cloned().collect())
}

pub async fn run(plan: &Plan) -> Result<()> {
    ensure!(plan.rounds > 0, "at least one round is needed");
    let mut seawall = Seawall::start().await?;
    let mut etcd = Etcd::start().await?;
    let version = etcd
        .as_ref()
        .map_or("no etcd", |etcd| etcd.version.as_str());
    println!("# Coordinators: three Seawall, and three of {version}, on one disk\n");
    println!(
        "Medians of {} rounds of {} s each.\n",
        plan.rounds, plan.seconds
    );
    timestamps(&mut seawall, plan).await?;
    commands(&mut seawall, &mut etcd, plan).await?;
    recoveries(&mut seawall, &mut etcd, plan).await?;
    if let Some(etcd) = etcd {
        etcd.end();
    }
    seawall.cluster.finish().await?;
    sizes()
}

const HEAD: &str = "a second | p50 ms | p99 ms | p99.9 ms | max ms";

/// The columns of [`HEAD`].
fn row(load: &Load, each: u32) -> String {
    let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|part| load.waited_ms(part));
    let per_second = load.per_second() * f64::from(each);
    format!("{per_second:.0} | {p50:.2} | {p99:.2} | {p999:.2} | {max:.2}")
}

async fn loads<C: Caller>(callers: Vec<C>, plan: &Plan) -> Result<Load> {
    load::run(callers, Duration::from_secs_f64(plan.seconds)).await
}

async fn timestamps(seawall: &mut Seawall, plan: &Plan) -> Result<()> {
    println!("| timestamps | callers | {HEAD} |\n|---|---:|---:|---:|---:|---:|---:|");
    for (what, is_merged, count) in [
        ("one a request", false, 1),
        ("single, merged", true, 1),
        ("ranges of 1000", false, RANGE),
        ("ranges of 1000, merged", true, RANGE),
    ] {
        for callers in CALLERS {
            let mut rounds = Vec::new();
            for _ in 0..plan.rounds {
                rounds.push(match is_merged {
                    false => loads(seawall.fetchers(callers, count).await?, plan).await?,
                    true => loads(seawall.merged(callers, count).await?, plan).await?,
                });
            }
            let load = load::median(rounds)?;
            println!("| {what} | {callers} | {} |", row(&load, count));
        }
    }
    println!();
    Ok(())
}

/// Round by round, one after the other, so that a busy machine slows both.
async fn commands(seawall: &mut Seawall, etcd: &mut Option<Etcd>, plan: &Plan) -> Result<()> {
    println!("| durable commands | callers | {HEAD} | to etcd's |");
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    for callers in CALLERS {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            ours.push(loads(seawall.commands(callers).await?, plan).await?);
            if let Some(etcd) = etcd {
                theirs.push(loads(etcd.commands(callers).await?, plan).await?);
            }
        }
        let ours = load::median(ours)?;
        let theirs = load::median(theirs).ok();
        let ratio = theirs.as_ref().map_or_else(String::new, |theirs| {
            format!("{:.2}", ours.per_second() / theirs.per_second())
        });
        println!(
            "| Seawall: take a hold, let go of it | {callers} | {} | {ratio} |",
            row(&ours, 1)
        );
        if let Some(theirs) = theirs {
            println!("| etcd: put | {callers} | {} | |", row(&theirs, 1));
        }
    }
    println!();
    Ok(())
}

async fn recoveries(seawall: &mut Seawall, etcd: &mut Option<Etcd>, plan: &Plan) -> Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..plan.kills {
        ours.push(recovery::once(seawall).await?);
        if let Some(etcd) = etcd {
            theirs.push(recovery::once(etcd).await?);
        }
    }
    println!(
        "| from kill -9 of the leader to the next durable answer | kills | median s | worst s |"
    );
    println!("|---|---:|---:|---:|");
    for (who, mut seconds) in [("Seawall", ours), ("etcd", theirs)] {
        seconds.sort_by(f64::total_cmp);
        if let (Some(median), Some(worst)) = (seconds.get(seconds.len() / 2), seconds.last()) {
            println!("| {who} | {} | {median:.2} | {worst:.2} |", seconds.len());
        }
    }
    println!();
    Ok(())
}

/// By a program of its own, since it holds the whole state and what is measured is memory.
fn sizes() -> Result<()> {
    let output = Command::new(binary("state-size")?)
        .args([SHARDS.to_string(), BACKUPS_A_SHARD.to_string()])
        .output()
        .context("cannot run state-size")?;
    ensure!(
        output.status.success(),
        "state-size failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    print!("{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}
