//! `seawallctl`, run as a person would run it.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::binary::binary;

/// What one run of a program came to.
#[derive(Clone, Debug)]
pub struct Output {
    pub command: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// It went well: what it printed.
    pub fn done(self) -> Result<String> {
        ensure!(self.code == 0, "{self}");
        Ok(self.stdout)
    }

    /// It ended with `code` and one line, which says each of `words`: the line. What took longer than
    /// two seconds has said so in lines before it.
    pub fn refused(self, code: i32, words: &[&str]) -> Result<String> {
        ensure!(self.code == code, "expected exit code {code}: {self}");
        let told = self.stderr.lines().filter(|line| !line.trim().is_empty());
        let all: Vec<&str> = told.collect();
        let is_error = |line: &str| line.starts_with("seawallctl: ");
        let lines = match all.iter().position(|line| is_error(line)) {
            Some(first) => &all[first..],
            None => &all[..],
        };
        ensure!(lines.len() == 1, "expected one line of error: {self}");
        for word in words {
            ensure!(lines[0].contains(word), "expected {word:?} in it: {self}");
        }
        Ok(lines[0].to_owned())
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "`{}` ended with {}\nstdout: {}\nstderr: {}",
            self.command, self.code, self.stdout, self.stderr
        )
    }
}

/// Runs `seawallctl` against these coordinators.
pub async fn run(coordinators: &[String], args: &[&str]) -> Result<Output> {
    run_as(coordinators, &[], args).await
}

/// The same as somebody with certificates: `environment` says which.
pub async fn run_as(
    coordinators: &[String],
    environment: &[(String, String)],
    args: &[&str],
) -> Result<Output> {
    let command = command(coordinators, environment, args)?;
    run_command(command, Duration::from_secs(180)).await
}

fn command(
    coordinators: &[String],
    environment: &[(String, String)],
    args: &[&str],
) -> Result<Command> {
    let mut command = Command::new(binary("seawallctl")?);
    command.args(args);
    command.env("SEAWALL_COORDINATOR", coordinators.join(","));
    command.envs(environment.iter().cloned());
    Ok(command)
}

/// A `seawallctl` that runs beside the test; what it prints goes to `log`.
pub fn start(
    coordinators: &[String],
    environment: &[(String, String)],
    args: &[&str],
    log: &Path,
) -> Result<super::process::Process> {
    let mut command = command(coordinators, environment, args)?;
    super::process::Process::start("seawallctl", &mut command, log)
}

/// Runs any program to its end, at most for `limit`.
pub async fn run_command(command: Command, limit: Duration) -> Result<Output> {
    let shown = format!("{command:?}");
    let mut command = tokio::process::Command::from(command);
    command
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(limit, command.output())
        .await
        .with_context(|| format!("still running after {limit:?}: {shown}"))?
        .with_context(|| format!("cannot run {shown}"))?;
    Ok(Output {
        command: shown,
        // No code: killed by a signal, which no test expects.
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
