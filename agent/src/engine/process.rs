//! Starting a database server so that it outlives the agent, and knowing it again afterwards.
//!
//! A started server leads its own session, reads nothing, writes to a log file of its own, and is
//! reaped while the agent lives. Which process it is stands in a record beside that log, with its
//! start time, so that a number that was given to another process later is never taken for it.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use seawall_common::{Error, Result, repository::PASSPHRASE_VARIABLE};
use serde::{Deserialize, Serialize};
use tokio::{process::Command, sync::watch};

use super::output::read_bounded;

/// Beyond this the log of earlier starts is put aside; one such piece is kept.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// How much of the end of a log is read to find its last line.
const LOG_TAIL_BYTES: u64 = 8 << 10;
/// How much of it is kept to find out why a server ended.
const SAID_BYTES_MAX: u64 = 128 << 10;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// How often a wait looks again.
pub(super) const POLL: Duration = Duration::from_millis(50);
/// What a helper program may print that we keep.
const OUTPUT_CHARS_MAX: usize = 400;

/// A process, told apart from a later one with the same number by when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessId {
    pub pid: i32,
    started: u64,
}

impl ProcessId {
    /// The process that has this number now; none when it has ended, reaped or not.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold anything: fields count from the last one.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace();
        let state = fields.next()?;
        let threads: u64 = fields.nth(16)?.parse().ok()?;
        let started = fields.nth(1)?.parse().ok()?;
        // The first thread may have ended before the others, which still have its files open.
        let ended = state == "X" || (state == "Z" && threads <= 1);
        (!ended).then_some(Self { pid, started })
    }

    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Tells this process from every other that there ever was on this machine.
    pub fn incarnation(self) -> Result<String> {
        let boot =
            fs::read_to_string(BOOT_ID).map_err(|e| Error::io("read", BOOT_ID.as_ref(), &e))?;
        Ok(format!("{}:{}:{}", boot.trim(), self.pid, self.started))
    }

    /// Asks the process to end; nothing when it has.
    pub fn terminate(self) -> Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), Signal::SIGTERM) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(e) => Err(Error::refused(format!(
                "cannot end process {}: {e}",
                self.pid
            ))),
        }
    }
}

/// Where started servers leave their log and their record.
#[derive(Clone, Debug)]
pub(super) struct Launcher {
    log: PathBuf,
    record: PathBuf,
}

/// A server that this process has started.
pub(super) struct Launched {
    ended: watch::Receiver<Option<ExitStatus>>,
    log: PathBuf,
    log_start: u64,
}

impl Launcher {
    pub fn new(state_dir: &Path) -> Self {
        Self {
            log: state_dir.join("database.log"),
            record: state_dir.join("database.pid"),
        }
    }

    /// Starts `program` detached. It is running, not yet serving, when this returns.
    pub fn launch(&self, program: &Path, arguments: &[String]) -> Result<Launched> {
        self.launch_with(program, arguments, &[])
    }

    /// With more in its environment.
    pub fn launch_with(
        &self,
        program: &Path,
        arguments: &[String],
        environment: &[(String, String)],
    ) -> Result<Launched> {
        let (log, log_start) = self.open_log()?;
        let stderr = log
            .try_clone()
            .map_err(|e| Error::io("open", &self.log, &e))?;
        let mut command = std::process::Command::new(program);
        command
            .args(arguments)
            .envs(environment.iter().cloned())
            .env_remove(PASSPHRASE_VARIABLE)
            .stdin(Stdio::null())
            .stdout(Stdio::from(log))
            .stderr(Stdio::from(stderr));
        // SAFETY: setsid is on the list of what may be called between fork and exec, and the closure
        // allocates nothing and takes no lock.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into));
        }
        let mut child = Command::from(command).spawn().map_err(|e| {
            Error::invalid(format!("cannot start {}: {e}", program.display()))
                .hint("Mend engine.start_command.")
        })?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(process) = pid.and_then(ProcessId::of) {
            self.write_record(process)?;
        }
        let (sender, ended) = watch::channel(None);
        tokio::spawn(async move {
            // Reaps it. When the agent ends first, nothing happens to the server.
            if let Ok(status) = child.wait().await {
                sender.send_replace(Some(status));
            }
        });
        Ok(Launched {
            ended,
            log: self.log.clone(),
            log_start,
        })
    }

    /// The server started last by this agent or by one before it, while it lives.
    pub fn process(&self) -> Option<ProcessId> {
        let text = fs::read(&self.record).ok()?;
        let process: ProcessId = serde_json::from_slice(&text).ok()?;
        process.is_alive().then_some(process)
    }

    fn write_record(&self, process: ProcessId) -> Result<()> {
        let text = serde_json::to_vec(&process)
            .map_err(|e| Error::internal(format!("cannot write a process record: {e}")))?;
        fs::write(&self.record, text).map_err(|e| Error::io("write", &self.record, &e))
    }

    fn open_log(&self) -> Result<(File, u64)> {
        let length = fs::metadata(&self.log).map_or(0, |data| data.len());
        if length > LOG_BYTES_MAX {
            let old = self.log.with_extension("log.1");
            fs::rename(&self.log, &old).map_err(|e| Error::io("rename", &self.log, &e))?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(|e| Error::io("open", &self.log, &e))?;
        let start = file.metadata().map_or(0, |data| data.len());
        Ok((file, start))
    }
}

impl Launched {
    /// How it ended, once it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        *self.ended.borrow()
    }

    /// What it last said about itself, preferring a line that calls itself an error.
    pub fn last_line(&self) -> Option<String> {
        last_line(&self.log, self.log_start)
    }

    /// The end of what it said, from its start on.
    pub fn said(&self) -> String {
        tail(&self.log, self.log_start, SAID_BYTES_MAX).unwrap_or_default()
    }

    pub fn log(&self) -> &Path {
        &self.log
    }
}

/// What a log says last, after byte `start`.
pub(super) fn last_line(log: &Path, start: u64) -> Option<String> {
    last_said(&tail(log, start, LOG_TAIL_BYTES)?)
}

/// The last bytes of a log, but none before byte `start`.
fn tail(log: &Path, start: u64, bytes_max: u64) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    let from = start.max(length.saturating_sub(bytes_max));
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Runs a program to its end and answers what it wrote to its standard output. One that fails, or
/// takes longer than `limit`, is an error with the last thing that it said; it is killed then.
pub(super) async fn run(program: &Path, arguments: &[String], limit: Duration) -> Result<String> {
    run_with(program, arguments, &[], limit).await
}

/// With more in its environment.
pub(super) async fn run_with(
    program: &Path,
    arguments: &[String],
    environment: &[(String, String)],
    limit: Duration,
) -> Result<String> {
    let name = program.display();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(environment.iter().cloned())
        .env_remove(PASSPHRASE_VARIABLE)
        .stdin(Stdio::null());
    let (status, output, errors) = tokio::time::timeout(limit, run_to_end(command))
        .await
        .map_err(|_| Error::timeout(format!("{name} did not end within {limit:?}")))?
        .map_err(|e| Error::invalid(format!("cannot run {name}: {e}")))?;
    if status.success() {
        return Ok(output);
    }
    let said = [&errors, &output]
        .into_iter()
        .find_map(|text| last_said(text));
    Err(Error::refused(format!(
        "{name} failed ({status}){}",
        said.map(|line| format!(": {line}")).unwrap_or_default()
    )))
}

/// How it ended, and what of its standard output and of its errors is kept.
async fn run_to_end(mut command: Command) -> std::io::Result<(ExitStatus, String, String)> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let missing = || std::io::Error::other("it has no output");
    let output = child.stdout.take().ok_or_else(missing)?;
    let errors = child.stderr.take().ok_or_else(missing)?;
    tokio::try_join!(child.wait(), read_bounded(output), read_bounded(errors))
}

/// The last line, but servers end with a bare "Aborting" after the line that tells why: one that is
/// marked as an error and says more goes before it.
fn last_said(text: &str) -> Option<String> {
    let lines = || text.lines().rev().map(str::trim).filter(|l| !l.is_empty());
    lines()
        .find(|line| line.contains("ERROR") && !line.ends_with("Aborting"))
        .or_else(|| lines().next())
        .map(|line| line.chars().take(OUTPUT_CHARS_MAX).collect())
}

/// Looks every [`POLL`] until `done` says so; false when `limit` is over first.
pub(super) async fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    loop {
        if done() {
            return true;
        }
        if begin.elapsed() >= limit {
            return false;
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_tells_why_goes_before_the_last_one() {
        let log = "[Note] starting\n[ERROR] cannot open ./ibdata1\n[ERROR] Aborting\n\n";
        assert_eq!(last_said(log).unwrap(), "[ERROR] cannot open ./ibdata1");
        assert_eq!(last_said("one\ntwo\n").unwrap(), "two");
        assert_eq!(last_said(" \n"), None);
    }

    #[tokio::test]
    async fn of_a_program_that_prints_without_end_a_bounded_part_is_kept() {
        let script = "yes row is not what it should be | head -c 20000000; echo ERROR: table t; \
                      yes next | head -c 20000000 >&2; echo 3 tables are damaged >&2; exit 3";
        let shell = |script: String| async move {
            let arguments = ["-c".to_owned(), script];
            run(Path::new("/bin/sh"), &arguments, Duration::from_secs(60)).await
        };
        let error = shell(script.to_owned()).await.unwrap_err().to_string();
        assert!(error.contains("3 tables are damaged"), "{error}");
        let good = script.replace("exit 3", "exit 0");
        let output = shell(good).await.unwrap();
        assert!(output.len() < 2 << 20, "{} bytes are kept", output.len());
        assert!(output.ends_with("ERROR: table t\n"));
    }

    #[tokio::test]
    async fn an_ended_process_is_not_taken_for_alive_and_its_number_not_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let launcher = Launcher::new(directory.path());
        let sleep = Path::new("/bin/sleep");
        let launched = launcher.launch(sleep, &["600".to_owned()]).unwrap();
        let process = launcher.process().unwrap();
        assert!(process.is_alive());
        let later = ProcessId {
            started: process.started + 1,
            ..process
        };
        assert!(!later.is_alive());
        process.terminate().unwrap();
        assert!(wait_until(Duration::from_secs(10), || launched.ended().is_some()).await);
        assert!(!process.is_alive());
        assert_eq!(launcher.process(), None);
        process.terminate().unwrap();
    }
}
