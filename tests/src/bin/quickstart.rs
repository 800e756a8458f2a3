//! A small cluster on this machine, from nothing: backup, list, restore, compare.
//!
//! `make quickstart` runs it. It does what a person would do by hand and shows the commands;
//! at the end nothing is left, unless `--keep` is given.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use seawall_tests::harness::{
    Cluster, ClusterPlan, TabletPlan,
    binary::{binary, target_directory},
    load::{Load, check_nothing_is_lost},
    mariadb::Server,
    scratch::{Scratch, end_left_running},
    tablet::Data,
};

const SHARD: &str = "commerce/0";
const PRIMARY: &str = "zone1-101";
const REPLICA: &str = "zone1-102";
const NEWCOMER: &str = "zone1-103";
const ROWS: u32 = 20_000;

/// Starts a small Seawall cluster, backs up, restores and compares.
#[derive(Parser)]
struct Arguments {
    /// Leave the cluster running and print the commands to try next
    #[arg(long)]
    keep: bool,
    /// Stop the cluster that an earlier `--keep` left
    #[arg(long, conflicts_with = "keep")]
    stop: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    if arguments.stop {
        return stop_kept();
    }
    let scratch = if arguments.keep {
        let path = kept_directory()?;
        std::fs::create_dir_all(path.parent().context("a directory without a parent")?)?;
        if path.exists() {
            bail!(
                "{} is there already: `make quickstart ARGS=--stop` ends what runs in it",
                path.display()
            );
        }
        Scratch::at(&path)?
    } else {
        Scratch::create("quickstart")?
    };
    // Leaving by Ctrl-C drops the cluster, and so ends all of its processes.
    let cluster = tokio::select! {
        finished = walk(scratch) => finished?,
        _ = tokio::signal::ctrl_c() => bail!("interrupted; everything has been stopped"),
    };
    if arguments.keep {
        print_what_next(&cluster)?;
        cluster.leave_running()
    } else {
        cluster.finish().await?;
        println!(
            "\nEverything has been stopped and removed. `make quickstart ARGS=--keep` leaves it up."
        );
        Ok(())
    }
}

async fn walk(scratch: Scratch) -> Result<Cluster> {
    let story = Story::begin();
    story.step("A coordinator, and the repository of the backups");
    let mut cluster = Cluster::start_in(scratch, ClusterPlan::new("quickstart")).await?;
    story.say(&format!("repository: {}", cluster.repository.url()));

    story.step("Two MariaDB servers, made and started by their agents");
    for alias in [PRIMARY, REPLICA] {
        cluster.start_tablet(&new_tablet(alias).set("initialize", true))?;
    }
    for alias in [PRIMARY, REPLICA] {
        cluster.wait_registered(alias).await?;
    }
    command(&story, &cluster, &["InitShardPrimary", SHARD, PRIMARY]).await?;
    cluster.wait_serving(PRIMARY).await?;
    cluster.wait_serving(REPLICA).await?;

    story.step(&format!(
        "{ROWS} rows, and an order every few milliseconds from here on"
    ));
    load_rows(&cluster.tablet(PRIMARY)?.server).await?;
    let load = Load::start(&cluster.tablet(PRIMARY)?.server).await?;
    load.wait_progress(50).await?;
    command(&story, &cluster, &["ListTablets", SHARD]).await?;

    story.step("A cold backup of the replica; the primary goes on serving");
    let before = load.rows();
    command(&story, &cluster, &["Backup", REPLICA]).await?;
    story.say(&format!(
        "{} orders were written while the replica was backed up",
        load.rows() - before
    ));
    command(&story, &cluster, &["ListBackups", SHARD]).await?;

    story.step("A third server, with no data at all: it restores itself and catches up");
    cluster.start_tablet(&new_tablet(NEWCOMER).set("restore_from_backup", true))?;
    cluster.wait_serving(NEWCOMER).await?;
    cluster.wait_known_serving(NEWCOMER).await?;
    command(&story, &cluster, &["ListTablets", SHARD]).await?;

    story.step("The same data everywhere?");
    let orders = load.stop().await?;
    for alias in [REPLICA, NEWCOMER] {
        cluster.wait_caught_up(alias, PRIMARY).await?;
    }
    cluster.check_equal(&[PRIMARY, REPLICA, NEWCOMER]).await?;
    check_nothing_is_lost(&cluster.tablet(NEWCOMER)?.server, &orders).await?;
    for (table, checksum) in cluster.tablet(NEWCOMER)?.server.checksums().await? {
        let checksum = checksum.context("a table without a checksum")?;
        story.say(&format!("CHECKSUM TABLE {table}: {checksum} on all three"));
    }
    story.say(&format!(
        "all {} orders that were acknowledged are on {NEWCOMER}",
        orders.len()
    ));
    story.end();
    Ok(cluster)
}

fn new_tablet(alias: &str) -> TabletPlan {
    let mut plan = TabletPlan::new(alias);
    plan.data = Data::Nothing;
    plan
}

async fn load_rows(primary: &Server) -> Result<()> {
    primary
        .execute(&[
            "CREATE DATABASE catalogue",
            "USE catalogue",
            "CREATE TABLE catalogue.products (id INT PRIMARY KEY, name VARCHAR(80), picture BLOB)",
            &format!(
                "INSERT INTO catalogue.products \
                 SELECT seq, CONCAT('product ', seq), REPEAT(SHA2(CONCAT(seq, RAND()), 512), 3) FROM seq_1_to_{ROWS}"
            ),
        ])
        .await
}

/// Runs `seawallctl` and shows the command with what it printed.
async fn command(story: &Story, cluster: &Cluster, args: &[&str]) -> Result<()> {
    println!("{}   $ seawallctl {}", story.clock(), args.join(" "));
    let printed = cluster.ctl(args).await?.done()?;
    for line in printed.lines() {
        println!("              {line}");
    }
    Ok(())
}

fn kept_directory() -> Result<PathBuf> {
    Ok(target_directory()?.join("quickstart"))
}

fn print_what_next(cluster: &Cluster) -> Result<()> {
    let tablet = cluster.tablet(REPLICA)?;
    println!("\nThe cluster is up. Things to try:\n");
    println!(
        "  export SEAWALL_COORDINATOR={}",
        cluster.coordinator_urls().join(",")
    );
    println!(
        "  export PATH={}:$PATH",
        parent(&binary("seawallctl")?).display()
    );
    println!("  seawallctl ListTablets");
    println!("  seawallctl Backup {REPLICA}");
    println!("  seawallctl ListBackups {SHARD}");
    println!("  seawallctl PlannedReparentShard {SHARD} --new-primary {REPLICA}");
    println!("  seawallctl ListOperations");
    println!("  curl -i http://{}/serving", tablet.http_address());
    println!("  mariadb -uroot -S {}", tablet.server.socket.display());
    println!(
        "\nConfigurations and logs: {}",
        cluster.scratch.path().display()
    );
    println!("To stop it and remove its data: make quickstart ARGS=--stop");
    Ok(())
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn stop_kept() -> Result<()> {
    let path = kept_directory()?;
    if !path.exists() {
        bail!(
            "no cluster was left running ({} is not there)",
            path.display()
        );
    }
    end_left_running(&path)?;
    println!(
        "The cluster has been stopped and {} removed.",
        path.display()
    );
    Ok(())
}

/// Prints what happens, with the seconds since the beginning.
struct Story {
    began: Instant,
}

impl Story {
    fn begin() -> Self {
        Self {
            began: Instant::now(),
        }
    }

    fn clock(&self) -> String {
        format!("{:6.1} s", self.began.elapsed().as_secs_f32())
    }

    fn step(&self, title: &str) {
        println!("\n{}  {title}", self.clock());
    }

    fn say(&self, text: &str) {
        println!("{}   {text}", self.clock());
    }

    fn end(&self) {
        println!("\n{}  Done.", self.clock());
    }
}
