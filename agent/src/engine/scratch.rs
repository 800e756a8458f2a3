//! A server that is started on a restored backup apart from the tablet's own, looked at, and
//! thrown away.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use seawall_common::{Error, Result};

use super::process::{POLL, ProcessId};

/// What is wrong is named up to here.
pub const PROBLEMS_MAX: usize = 20;
/// Stands in the environment of everything that is started for a restore test: so that whatever an
/// agent leaves behind when it is killed is found again, and nothing else is.
pub(super) const MARK: &str = "SEAWALL_SCRATCH";
const KILL_LIMIT: Duration = Duration::from_secs(30);

/// Where a backup has been restored aside.
#[derive(Clone, Debug)]
pub struct ScratchGround {
    /// Removed as a whole afterwards: room for a socket, logs, temporary files.
    pub directory: PathBuf,
    /// As the backup names them, each with where it was restored.
    pub roots: Vec<(String, PathBuf)>,
    /// What the engine had noted when the backup was taken.
    pub details: Vec<(String, String)>,
}

impl ScratchGround {
    pub fn root(&self, name: &str) -> Result<&Path> {
        self.roots
            .iter()
            .find(|(root, _)| root == name)
            .map(|(_, path)| path.as_path())
            .ok_or_else(|| Error::refused(format!("the backup has no root {name}")))
    }

    pub fn detail(&self, name: &str) -> Option<&str> {
        let mut details = self.details.iter();
        let found = details.find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What the engine's own check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// One line of what was looked at.
    pub summary: String,
    /// At most [`PROBLEMS_MAX`].
    pub problems: Vec<String>,
    pub problems_total: u64,
}

impl Checked {
    pub fn problem(&mut self, what: String) {
        self.problems_total += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(what);
        }
    }
}

/// Told what is being looked at.
pub type Say<'a> = &'a (dyn Fn(String) + Send + Sync);

#[async_trait]
pub trait ScratchServer: Send + Sync {
    /// The engine's own check of everything, and a comparison with what was noted at the backup.
    /// What is found stands in `checked` at once: it counts also when the rest cannot be looked at.
    async fn check(&self, checked: &mut Checked, say: Say<'_>) -> Result<()>;

    /// Ends it; by force when it does not end by itself.
    async fn stop(&self) -> Result<()>;
}

/// Kills whatever was started for a restore test in `directory`, by this agent or an earlier one,
/// and waits until it is gone.
pub async fn end_all_in(directory: &Path) -> Result<()> {
    let mark = format!("{MARK}={}", directory.display());
    let begin = Instant::now();
    loop {
        let mark = mark.clone();
        // Many processes are many files to read.
        let killed = tokio::task::spawn_blocking(move || kill_marked(&mark)).await;
        let killed = killed
            .map_err(|e| Error::internal(format!("the thread that ends processes died: {e}")))?;
        if killed == 0 {
            return Ok(());
        }
        if begin.elapsed() >= KILL_LIMIT {
            return Err(Error::timeout(format!(
                "processes of the restore test in {} do not end",
                directory.display()
            )));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// How many there were.
fn kill_marked(mark: &str) -> usize {
    let left = marked(mark);
    for process in &left {
        // One that has just ended is no trouble.
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
    }
    left.len()
}

fn marked(mark: &str) -> Vec<ProcessId> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers
        .filter(|pid: &i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == mark.as_bytes())
        })
        .filter_map(ProcessId::of)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_was_started_for_a_restore_test_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let start = |mark: Option<&Path>| {
            let mut command = std::process::Command::new("sleep");
            command.arg("600").current_dir(directory.path());
            if let Some(mark) = mark {
                command.env(MARK, mark);
            }
            command.spawn().unwrap()
        };
        let mut ours = start(Some(directory.path()));
        let mut others = [start(None), start(Some(Path::new("/elsewhere")))];
        // Reaped as soon as it ends: one that was never reaped would look alive.
        let reaper = std::thread::spawn(move || ours.wait().unwrap());
        end_all_in(directory.path()).await.unwrap();
        assert!(!reaper.join().unwrap().success());
        for other in &mut others {
            assert!(other.try_wait().unwrap().is_none(), "it was killed as well");
            other.kill().unwrap();
            other.wait().unwrap();
        }
    }
}
