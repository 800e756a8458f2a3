//! The replicated state: what the group has agreed on.
//!
//! [`State::apply`] is a pure function of the state and a command: no clock, no randomness, no
//! I/O; time enters as a value in the command. Each part has a module with its own commands,
//! invariants and tests.

use seawall_common::Error;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Chosen at random by the first leader, once.
    pub group_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Names the group; nothing when it has a name.
    NameGroup { group_id: String },
}

/// What a command came to: the part's own answer, or a refusal that changed nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Response {
    Done,
    Refused(Refusal),
}

/// An [`Error`] as it stands in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    pub kind: String,
    pub message: String,
    pub hint: Option<String>,
}

impl State {
    pub fn apply(&mut self, command: &Command) -> Response {
        match command {
            Command::NameGroup { group_id } => {
                self.group_id.get_or_insert_with(|| group_id.clone());
                Response::Done
            }
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
