//! What a check of a history comes to.

use std::fmt;

/// Why a history is not known to be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// An invariant is broken.
    Violated(String),
    /// The check gave up: this is no pass.
    NotChecked(String),
}

pub type Verdict = Result<(), Doubt>;

impl Doubt {
    pub fn violated(what: impl Into<String>) -> Self {
        Self::Violated(what.into())
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violated(what) => write!(f, "VIOLATION: {what}"),
            Self::NotChecked(what) => write!(f, "NOT CHECKED: {what}"),
        }
    }
}

impl std::error::Error for Doubt {}

/// One verdict of many: a violation says more than that something was not checked.
pub fn all(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
    let mut doubts: Vec<Doubt> = verdicts.into_iter().filter_map(Result::err).collect();
    doubts.sort_by_key(|doubt| matches!(doubt, Doubt::NotChecked(_)));
    doubts.into_iter().next().map_or(Ok(()), Err)
}
