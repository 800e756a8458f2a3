//! A directory of its own for each test, and the end of every process that came from it.
//!
//! Database servers outlive their agents by design, so a test cannot rely on its children: it
//! ends whatever process has the directory's path in its command line, by process id. That
//! happens when the scratch is dropped, also on a panic; and what a killed test run left behind is
//! ended by the next one, which finds the directory's owner gone.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::binary::target_directory;

/// Marks a directory whose processes are meant to go on; holds where its sockets are.
const LEFT_RUNNING: &str = "left-running";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A directory under `target/tmp`. Removed when the test says that it is done, kept otherwise.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// Short, since the path of a socket may have no more than 107 bytes.
    sockets: tempfile::TempDir,
    keep: bool,
    _owner: Flock<File>,
}

impl Scratch {
    /// `name` says whose it is, to whoever finds it.
    pub fn create(name: &str) -> Result<Self> {
        let parent = target_directory()?.join("tmp");
        std::fs::create_dir_all(&parent)
            .with_context(|| format!("cannot create {}", parent.display()))?;
        end_orphans(&parent);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::at(&parent.join(format!("{name}-{}-{number}", std::process::id())))
    }

    /// At a place of the caller's choice, which must not be there yet.
    pub fn at(path: &Path) -> Result<Self> {
        std::fs::create_dir(path).with_context(|| format!("cannot create {}", path.display()))?;
        let file = File::create(path.join("owner.lock"))?;
        let owner = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| errno)
            .context("a directory just made is locked by another process")?;
        let sockets = tempfile::Builder::new().prefix("sw-").tempdir()?;
        Ok(Self {
            path: path.to_owned(),
            sockets,
            keep: true,
            _owner: owner,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn socket(&self, name: &str) -> PathBuf {
        self.sockets.path().join(format!("{name}.sock"))
    }

    /// Nothing of interest is left in it.
    pub fn discard(&mut self) {
        self.keep = false;
    }

    /// Leaves the directory and every process in it as they are, for a person to look at.
    pub fn leave_everything(self) -> Result<()> {
        let sockets = self.sockets.path().display().to_string();
        std::fs::write(self.path.join(LEFT_RUNNING), sockets)?;
        let mut this = std::mem::ManuallyDrop::new(self);
        this.sockets.disable_cleanup(true);
        Ok(())
    }
}

/// Ends and removes what [`Scratch::leave_everything`] left.
pub fn end_left_running(directory: &Path) -> Result<()> {
    end_processes(directory, Signal::SIGTERM, Duration::from_secs(20));
    if let Ok(sockets) = std::fs::read_to_string(directory.join(LEFT_RUNNING)) {
        // The servers have removed their sockets; what somebody else put there stays.
        let _ = std::fs::remove_dir(sockets);
    }
    std::fs::remove_dir_all(directory)
        .with_context(|| format!("cannot remove {}", directory.display()))
}

impl Drop for Scratch {
    fn drop(&mut self) {
        end_processes(&self.path, Signal::SIGKILL, Duration::from_secs(10));
        if self.keep || std::thread::panicking() {
            print_log_tails(&self.path);
        } else if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Processes with `directory` in their command line, but not this one.
pub fn processes_in(directory: &Path) -> Vec<Pid> {
    let needle = format!("{}/", directory.display());
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|&pid| pid != std::process::id())
        .filter(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&needle))
        })
        .filter_map(|pid| Some(Pid::from_raw(pid.try_into().ok()?)))
        .collect()
}

/// Sends `signal` to every process of `directory` and waits until none is left; after `limit`
/// they are killed.
pub fn end_processes(directory: &Path, signal: Signal, limit: Duration) {
    let began = Instant::now();
    let mut signal = signal;
    let mut told: Vec<Pid> = Vec::new();
    loop {
        let alive = processes_in(directory);
        if alive.is_empty() {
            return;
        }
        if began.elapsed() > limit && signal != Signal::SIGKILL {
            signal = Signal::SIGKILL;
            told.clear();
        }
        if began.elapsed() > limit * 2 {
            eprintln!("processes of {} do not end: {alive:?}", directory.display());
            return;
        }
        for pid in alive {
            if !told.contains(&pid) {
                // It may be gone by now: nothing to do about that.
                let _ = kill(pid, signal);
                let _ = kill(pid, Signal::SIGCONT);
                told.push(pid);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ends the processes of directories whose owner is gone without having said so.
fn end_orphans(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for directory in entries.flatten().map(|entry| entry.path()) {
        if directory.join(LEFT_RUNNING).exists() {
            continue;
        }
        let Ok(file) = File::open(directory.join("owner.lock")) else {
            continue;
        };
        if Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok() {
            end_processes(&directory, Signal::SIGKILL, Duration::from_secs(10));
        }
    }
}

/// What the programs last said, for whoever has nothing but the test's output.
fn print_log_tails(directory: &Path) {
    const LINES: usize = 40;
    let mut out = std::io::stderr().lock();
    let _ = writeln!(out, "kept for a look: {}", directory.display());
    let mut logs = Vec::new();
    collect_logs(directory, &mut logs);
    logs.sort();
    for log in logs {
        let Ok(bytes) = std::fs::read(&log) else {
            continue;
        };
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LINES);
        let _ = writeln!(out, "--- {} (last lines)", log.display());
        for line in &lines[from..] {
            let _ = writeln!(out, "{line}");
        }
    }
}

/// Logs lie at most one directory down; data directories have none of ours.
pub fn collect_logs(directory: &Path, into: &mut Vec<PathBuf>) {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    for path in entries(directory).map(|entry| entry.path()) {
        if path.is_dir() {
            into.extend(entries(&path).map(|e| e.path()).filter(|p| is_log(p)));
        } else if is_log(&path) {
            into.push(path);
        }
    }
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::process::CommandExt as _, process::Command};

    #[test]
    fn a_scratch_ends_every_process_that_came_from_it() {
        let mut scratch = Scratch::create("ends").unwrap();
        let path = scratch.path().to_owned();
        // One that would outlive this process, with the directory in its command line.
        let mut child = Command::new("sleep")
            .arg0(format!("{}/sleeper", path.display()))
            .arg("600")
            .spawn()
            .unwrap();
        let has_come = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            processes_in(&path).len() == 1
        });
        assert!(has_come, "the process is not seen");
        // Nobody else waits for it here, as init would.
        let waiting = std::thread::spawn(move || child.wait());
        scratch.discard();
        drop(scratch);
        assert!(!waiting.join().unwrap().unwrap().success());
        assert!(!path.exists());
    }
}
