//! The one error type that crosses a boundary between parts of Seawall.
//!
//! Its kind says what the caller must do, its message what failed with which name and number, its
//! hint what a person can do about it. Here, and only here, it becomes a gRPC status and is made
//! from one again.

use std::fmt;

use tonic::{Code, Status, metadata::MetadataValue};

/// What the caller must do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Try again, perhaps elsewhere: a network, a leader or a store was not there.
    Unavailable,
    /// A newer term, attempt, token or epoch has been seen: stop.
    Fenced,
    /// The request makes no sense: mend it.
    Invalid,
    /// The named thing does not exist.
    NotFound,
    /// The name is taken by something else.
    Conflict,
    /// Understood, but the present state forbids it.
    Refused,
    /// Whoever calls has not the role that it takes.
    Denied,
    /// What was read is not what was written.
    Corrupt,
    /// It did not happen within its time.
    Timeout,
    /// Somebody called it off.
    Cancelled,
    /// A disk, a quota or a bound is full.
    Exhausted,
    /// A defect, or an environment that broke its promises.
    Internal,
}

impl ErrorKind {
    pub const ALL: [ErrorKind; 12] = [
        ErrorKind::Unavailable,
        ErrorKind::Fenced,
        ErrorKind::Invalid,
        ErrorKind::NotFound,
        ErrorKind::Conflict,
        ErrorKind::Refused,
        ErrorKind::Denied,
        ErrorKind::Corrupt,
        ErrorKind::Timeout,
        ErrorKind::Cancelled,
        ErrorKind::Exhausted,
        ErrorKind::Internal,
    ];

    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::Fenced => "fenced",
            ErrorKind::Invalid => "invalid",
            ErrorKind::NotFound => "not found",
            ErrorKind::Conflict => "conflict",
            ErrorKind::Refused => "refused",
            ErrorKind::Denied => "denied",
            ErrorKind::Corrupt => "corrupt",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Cancelled => "cancelled",
            ErrorKind::Exhausted => "exhausted",
            ErrorKind::Internal => "internal",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    fn code(self) -> Code {
        match self {
            ErrorKind::Unavailable => Code::Unavailable,
            ErrorKind::Fenced => Code::Aborted,
            ErrorKind::Invalid => Code::InvalidArgument,
            ErrorKind::NotFound => Code::NotFound,
            ErrorKind::Conflict => Code::AlreadyExists,
            ErrorKind::Refused => Code::FailedPrecondition,
            ErrorKind::Denied => Code::PermissionDenied,
            ErrorKind::Corrupt => Code::DataLoss,
            ErrorKind::Timeout => Code::DeadlineExceeded,
            ErrorKind::Cancelled => Code::Cancelled,
            ErrorKind::Exhausted => Code::ResourceExhausted,
            ErrorKind::Internal => Code::Internal,
        }
    }

    fn from_code(code: Code) -> Self {
        Self::ALL
            .into_iter()
            .find(|kind| kind.code() == code)
            .unwrap_or(ErrorKind::Internal)
    }
}

/// An error with its kind, its message and, where there is one, its hint.
///
/// Messages are lower case without a full stop; hints are sentences of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! constructors {
    ($($name:ident => $kind:ident),* $(,)?) => {
        $(pub fn $name(message: impl Into<String>) -> Self {
            Self::new(ErrorKind::$kind, message)
        })*
    };
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
        }
    }

    constructors! {
        unavailable => Unavailable,
        fenced => Fenced,
        invalid => Invalid,
        not_found => NotFound,
        conflict => Conflict,
        refused => Refused,
        denied => Denied,
        corrupt => Corrupt,
        timeout => Timeout,
        cancelled => Cancelled,
        exhausted => Exhausted,
        internal => Internal,
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error for a caller that must do something else about it.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Says what was being done when this error came up: "what: message".
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether the same call may succeed later without anybody mending anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Timeout)
    }

    /// An I/O error on `path`, with the kind that its cause deserves.
    pub fn io(what: impl fmt::Display, path: &std::path::Path, error: &std::io::Error) -> Self {
        let message = format!("cannot {what} {}: {error}", path.display());
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::not_found(message),
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                Self::refused(message).hint(format!(
                    "Check the owner and the permissions of {}.",
                    path.display()
                ))
            }
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::exhausted(message)
            }
            _ => Self::internal(message),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, ". {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// What the client itself says when a call has taken too long: with a code of its own, "cancelled".
const CLIENT_TIMEOUT: &str = "Timeout expired";
const HINT_KEY: &str = "seawall-hint-bin";

/// Bytes of a message, and of a hint, in an answer. What quotes a request can be as long as that,
/// and the answer's headers would be more than a client takes.
const STATUS_TEXT_MAX: usize = 2048;

/// A text of which only so much is told.
pub fn shortened(mut text: String) -> String {
    if text.len() > STATUS_TEXT_MAX {
        text.truncate(text.floor_char_boundary(STATUS_TEXT_MAX));
        text.push_str(" [...]");
    }
    text
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        let mut status = Status::new(error.kind.code(), shortened(error.message));
        if let Some(hint) = error.hint.map(shortened) {
            status
                .metadata_mut()
                .insert_bin(HINT_KEY, MetadataValue::from_bytes(hint.as_bytes()));
        }
        status
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Error {
        let hint = status
            .metadata()
            .get_bin(HINT_KEY)
            .and_then(|value| value.to_bytes().ok())
            .and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
        let kind = match std::error::Error::source(&status) {
            // Not an answer: the connection broke, whatever code the client made of that.
            Some(_) => ErrorKind::Unavailable,
            None if status.message() == CLIENT_TIMEOUT => ErrorKind::Timeout,
            None => ErrorKind::from_code(status.code()),
        };
        Error {
            kind,
            message: status.message().to_owned(),
            hint,
        }
    }
}

impl From<tonic::transport::Error> for Error {
    fn from(error: tonic::transport::Error) -> Error {
        Error::unavailable(chain(&error))
    }
}

/// An error's message followed by those of its causes.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The same text without line breaks or other control characters: answers come from elsewhere, and
/// must neither break the promise of one line nor paint the operator's terminal.
pub fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_control())
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_broke_off_may_be_tried_again() {
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let error = Error::from(Status::from_error(Box::new(broken)));
        assert!(error.is_retryable(), "{error:?}");
        let error = Error::from(Status::cancelled(CLIENT_TIMEOUT));
        assert!(error.is_retryable(), "{error:?}");
        let cancelled = Error::from(Status::cancelled("the operation was cancelled"));
        assert_eq!(cancelled.kind(), ErrorKind::Cancelled);
    }

    #[test]
    fn an_answer_cannot_paint_the_terminal() {
        assert_eq!(one_line("a\x1b[31mb\r\n\tc"), "a [31mb c");
    }

    #[test]
    fn every_kind_survives_the_way_through_a_status() {
        for kind in ErrorKind::ALL {
            let error = Error::new(kind, "no such tablet zone1-101").hint("Run ListTablets.");
            assert_eq!(Error::from(Status::from(error.clone())), error);
            assert_eq!(ErrorKind::from_name(kind.name()), Some(kind));
        }
    }

    #[test]
    fn a_message_that_quotes_a_megabyte_is_answered_short() {
        let long = "ä".repeat(1_000_000);
        let status = Status::from(Error::invalid(format!("malformed: {long}")).hint(long));
        assert!(status.message().len() < 3000);
        assert!(status.message().starts_with("malformed: ää"));
        assert!(Error::from(status).hint_text().unwrap().len() < 3000);
    }

    #[test]
    fn a_hint_is_a_sentence_of_its_own() {
        let error = Error::refused("zone1-101 is the primary").hint("Use --allow-primary.");
        assert_eq!(
            error.to_string(),
            "zone1-101 is the primary. Use --allow-primary."
        );
    }
}
