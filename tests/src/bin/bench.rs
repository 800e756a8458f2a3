//! Backup and restore against what people use otherwise: `tar | zstd | age`, and `restic`.
//!
//! All three work on the same files, one after the other in each round, so that a busy machine
//! slows all of them; the medians of the rounds are compared. Each run ends when its bytes are
//! synced. `make bench` builds for release and runs it.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use seawall_proto::v1;
use seawall_tests::harness::{
    Cluster, ClusterPlan, TabletPlan, binary::system_program, config::list, mariadb::Server,
    wait::PATIENCE,
};

const SHARD: &str = "commerce/0";
const PRIMARY: &str = "zone1-101";
const REPLICA: &str = "zone1-102";
/// Must stay below this at concurrency 4.
const MEMORY_MIB_MAX: u64 = 256;
const PATIENCE_WITH_DATA: Duration = Duration::from_secs(900);

/// Times backup and restore beside tar+zstd+age and restic.
#[derive(Parser)]
struct Arguments {
    /// Size of the data directory, at least
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// One contender's times, in seconds.
#[derive(Default)]
struct Times {
    backup: Vec<f64>,
    restore: Vec<f64>,
    stored_bytes: u64,
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
    let programs = ["tar", "zstd", "age", "age-keygen", "restic"];
    for program in programs {
        system_program(program)?;
    }
    let mut cluster = ClusterPlan::new("bench").start().await?;
    let key = cluster.scratch.path().join("key.txt");
    let recipient = new_key(&key)?;
    let encrypted = |alias: &str| {
        TabletPlan::new(alias)
            .set("repository.recipients", list([recipient.as_str()]))
            .set("repository.identity_file", key.display().to_string())
            .set("restore_concurrency", 4)
    };
    println!("making a data directory of {} MiB", arguments.mib);
    cluster
        .start_shard(&[encrypted(PRIMARY), encrypted(REPLICA)])
        .await?;
    fill(&cluster.tablet(PRIMARY)?.server, arguments.mib).await?;
    cluster
        .wait_caught_up_within(REPLICA, PRIMARY, PATIENCE_WITH_DATA)
        .await?;

    let mut contenders = Contenders::prepare(&cluster, recipient, key)?;
    for round in 1..=arguments.rounds {
        println!("round {round} of {}", arguments.rounds);
        contenders.round(&mut cluster, round).await?;
    }
    contenders.print(&mut cluster)?;
    cluster.finish().await
}

/// Makes a key pair; answers the public one.
fn new_key(file: &Path) -> Result<String> {
    let output = Command::new("age-keygen").arg("-o").arg(file).output()?;
    ensure!(output.status.success(), "age-keygen failed");
    let text = std::fs::read_to_string(file)?;
    text.lines()
        .find_map(|line| line.strip_prefix("# public key: "))
        .map(str::to_owned)
        .context("age-keygen wrote no public key")
}

/// Tables of which one half compresses well and the other not at all.
async fn fill(primary: &Server, mib: u64) -> Result<()> {
    primary.execute(&["CREATE DATABASE bench"]).await?;
    let size = "SELECT CAST(COALESCE(SUM(data_length + index_length), 0) AS UNSIGNED) \
                FROM information_schema.tables WHERE table_schema = 'bench'";
    for table in 0.. {
        let text = format!(
            "CREATE TABLE bench.text_{table} (id INT PRIMARY KEY, a VARCHAR(200), b INT, KEY (b)) \
             AS SELECT seq AS id, CONCAT('customer ', seq, ' lives in street ', seq % 977, ' of city ', \
             seq % 89, ' and pays by invoice number ', seq * 31) AS a, seq % 1000 AS b \
             FROM seq_1_to_250000"
        );
        let random = format!(
            "CREATE TABLE bench.random_{table} (id INT PRIMARY KEY, a VARBINARY(1000)) \
             AS SELECT seq AS id, UNHEX(CONCAT(SHA2(seq + {table} * 1e7, 512), SHA2(-seq - {table} * 1e7, 512), \
             SHA2(RAND(), 512), SHA2(RAND(), 512))) AS a FROM seq_1_to_120000"
        );
        primary.execute(&["USE bench", &text, &random]).await?;
        primary
            .execute(&[&format!(
                "ANALYZE TABLE bench.text_{table}, bench.random_{table}"
            )])
            .await?;
        let bytes: u64 = primary.value(size).await?;
        if bytes >= mib << 20 {
            return Ok(());
        }
    }
    Ok(())
}

/// The three, and what each of them needs.
struct Contenders {
    recipient: String,
    key: PathBuf,
    work: PathBuf,
    seawall: Times,
    tar: Times,
    restic: Times,
    logical_bytes: u64,
    agent_peak_kib: (u64, u64),
}

impl Contenders {
    fn prepare(cluster: &Cluster, recipient: String, key: PathBuf) -> Result<Self> {
        let work = cluster.scratch.path().join("others");
        std::fs::create_dir(&work)?;
        std::fs::write(work.join("password"), "a password\n")?;
        Ok(Self {
            recipient,
            key,
            work,
            seawall: Times::default(),
            tar: Times::default(),
            restic: Times::default(),
            logical_bytes: 0,
            agent_peak_kib: (0, 0),
        })
    }

    async fn round(&mut self, cluster: &mut Cluster, round: usize) -> Result<()> {
        let newcomer = format!("zone1-{}", 200 + round);
        self.seawall_backup(cluster).await?;
        // The others get the very files that have just been restored.
        let data = self.seawall_restore(cluster, &newcomer).await?;
        self.tar_round(&data)?;
        self.restic_round(&data, round)?;
        std::fs::remove_dir_all(&data)?;
        Ok(())
    }

    /// The copy step alone, which is what the others are compared with.
    async fn seawall_backup(&mut self, cluster: &mut Cluster) -> Result<()> {
        let operation = cluster.start_backup(REPLICA).await?;
        let operation = cluster
            .wait_success(&operation.id, PATIENCE_WITH_DATA)
            .await?;
        self.seawall.backup.push(seconds_of(&operation, "copy")?);
        let listed = cluster.backups(SHARD, false).await?;
        let backup = listed.iter().find(|backup| backup.name == operation.backup);
        let backup = backup.context("the backup is not listed")?;
        ensure!(backup.encrypted, "the backup is not encrypted");
        self.logical_bytes = backup.logical_bytes;
        self.seawall.stored_bytes = backup.stored_bytes;
        let peak = cluster.tablet_mut(REPLICA)?.process()?.peak_memory_kib()?;
        self.agent_peak_kib.0 = self.agent_peak_kib.0.max(peak);
        Ok(())
    }

    /// The fetch step of a tablet with an empty data directory: what was restored, with no
    /// server on it any more.
    async fn seawall_restore(&mut self, cluster: &mut Cluster, alias: &str) -> Result<PathBuf> {
        let plan = TabletPlan::new(alias)
            .restored()
            .set("repository.recipients", list([self.recipient.as_str()]))
            .set("repository.identity_file", self.key.display().to_string())
            .set("restore_concurrency", 4);
        cluster.start_tablet(&plan)?;
        let restore = self.wait_restore(cluster, alias).await?;
        self.seawall.restore.push(seconds_of(&restore, "fetch")?);
        let tablet = cluster.tablet_mut(alias)?;
        let peak = tablet.process()?.peak_memory_kib()?;
        self.agent_peak_kib.1 = self.agent_peak_kib.1.max(peak);
        tablet.terminate()?;
        tablet.server.kill().await?;
        Ok(tablet.server.data_dir())
    }

    async fn wait_restore(&self, cluster: &Cluster, alias: &str) -> Result<v1::Operation> {
        let id = seawall_tests::harness::wait::wait_for("the restore begins", PATIENCE, || async {
            let request = v1::ListOperationsRequest { all: true };
            let listed = cluster
                .operations()
                .await?
                .list(request)
                .await?
                .into_inner();
            Ok(listed.operations.into_iter().find(|operation| {
                matches!(
                    operation.spec.as_ref().and_then(|spec| spec.spec.as_ref()),
                    Some(v1::operation_spec::Spec::Restore(spec)) if spec.alias == alias
                )
            }))
        })
        .await?
        .id;
        cluster.wait_success(&id, PATIENCE_WITH_DATA).await
    }

    fn tar_round(&mut self, data: &Path) -> Result<()> {
        let archive = self.work.join("archive.tar.zst.age");
        let target = self.work.join("untarred");
        let backup = format!(
            "set -eo pipefail; tar -C '{data}' -cf - . | zstd -q -1 -T2 | age -r {recipient} > '{archive}'; sync '{archive}'",
            data = data.display(),
            recipient = self.recipient,
            archive = archive.display()
        );
        self.tar.backup.push(shell(&backup)?);
        self.tar.stored_bytes = std::fs::metadata(&archive)?.len();
        std::fs::create_dir(&target)?;
        let restore = format!(
            "set -eo pipefail; age -d -i '{key}' '{archive}' | zstd -q -d | tar -C '{target}' -xf -; sync -f '{target}'",
            key = self.key.display(),
            archive = archive.display(),
            target = target.display()
        );
        self.tar.restore.push(shell(&restore)?);
        std::fs::remove_dir_all(&target)?;
        std::fs::remove_file(&archive)?;
        Ok(())
    }

    fn restic_round(&mut self, data: &Path, round: usize) -> Result<()> {
        let repository = self.work.join(format!("restic-{round}"));
        let target = self.work.join("restic-target");
        let restic = format!(
            "restic --quiet --no-cache --repo '{}' --password-file '{}'",
            repository.display(),
            self.work.join("password").display()
        );
        shell(&format!("{restic} init"))?;
        let backup = format!(
            "set -e; {restic} backup '{}'; sync -f '{}'",
            data.display(),
            repository.display()
        );
        self.restic.backup.push(shell(&backup)?);
        self.restic.stored_bytes = bytes_below(&repository)?;
        let restore = format!(
            "set -e; {restic} restore latest --target '{0}'; sync -f '{0}'",
            target.display()
        );
        self.restic.restore.push(shell(&restore)?);
        std::fs::remove_dir_all(&target)?;
        std::fs::remove_dir_all(&repository)?;
        Ok(())
    }

    fn print(&self, cluster: &mut Cluster) -> Result<()> {
        let mib = self.logical_bytes as f64 / f64::from(1 << 20);
        println!("\n{}", versions()?);
        println!(
            "data: {mib:.0} MiB of files; medians of {} rounds; MB/s of the files' bytes\n",
            self.seawall.backup.len()
        );
        println!("| | backup MB/s | restore MB/s | stored MiB | backup ÷ tar | restore ÷ tar |");
        println!("|---|---|---|---|---|---|");
        let rate = |times: &[f64]| self.logical_bytes as f64 / 1e6 / median(times);
        for (name, times) in [
            ("seawall, encrypted, concurrency 4", &self.seawall),
            ("tar, zstd -1 -T2, age", &self.tar),
            ("restic", &self.restic),
        ] {
            let (backup, restore) = (rate(&times.backup), rate(&times.restore));
            println!(
                "| {name} | {backup:.0} | {restore:.0} | {:.0} | {:.2} | {:.2} |",
                times.stored_bytes as f64 / f64::from(1 << 20),
                backup / rate(&self.tar.backup),
                restore / rate(&self.tar.restore),
            );
        }
        let (backup, restore) = (self.agent_peak_kib.0 >> 10, self.agent_peak_kib.1 >> 10);
        println!(
            "\nagent's peak memory: {backup} MiB backing up, {restore} MiB restoring (at most {MEMORY_MIB_MAX} MiB expected)"
        );
        let member = cluster.coordinators[0].process()?.peak_memory_kib()? >> 10;
        println!("coordinator's peak memory: {member} MiB");
        Ok(())
    }
}

fn seconds_of(operation: &v1::Operation, step: &str) -> Result<f64> {
    let step = operation
        .steps
        .iter()
        .rfind(|candidate| candidate.name == step && candidate.error.is_empty())
        .with_context(|| format!("the operation has no step {step}"))?;
    Ok((step.ended_unix_ms - step.started_unix_ms) as f64 / 1e3)
}

/// Runs a script; how long it took, in seconds.
fn shell(script: &str) -> Result<f64> {
    let began = Instant::now();
    let status = Command::new("bash").arg("-c").arg(script).status()?;
    if !status.success() {
        bail!("failed with {status}: {script}");
    }
    Ok(began.elapsed().as_secs_f64())
}

fn bytes_below(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() {
            bytes_below(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(bytes)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn versions() -> Result<String> {
    let mut lines = Vec::new();
    for (program, argument) in [
        ("mariadbd", "--version"),
        ("tar", "--version"),
        ("zstd", "--version"),
        ("age", "--version"),
        ("restic", "version"),
    ] {
        let output = Command::new(system_program(program)?)
            .arg(argument)
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let first = text.lines().next().unwrap_or_default().trim().to_owned();
        lines.push(if first.contains(program) {
            first
        } else {
            format!("{program} {first}")
        });
    }
    Ok(lines.join("; "))
}
