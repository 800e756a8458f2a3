//! Identities that a passphrase locks: where it comes from, and what is said when it is wrong.

use std::{os::unix::fs::PermissionsExt as _, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use seawall_tests::harness::{
    Cluster, ClusterPlan, TabletPlan, binary::binary, ctl::run_command, tablet::Tablet,
};

use super::{
    Identity, check_nothing_restored, encrypting, flip_a_byte, on_repository, on_terminal, restore,
    start_encrypted_shard, take_restored,
};

const PASSPHRASE: &str = "six random words are better";
const OPS: [&str; 2] = ["--repository-identity", "ops"];

/// An identity "ops" that lies in the repository: its recipient.
async fn put_ops(cluster: &Cluster) -> Result<String> {
    let generate = ["GenerateIdentity", "--name", "ops"];
    let made = on_repository(cluster, &generate, Some(PASSPHRASE)).await?;
    let recipient = made.done()?.trim().to_owned();
    let taken = on_repository(cluster, &generate, Some(PASSPHRASE)).await?;
    taken.refused(1, &["\"ops\" exists already"])?;
    Ok(recipient)
}

/// Its passphrase in a file.
fn passphrase_file(cluster: &Cluster) -> Result<String> {
    let file = cluster.scratch.path().join("passphrase");
    std::fs::write(&file, format!("{PASSPHRASE}\n"))?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
    Ok(file.display().to_string())
}

/// A restore of the newest backup, for a shell.
fn restore_line(cluster: &Cluster, flags: &str) -> Result<String> {
    Ok(format!(
        "{} repository restore commerce/0 --target {} --repository {} {flags}",
        binary("seawallctl")?.display(),
        super::target(cluster).display(),
        cluster.repository.url()
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_in_the_repository_opens_with_a_passphrase_from_anywhere() -> Result<()> {
    let mut cluster = ClusterPlan::new("passphrase").start().await?;
    let recipient = put_ops(&cluster).await?;
    start_encrypted_shard(&mut cluster, &recipient).await?;
    cluster.back_up("zone1-102").await?;

    restore(&cluster, None, &OPS, Some(PASSPHRASE))
        .await?
        .done()?;
    take_restored(&cluster)?;
    let file = passphrase_file(&cluster)?;
    let by_file = [OPS[0], OPS[1], "--repository-passphrase-file", &file];
    restore(&cluster, None, &by_file, None).await?.done()?;
    take_restored(&cluster)?;
    let line = restore_line(&cluster, "--repository-identity ops")?;
    let mut by_descriptor = Command::new("bash");
    by_descriptor.env_remove("SEAWALL_PASSPHRASE");
    by_descriptor.args([
        "-c",
        &format!("{line} --repository-passphrase-fd 3 3< <(cat {file})"),
    ]);
    run_command(by_descriptor, Duration::from_secs(60))
        .await?
        .done()?;
    take_restored(&cluster)?;
    let asked = [("Passphrase of identity \"ops\": ", PASSPHRASE)];
    let seen = on_terminal(&line, &asked).await?;
    ensure!(seen.contains("status: 0"), "{seen}");
    ensure!(
        !seen.contains(PASSPHRASE),
        "it shows what was typed: {seen}"
    );
    take_restored(&cluster)?;

    // An agent has it from a file, its environment or a descriptor, and restores by itself.
    let reader = |alias: &str| {
        let plan = encrypting(alias, &recipient).restored();
        plan.set("repository.identity", "ops")
    };
    cluster.start_tablet(&reader("zone1-103").set("repository.passphrase_file", file.as_str()))?;
    let mut by_environment: TabletPlan = reader("zone1-104");
    let variable = ("SEAWALL_PASSPHRASE".to_owned(), PASSPHRASE.to_owned());
    by_environment.environment.push(variable);
    cluster.start_tablet(&by_environment)?;
    let mut by_descriptor = reader("zone1-105").set("repository.passphrase_fd", 7);
    by_descriptor.descriptor = Some((7, file.clone().into()));
    cluster.start_tablet(&by_descriptor)?;
    let restored = ["zone1-103", "zone1-104", "zone1-105"];
    for alias in restored {
        cluster.wait_serving(alias).await?;
        cluster.wait_caught_up(alias, "zone1-101").await?;
        check_not_inherited(cluster.tablet(alias)?, Path::new(&file))?;
    }
    let all = [&["zone1-101"], restored.as_slice()].concat();
    cluster.check_equal(&all).await?;
    cluster.finish().await
}

/// The database server, which outlives its agent, has the passphrase neither in its environment nor
/// open.
fn check_not_inherited(tablet: &Tablet, passphrase_file: &Path) -> Result<()> {
    let record = std::fs::read_to_string(tablet.state_dir().join("database.pid"))?;
    let record: serde_json::Value = serde_json::from_str(&record)?;
    let process = Path::new("/proc").join(record["pid"].to_string());
    let environment = std::fs::read(process.join("environ"))?;
    let environment = String::from_utf8_lossy(&environment);
    ensure!(!environment.is_empty() && !environment.contains(PASSPHRASE));
    let file = passphrase_file.canonicalize()?;
    let mut open = 0;
    for entry in std::fs::read_dir(process.join("fd"))? {
        // Files come and go.
        let Ok(target) = std::fs::read_link(entry?.path()) else {
            continue;
        };
        ensure!(target != file, "{} has the passphrase open", tablet.alias);
        open += 1;
    }
    ensure!(open > 3, "only {open} files are seen open");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_passphrase_wrong_identity_and_damage_are_told_apart() -> Result<()> {
    let mut cluster = ClusterPlan::new("told-apart").start().await?;
    let recipient = put_ops(&cluster).await?;
    start_encrypted_shard(&mut cluster, &recipient).await?;
    let name = cluster.back_up("zone1-102").await?;
    let stranger = Identity::new(&cluster, "stranger").await?;

    let wrong = restore(&cluster, None, &OPS, Some("a wrong one")).await?;
    wrong.refused(2, &["the passphrase does not open identity \"ops\""])?;
    let nobody = ["--repository-identity", "nobody"];
    let unknown = restore(&cluster, None, &nobody, Some(PASSPHRASE)).await?;
    unknown.refused(2, &["no identity \"nobody\""])?;
    let other = restore(&cluster, None, &stranger.flags(), None).await?;
    other.refused(1, &["does not open backup", &name])?;
    // With no terminal, whoever runs this test.
    let mut alone = Command::new("setsid");
    alone.args([
        "--wait",
        "bash",
        "-c",
        &restore_line(&cluster, &OPS.join(" "))?,
    ]);
    alone.env_remove("SEAWALL_PASSPHRASE");
    let missing = run_command(alone, Duration::from_secs(60)).await?;
    missing.refused(
        2,
        &[
            "passphrase of identity \"ops\"",
            "--repository-passphrase-file",
        ],
    )?;

    let damaged = async |path: &std::path::Path, object: &str| {
        let whole = std::fs::read(path)?;
        flip_a_byte(path)?;
        let failed = restore(&cluster, None, &OPS, Some(PASSPHRASE)).await?;
        let line = failed.refused(1, &[object])?;
        ensure!(!line.contains("passphrase does not open"), "{line}");
        anyhow::Ok(std::fs::write(path, whole)?)
    };
    let root = cluster.repository.path();
    damaged(&root.join("identities/ops.age"), "identities/ops.age").await?;
    let keys = root
        .join("keyspaces/commerce/0/packs")
        .join(&name)
        .join("keys");
    let key = std::fs::read_dir(keys)?.next().context("no key file")??;
    let file = key.file_name();
    damaged(&key.path(), file.to_str().context("no text")?).await?;
    let manifest = cluster
        .repository
        .backup("commerce/0", &name)
        .join("manifest");
    damaged(&manifest, &name).await?;
    check_nothing_restored(&cluster)?;
    restore(&cluster, None, &OPS, Some(PASSPHRASE))
        .await?
        .done()?;
    take_restored(&cluster)?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_passphrase_is_asked_for_twice_and_locks_the_file() -> Result<()> {
    let mut cluster = ClusterPlan::new("asked-twice").start().await?;
    let file = cluster.scratch.path().join("locked");
    let line = format!(
        "{} GenerateIdentity --passphrase --output-file {}",
        binary("seawallctl")?.display(),
        file.display()
    );
    let twice = |again| {
        [
            ("New passphrase: ", PASSPHRASE),
            ("The same again: ", again),
        ]
    };
    let slip = on_terminal(&line, &twice("six random words are bettre")).await?;
    ensure!(
        slip.contains("differ") && slip.contains("status: 1"),
        "{slip}"
    );
    ensure!(!file.exists(), "a slip of the finger was taken");
    let made = on_terminal(&line, &twice(PASSPHRASE)).await?;
    ensure!(
        made.contains("status: 0") && !made.contains(PASSPHRASE),
        "{made}"
    );
    let recipient = made
        .split_whitespace()
        .find(|word| word.starts_with("age1"));
    let recipient = recipient.with_context(|| format!("no recipient in {made}"))?;
    ensure!(std::fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600);
    let locked = std::fs::read_to_string(&file)?;
    ensure!(!locked.contains("AGE-SECRET-KEY"), "it is not locked");

    start_encrypted_shard(&mut cluster, recipient).await?;
    cluster.back_up("zone1-102").await?;
    let path = file.to_str().context("no text")?;
    let line = restore_line(&cluster, &format!("--repository-identity-file {path}"))?;
    let question = format!("Passphrase of identity file {path}: ");
    let seen = on_terminal(&line, &[(&question, PASSPHRASE)]).await?;
    ensure!(seen.contains("status: 0"), "{seen}");
    take_restored(&cluster)?;
    let flags = ["--repository-identity-file", path];
    let wrong = restore(&cluster, None, &flags, Some("a wrong one")).await?;
    wrong.refused(2, &["the passphrase does not open identity file"])?;
    cluster.finish().await
}
