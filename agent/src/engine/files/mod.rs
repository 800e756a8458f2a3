//! Anything that is a directory, a command that starts it and a way to stop it.
//!
//! It has no history and does not replicate: its position is empty, and every position covers it.
//! Nothing keeps a program that we know nothing about from being started during a copy, so the guard
//! can only notice: by the program's own answer, and by the directory's change times.

mod scratch;
#[cfg(test)]
mod tests;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use seawall_common::{Error, ErrorKind, Result, position::Position};
use tokio::sync::Mutex;

use super::{
    Checksums, CopyRoot, CopySet, DataState, Engine, EngineSettings, Flags, Health, Replication,
    ScratchGround, ScratchServer, Source, StoppedGuard,
    process::{self, Launched, Launcher, POLL, wait_until},
    settings::{check_command, required},
};

const KIND: &str = "files";
/// For the question whether it runs.
const ASK_LIMIT: Duration = Duration::from_secs(30);
/// A program without `running_command` counts as started once it has lived this long.
const SETTLE: Duration = Duration::from_millis(500);

pub struct Files {
    data_dir: PathBuf,
    start: (PathBuf, Vec<String>),
    stop: Option<(PathBuf, Vec<String>)>,
    probe: Probe,
    start_timeout: Duration,
    stop_timeout: Duration,
    check: Option<(PathBuf, Vec<String>)>,
    turn: Mutex<()>,
}

/// How it is found out whether the program runs.
#[derive(Clone)]
struct Probe {
    launcher: Launcher,
    command: Option<(PathBuf, Vec<String>)>,
}

impl Probe {
    /// Whether it does what it is there for.
    async fn is_up(&self) -> Result<bool> {
        let Some((program, arguments)) = &self.command else {
            return Ok(self.launcher.process().is_some());
        };
        match process::run(program, arguments, ASK_LIMIT).await {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::Refused => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Whether it is there at all: on its way up or down too.
    async fn is_running(&self) -> Result<bool> {
        Ok(self.launcher.process().is_some() || self.is_up().await?)
    }
}

impl Files {
    pub fn open(settings: &EngineSettings, state_dir: &Path) -> Result<Self> {
        let data_dir = required(settings.data_dir.as_deref(), "engine.data_dir", KIND)?;
        let command = |words: &[String], key| -> Result<(PathBuf, Vec<String>)> {
            let program = check_command(words, key)?;
            Ok((program, words[1..].to_vec()))
        };
        let optional =
            |words: &[String], key| (!words.is_empty()).then(|| command(words, key)).transpose();
        Ok(Self {
            data_dir: data_dir.to_owned(),
            start: command(&settings.start_command, "engine.start_command")?,
            stop: optional(&settings.stop_command, "engine.stop_command")?,
            probe: Probe {
                launcher: Launcher::new(state_dir),
                command: optional(&settings.running_command, "engine.running_command")?,
            },
            start_timeout: settings.start_timeout,
            stop_timeout: settings.stop_timeout,
            check: optional(&settings.check_command, "engine.check_command")?,
            turn: Mutex::new(()),
        })
    }

    async fn await_start(&self, launched: Option<&Launched>) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < self.start_timeout {
            if let Some((launched, status)) = launched.and_then(|l| Some((l, l.ended()?)))
                && (self.probe.command.is_none() || !status.success())
            {
                let line = launched.last_line();
                return Err(Error::refused(format!(
                    "the program ended at once ({status}){}",
                    line.map(|line| format!(": {line}")).unwrap_or_default()
                ))
                .hint("Look at engine.start_command."));
            }
            if launched.is_none() && !self.probe.is_running().await? {
                return Err(Error::unavailable(
                    "the program that was found running has ended",
                ));
            }
            let settled = self.probe.command.is_some() || begin.elapsed() >= SETTLE;
            if settled && self.probe.is_up().await? {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        Err(Error::timeout(format!(
            "the program does not run within {:?}",
            self.start_timeout
        )))
    }

    fn no_replication() -> Error {
        Error::refused("the engine files does not replicate")
    }
}

#[async_trait]
impl Engine for Files {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn replicates(&self) -> bool {
        false
    }

    fn address(&self) -> Option<Source> {
        None
    }

    async fn roots(&self) -> Result<Vec<(String, PathBuf)>> {
        Ok(vec![("data".to_owned(), self.data_dir.clone())])
    }

    async fn program_version(&self) -> Result<String> {
        Ok(String::new())
    }

    async fn data_state(&self) -> Result<DataState> {
        match fs::read_dir(&self.data_dir) {
            Ok(mut entries) => Ok(match entries.next() {
                None => DataState::Empty,
                Some(_) => DataState::UserData,
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(DataState::Empty),
            Err(e) => Err(Error::io("read", &self.data_dir, &e)),
        }
    }

    async fn initialize(&self) -> Result<()> {
        fs::create_dir_all(&self.data_dir).map_err(|e| Error::io("make", &self.data_dir, &e))
    }

    async fn is_running(&self) -> Result<bool> {
        self.probe.is_running().await
    }

    async fn incarnation(&self) -> Result<Option<String>> {
        let process = self.probe.launcher.process();
        process.map(process::ProcessId::incarnation).transpose()
    }

    async fn start(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        if self.probe.is_up().await? {
            return Ok(());
        }
        // One that was started before and is still on its way is only waited for.
        let launched = match self.probe.launcher.process() {
            Some(_) => None,
            None => {
                let (program, arguments) = &self.start;
                Some(self.probe.launcher.launch(program, arguments)?)
            }
        };
        self.await_start(launched.as_ref()).await
    }

    async fn stop(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        if !self.probe.is_running().await? {
            return Ok(());
        }
        let process = self.probe.launcher.process();
        match (&self.stop, process) {
            (Some((program, arguments)), _) => {
                process::run(program, arguments, self.stop_timeout).await?;
            }
            (None, Some(process)) => process.terminate()?,
            (None, None) => {
                return Err(Error::refused(
                    "the program was not started by this agent and there is no engine.stop_command",
                ));
            }
        }
        let ended = wait_until(self.stop_timeout, || {
            self.probe.launcher.process().is_none()
        })
        .await;
        if ended && !self.probe.is_running().await? {
            return Ok(());
        }
        Err(Error::timeout(format!(
            "the program did not end within {:?}",
            self.stop_timeout
        )))
    }

    async fn guard_stopped(&self) -> Result<Box<dyn StoppedGuard>> {
        let guard = Guard {
            probe: self.probe.clone(),
            data_dir: self.data_dir.clone(),
            changed: changed(&self.data_dir)?,
        };
        guard.check().await?;
        Ok(Box::new(guard))
    }

    async fn health(&self) -> Result<Health> {
        if !self.probe.is_running().await? {
            return Err(Error::unavailable("the program does not run"));
        }
        Ok(Health {
            version: String::new(),
            server_id: 0,
            read_only: false,
            position: Position::default(),
            replication: Replication::default(),
            log_kept: None,
        })
    }

    async fn flags(&self) -> Result<Flags> {
        Ok(Flags::default())
    }

    async fn restore_flags(&self, _flags: &Flags) -> Result<()> {
        Ok(())
    }

    async fn position(&self) -> Result<Position> {
        Ok(Position::default())
    }

    async fn stop_replication(&self) -> Result<()> {
        Ok(())
    }

    async fn replicate_from(&self, _source: &Source, _run: bool) -> Result<()> {
        Err(Self::no_replication())
    }

    async fn open_for_writes(&self) -> Result<()> {
        Ok(())
    }

    async fn close_for_writes(&self) -> Result<Position> {
        Ok(Position::default())
    }

    async fn ensure_replication_user(&self) -> Result<()> {
        Ok(())
    }

    async fn position_of(&self, _source: &Source) -> Result<Position> {
        Err(Self::no_replication())
    }

    async fn wait_for(&self, goal: &Position, _limit: Duration) -> Result<bool> {
        Ok(goal.is_empty())
    }

    async fn copy_set(&self) -> Result<CopySet> {
        Ok(CopySet {
            roots: vec![CopyRoot {
                name: "data".to_owned(),
                path: self.data_dir.clone(),
                exclude: Vec::new(),
            }],
            details: Vec::new(),
        })
    }

    async fn adopt(&self, _position: &Position) -> Result<()> {
        Ok(())
    }

    async fn checksums(&self) -> Result<Checksums> {
        Ok(Checksums::default())
    }

    fn can_start_scratch(&self) -> bool {
        true
    }

    async fn start_scratch(&self, ground: &ScratchGround) -> Result<Box<dyn ScratchServer>> {
        Ok(Box::new(scratch::FilesScratch {
            ground: ground.clone(),
            command: self.check.clone(),
        }))
    }
}

struct Guard {
    probe: Probe,
    data_dir: PathBuf,
    changed: i128,
}

/// When an entry of the directory was last made or removed.
fn changed(data_dir: &Path) -> Result<i128> {
    let data = fs::metadata(data_dir).map_err(|e| Error::io("read", data_dir, &e))?;
    Ok(i128::from(data.mtime()) * 1_000_000_000 + i128::from(data.mtime_nsec()))
}

#[async_trait]
impl StoppedGuard for Guard {
    async fn check(&self) -> Result<()> {
        if self.probe.is_running().await? {
            return Err(Error::refused(
                "the program runs while it was to stand still",
            ));
        }
        if changed(&self.data_dir)? != self.changed {
            return Err(Error::corrupt(format!(
                "{} changed while the program was to stand still",
                self.data_dir.display()
            )));
        }
        Ok(())
    }
}
