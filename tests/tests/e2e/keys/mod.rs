//! An encrypted cluster: identities and passphrases, recipients that come and go, pinned writers.

mod passphrases;
mod recipients;
mod writers;

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use seawall_tests::harness::{
    Cluster, TabletPlan,
    binary::binary,
    config::list,
    ctl::{Output, run_command},
};

/// Somebody's key pair, the private half in a file.
struct Identity {
    recipient: String,
    file: String,
}

impl Identity {
    async fn new(cluster: &Cluster, name: &str) -> Result<Self> {
        let file = cluster.scratch.path().join(name).display().to_string();
        let generate = ["GenerateIdentity", "--output-file", &file];
        let made = cluster.ctl(&generate).await?;
        Ok(Self {
            recipient: made.done()?.trim().to_owned(),
            file,
        })
    }

    fn flags(&self) -> [&str; 2] {
        ["--repository-identity-file", &self.file]
    }
}

/// A tablet that encrypts for this recipient, and has no identity.
fn encrypting(alias: &str, recipient: &str) -> TabletPlan {
    TabletPlan::new(alias).set("repository.recipients", list([recipient]))
}

/// A primary and a replica that write and cannot read, with a table of some rows.
async fn start_encrypted_shard(cluster: &mut Cluster, recipient: &str) -> Result<()> {
    let plans = ["zone1-101", "zone1-102"].map(|alias| encrypting(alias, recipient));
    cluster.start_shard(&plans).await?;
    write_first(cluster).await
}

/// A table, and a row in it.
async fn write_first(cluster: &Cluster) -> Result<()> {
    let primary = &cluster.tablet("zone1-101")?.server;
    primary
        .execute(&[
            "CREATE DATABASE commerce",
            "CREATE TABLE commerce.t (id INT PRIMARY KEY AUTO_INCREMENT, word TEXT)",
        ])
        .await?;
    write(cluster, "first").await
}

/// A row, on both.
async fn write(cluster: &Cluster, word: &str) -> Result<()> {
    let statement = format!("INSERT INTO commerce.t (word) VALUES ('{word}')");
    let primary = &cluster.tablet("zone1-101")?.server;
    primary.execute(&[&statement]).await?;
    cluster.wait_caught_up("zone1-102", "zone1-101").await
}

/// `seawallctl` on the repository of the cluster, with no coordinator named.
async fn on_repository(cluster: &Cluster, args: &[&str], secret: Option<&str>) -> Result<Output> {
    let mut command = Command::new(binary("seawallctl")?);
    command
        .args(args)
        .args(["--repository", &cluster.repository.url()])
        .env_remove("SEAWALL_PASSPHRASE");
    if let Some(secret) = secret {
        command.env("SEAWALL_PASSPHRASE", secret);
    }
    run_command(command, Duration::from_secs(120)).await
}

/// Restores the newest backup, or a named one, from the repository alone into `target`.
async fn restore(
    cluster: &Cluster,
    backup: Option<&str>,
    flags: &[&str],
    secret: Option<&str>,
) -> Result<Output> {
    let target = target(cluster);
    let target = target.to_str().context("a path that is no text")?;
    let mut args = vec!["repository", "restore", "commerce/0"];
    args.extend(backup);
    args.extend(["--target", target]);
    args.extend(flags);
    on_repository(cluster, &args, secret).await
}

fn target(cluster: &Cluster) -> PathBuf {
    cluster.scratch.path().join("target")
}

/// What a restore has put there; then it is taken away, for the next one.
fn take_restored(cluster: &Cluster) -> Result<usize> {
    let target = target(cluster);
    let table = target.join("data/commerce/t.ibd");
    let bytes = std::fs::read(&table).with_context(|| format!("no {}", table.display()))?;
    std::fs::remove_dir_all(&target)?;
    Ok(bytes.len())
}

/// The target of a restore that failed: nothing, not even a directory that is half written.
fn check_nothing_restored(cluster: &Cluster) -> Result<()> {
    let left: Vec<String> = std::fs::read_dir(cluster.scratch.path())?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|name| name.starts_with("target"))
        .collect();
    anyhow::ensure!(left.is_empty(), "a refused restore left {left:?}");
    Ok(())
}

/// Every object of the repository with its bytes.
fn objects(cluster: &Cluster) -> Result<BTreeMap<String, Vec<u8>>> {
    let root = cluster.repository.path();
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let key = path.strip_prefix(root)?.display().to_string();
                found.insert(key, std::fs::read(&path)?);
            }
        }
    }
    Ok(found)
}

fn flip_a_byte(path: &Path) -> Result<()> {
    let mut bytes = std::fs::read(path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    Ok(std::fs::write(path, bytes)?)
}

/// Runs a line of shell on a terminal of its own and types each answer once its question stands
/// there: all that the terminal showed, with the exit status of the line.
async fn on_terminal(line: &str, answers: &[(&str, &str)]) -> Result<String> {
    let line = format!("{line}; echo \"status: $?\"");
    let answers: Vec<(String, String)> = answers
        .iter()
        .map(|(question, answer)| ((*question).to_owned(), format!("{answer}\n")))
        .collect();
    tokio::task::spawn_blocking(move || type_answers(&line, answers)).await?
}

fn type_answers(line: &str, answers: Vec<(String, String)>) -> Result<String> {
    let mut script = Command::new("timeout")
        .args(["60", "script", "-qec", line, "/dev/null"])
        .env_remove("SEAWALL_PASSPHRASE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run script")?;
    let mut keyboard = script.stdin.take().context("no keyboard")?;
    let mut screen = script.stdout.take().context("no screen")?;
    let mut answers = answers.into_iter().peekable();
    let mut seen = Vec::new();
    let mut byte = [0];
    while screen.read(&mut byte)? == 1 {
        seen.push(byte[0]);
        let asked = |(question, _): &(String, String)| seen.ends_with(question.as_bytes());
        if let Some((_, answer)) = answers.next_if(asked) {
            keyboard.write_all(answer.as_bytes())?;
        }
    }
    script.wait()?;
    Ok(String::from_utf8_lossy(&seen).into_owned())
}
