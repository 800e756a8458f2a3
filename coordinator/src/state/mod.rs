//! The replicated state: what the group has agreed on.
//!
//! [`State::apply`] is a pure function of the state and a command: no clock, no randomness, no
//! I/O; time enters as a value in the command. A refused command has changed nothing. Each part has
//! a module with its own commands, invariants and tests.

use seawall_common::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

pub mod admission;
pub mod catalogue;
pub mod closing;
pub mod collection;
pub mod epochs;
pub mod locks;
pub mod members;
pub mod operations;
pub mod references;
pub mod restored;
pub mod retention;
pub mod schedules;
pub mod timestamps;
pub mod topology;
pub mod untold;
pub mod verification;

#[cfg(test)]
mod properties;
#[cfg(test)]
pub mod testing;

use catalogue::Entry;
use locks::{BrokenHold, Hold};
use operations::Operation;
use topology::Tablet;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Chosen at random by the first leader, once.
    pub group_id: Option<String>,
    /// The repository that the first leader had: the group's from then on.
    pub repository_id: Option<String>,
    pub topology: topology::Topology,
    pub locks: locks::Locks,
    pub operations: operations::Operations,
    pub catalogue: catalogue::Catalogue,
    pub timestamps: timestamps::Timestamps,
    #[serde(default)]
    pub retention: retention::Retention,
    #[serde(default)]
    pub schedules: schedules::Schedules,
    #[serde(default)]
    pub members: members::Members,
    /// The newest of the group's backups.
    #[serde(default)]
    pub group_backup: Option<GroupBackup>,
}

/// A backup of the group's own state, in the repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupBackup {
    pub name: String,
    pub taken_unix_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Names the group; nothing when it has a name.
    NameGroup {
        group_id: String,
        repository_id: String,
    },
    Topology(topology::Command),
    Locks(locks::Command),
    Operations(operations::Command),
    Catalogue(catalogue::Command),
    Verification(verification::Command),
    Timestamps(timestamps::Command),
    Retention(retention::Command),
    Schedules(schedules::Command),
    /// The group's backup was taken.
    GroupBackedUp(GroupBackup),
}

/// What a command came to: the part's own answer, or a refusal that changed nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Response {
    Done,
    Refused(Refusal),
    Tablet(Box<Tablet>),
    Hold(Box<Hold>),
    Broken(Vec<BrokenHold>),
    Operation(Box<Operation>),
    Backup(Box<Entry>),
    TimestampsGranted(timestamps::Granted),
    TimestampBound { bound: u64 },
}

/// An [`Error`] as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub kind: String,
    pub message: String,
    pub hint: Option<String>,
}

impl State {
    /// As snapshots and backups of the group hold it.
    pub fn encoded(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self)
            .map_err(|e| Error::internal(format!("cannot write the state: {e}")))
    }

    pub fn apply(&mut self, command: &Command) -> Response {
        let answer = match command {
            Command::NameGroup {
                group_id,
                repository_id,
            } => {
                if self.group_id.is_none() {
                    self.group_id = Some(group_id.clone());
                    self.repository_id = Some(repository_id.clone());
                }
                Ok(Response::Done)
            }
            Command::Timestamps(command) => self.timestamps.apply(command),
            Command::Topology(command) => topology::apply(self, command),
            Command::Locks(command) => self.locks.apply(command),
            Command::Operations(command) => operations::apply(self, command),
            Command::Catalogue(command) => catalogue::apply(self, command),
            Command::Verification(command) => verification::apply(self, command),
            Command::Retention(command) => {
                if let retention::Command::Resume { now_unix_ms } = command {
                    self.schedules.clock_is_right(*now_unix_ms);
                }
                self.retention.apply(command)
            }
            Command::Schedules(command) => schedules::apply(self, command),
            Command::GroupBackedUp(backup) => {
                let known = self.group_backup.as_ref();
                if known.is_none_or(|known| known.taken_unix_ms < backup.taken_unix_ms) {
                    self.group_backup = Some(backup.clone());
                }
                Ok(Response::Done)
            }
        };
        answer.unwrap_or_else(|error| Response::Refused(error.into()))
    }
}

impl Response {
    /// Turns a refusal back into the error that it was.
    pub fn into_result(self) -> Result<Response> {
        match self {
            Response::Refused(refusal) => Err(refusal.into()),
            other => Ok(other),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self {
            kind: error.kind().name().to_owned(),
            message: error.message().to_owned(),
            hint: error.hint_text().map(str::to_owned),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let kind = ErrorKind::from_name(&refusal.kind).unwrap_or(ErrorKind::Internal);
        let error = Error::new(kind, refusal.message);
        match refusal.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}
