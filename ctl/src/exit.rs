//! How a command ends: 0 done; 1 refused or failed; 2 wrong usage, found before any network;
//! 3 no coordinator answered in time. Whatever is not 0 comes with exactly one line that says what,
//! why and what to do.

use std::{fmt, process::ExitCode};

use seawall_common::{Error, error::one_line};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Failed = 1,
    Usage = 2,
    NoCoordinator = 3,
}

/// Why a command did not do what it was asked.
#[derive(Clone, Debug)]
pub struct Failure {
    pub exit: Exit,
    pub error: Error,
    /// An earlier try of the same call got no answer, so it may have been carried out.
    pub tried_before: bool,
}

pub type Outcome<T = ()> = Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::failed(error)
    }
}

impl Failure {
    fn new(exit: Exit, error: Error) -> Self {
        Self {
            exit,
            error,
            tried_before: false,
        }
    }

    pub fn failed(error: Error) -> Self {
        Self::new(Exit::Failed, error)
    }

    pub fn usage(error: Error) -> Self {
        Self::new(Exit::Usage, error)
    }

    pub fn no_coordinator(error: Error) -> Self {
        Self::new(Exit::NoCoordinator, error)
    }

    /// Names the command and what it was about: "Backup zone1-101".
    #[must_use]
    pub fn of(mut self, what: impl fmt::Display) -> Self {
        self.error = self.error.context(what);
        self
    }

    pub fn exit(&self) -> ExitCode {
        eprintln!("{}", self.line());
        ExitCode::from(self.exit as u8)
    }

    pub fn line(&self) -> String {
        format!("seawallctl: {}", one_line(&self.error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_that_says_what_why_and_what_to_do() {
        let error = Error::refused("zone1-101 is the\nprimary").hint("Use --allow-primary.");
        let failure = Failure::failed(error).of("Backup zone1-101");
        assert_eq!(
            failure.line(),
            "seawallctl: Backup zone1-101: zone1-101 is the primary. Use --allow-primary."
        );
        assert_eq!(failure.exit as u8, 1);
    }
}
