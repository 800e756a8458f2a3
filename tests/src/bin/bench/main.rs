//! Backup and restore against what people use otherwise: `tar | zstd | age`, `restic`, and
//! `mariabackup | zstd | age`; the coordinator group against etcd ([`coordinator`]).
//!
//! All of them work on the same files, one after the other in each round, so that a busy machine
//! slows all of them; the medians of the rounds are compared. Each run ends when its bytes are
//! synced. `make bench` builds for release and runs it; `--only` leaves parts out.

mod contender;
mod coordinator;
mod data;
mod memory;
mod others;
mod report;
mod seawall;
mod stages;
mod tablets;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use seawall_tests::harness::{
    Cluster, ClusterPlan,
    binary::system_program,
    ceph::Ceph,
    scratch::Scratch,
    wait::{PATIENCE, wait_until},
};

use contender::Task;
use others::{Bucket, Others};
use seawall::{PATIENCE_WITH_DATA, PRIMARY, REPLICA, Seawall};

/// Must stay below this at concurrency 4.
const MEMORY_MIB_MAX: u64 = 200;

/// What can be measured by itself.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Backup and restore beside tar+zstd+age, restic and mariabackup+zstd+age
    Backup,
    /// Timestamps, durable commands and recovery of three coordinators, beside etcd; their state
    Coordinator,
    /// Many tablets that heart-beat, and watches of those that serve
    Tablets,
}

/// Measures Seawall beside what people use otherwise.
#[derive(Parser)]
struct Arguments {
    /// Measure only these parts
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Part::Backup, Part::Coordinator, Part::Tablets])]
    only: Vec<Part>,
    /// Kills of the leading coordinator
    #[arg(long, default_value_t = 30)]
    kills: usize,
    /// How long coordinators are called in a round
    #[arg(long, default_value_t = 3.0)]
    load_seconds: f64,
    /// Size of the data directory that is backed up to a directory, at least; 0: none
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Size of the data directory that is backed up to S3 (Ceph's gateway, in memory); 0: none
    #[arg(long, default_value_t = 512)]
    s3_mib: u64,
    /// Size of the directory whose backup and restore are looked at for memory; 0: none
    #[arg(long, default_value_t = 512)]
    memory_mib: u64,
    /// Simulated tablets that heart-beat each second; 0: none
    #[arg(long, default_value_t = 10_000)]
    tablets: usize,
    /// Watches of the tablets that serve, meanwhile
    #[arg(long, default_value_t = 1_000)]
    watchers: usize,
    /// Sessions and watches that share a connection
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    share: u32,
    /// How long they are looked at
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    if arguments.only.contains(&Part::Coordinator) {
        let plan = coordinator::Plan {
            rounds: arguments.rounds,
            kills: arguments.kills,
            seconds: arguments.load_seconds,
        };
        coordinator::run(&plan).await?;
    }
    if arguments.only.contains(&Part::Backup) {
        backup(arguments).await?;
    }
    if arguments.only.contains(&Part::Tablets) && arguments.tablets > 0 {
        let plan = tablets::Plan {
            tablets: arguments.tablets,
            watchers: arguments.watchers,
            share: arguments.share as usize,
            seconds: arguments.seconds,
        };
        tablets::print(plan).await?;
    }
    Ok(())
}

async fn backup(arguments: &Arguments) -> Result<()> {
    for program in [
        "tar",
        "zstd",
        "age",
        "age-keygen",
        "restic",
        "rclone",
        "mariabackup",
        "mbstream",
    ] {
        system_program(program)?;
    }
    println!("{}\n", report::versions()?);
    if arguments.mib > 0 {
        let cluster = ClusterPlan::new("bench").start().await?;
        on(cluster, "file://", arguments.mib, arguments.rounds, None).await?;
    }
    if arguments.s3_mib > 0 {
        on_s3(arguments).await?;
    }
    if arguments.memory_mib > 0 {
        memory::print(arguments.memory_mib).await?;
    }
    Ok(())
}

async fn on_s3(arguments: &Arguments) -> Result<()> {
    let mut scratch = Scratch::create("bench-ceph")?;
    let Some(ceph) = Ceph::start(&scratch).await? else {
        scratch.discard();
        return Ok(());
    };
    let bucket = ceph.bucket("bench", false).await?;
    let for_others = Bucket {
        address: ceph.address(),
        name: "bench".to_owned(),
        credentials: bucket.environment.clone(),
    };
    let cluster = ClusterPlan::new("bench-s3").bucket(bucket).start().await?;
    on(
        cluster,
        "s3://",
        arguments.s3_mib,
        arguments.rounds,
        Some(for_others),
    )
    .await?;
    drop(ceph);
    scratch.discard();
    Ok(())
}

/// All rounds on one kind of store. `bucket`: where the others store, if not on the disk.
async fn on(
    mut cluster: Cluster,
    store: &str,
    mib: u64,
    rounds: usize,
    bucket: Option<Bucket>,
) -> Result<()> {
    let mut seawall = Seawall::new(cluster.scratch.path().join("key.txt"))?;
    println!("{store}: making a data directory of {mib} MiB");
    let plans = [PRIMARY, REPLICA].map(|alias| seawall.plan(alias));
    cluster.start_shard(&plans).await?;
    let tables = data::fill(&cluster.tablet(PRIMARY)?.server, mib).await?;
    wait_caught_up(&cluster).await?;
    let work = cluster.scratch.path().join("others");
    let mut others = Others::prepare(work, seawall.recipient.clone(), seawall.key.clone(), bucket)?;
    for number in 1..=rounds {
        println!("{store}: round {number} of {rounds}");
        let round = Round {
            cluster: &mut cluster,
            seawall: &mut seawall,
            others: &mut others,
            number,
            tables,
        };
        round.run().await?;
    }
    let all = [
        &seawall.measured,
        &others.tar,
        &others.mariabackup,
        &others.restic,
    ];
    let measured: Vec<_> = all.into_iter().filter(|one| one.rounds() > 0).collect();
    report::print(store, seawall.logical_bytes, &measured);
    println!(
        "Agent's peak memory: {} MiB backing up, {} MiB restoring (below {MEMORY_MIB_MAX} MiB expected); coordinator's: {} MiB.",
        seawall.backup_peak_kib >> 10,
        seawall.restore_peak_kib >> 10,
        cluster.coordinators[0].process()?.peak_memory_kib()? >> 10
    );
    cluster.finish().await
}

async fn wait_caught_up(cluster: &Cluster) -> Result<()> {
    cluster
        .wait_caught_up_within(REPLICA, PRIMARY, PATIENCE_WITH_DATA)
        .await
}

struct Round<'a> {
    cluster: &'a mut Cluster,
    seawall: &'a mut Seawall,
    others: &'a mut Others,
    number: usize,
    tables: u32,
}

impl Round<'_> {
    async fn run(self) -> Result<()> {
        let Self {
            cluster,
            seawall,
            others,
            number,
            tables,
        } = self;
        let newcomer = format!("zone1-{}", 200 + number);
        seawall.back_up(cluster, Task::FirstBackup).await?;
        seawall.back_up(cluster, Task::UnchangedBackup).await?;
        seawall.restore_anew(cluster, &newcomer).await?;
        // The others get the very files that have just been restored.
        let data = stop(cluster, &newcomer).await?;
        others.round(&data, &cluster.tablet(REPLICA)?.server, number)?;

        let primary = &cluster.tablet(PRIMARY)?.server;
        data::change_one_page_in_a_hundred(primary, tables, number).await?;
        wait_caught_up(cluster).await?;
        let changed = seawall.back_up(cluster, Task::ChangedBackup).await?;
        cluster.tablet_mut(&newcomer)?.start()?;
        cluster.wait_serving(&newcomer).await?;
        seawall.restore_over(cluster, &newcomer, &changed).await?;
        let data = stop(cluster, &newcomer).await?;
        others.changed(&data, number)?;
        std::fs::remove_dir_all(&data)?;
        seawall.forget_backups(cluster).await
    }
}

/// Ends agent and server of a tablet; where its files lie.
async fn stop(cluster: &mut Cluster, alias: &str) -> Result<PathBuf> {
    let tablet = cluster.tablet_mut(alias)?;
    tablet.terminate()?;
    // It may close the connection before it answers; that it ends is looked at below.
    let _ = tablet.server.execute(&["SHUTDOWN"]).await;
    let server = &tablet.server;
    wait_until("the server has ended", PATIENCE, || async {
        Ok(server.process().is_none())
    })
    .await?;
    Ok(server.data_dir())
}
