//! Who somebody is by a certificate: a role and a name, which stand in it as the URI
//! `seawall:ROLE/NAME` among the subject's alternative names.

use std::{fmt, str::FromStr};

use crate::error::{Error, Result};

/// How a URI that names a role begins.
pub const URI_SCHEME: &str = "seawall:";
const NAME_MAX: usize = 128;

/// What somebody may do. Which calls a role may make stands in [`crate::access`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Member of the group: speaks for whoever called it.
    Coordinator,
    /// Speaks for its own tablet, whose alias is its name.
    Agent,
    Operator,
    /// Reads, and takes timestamps.
    Viewer,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Coordinator, Role::Agent, Role::Operator, Role::Viewer];

    pub fn name(self) -> &'static str {
        match self {
            Role::Coordinator => "coordinator",
            Role::Agent => "agent",
            Role::Operator => "operator",
            Role::Viewer => "viewer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| {
                Error::invalid(format!("{text:?} is no role"))
                    .hint("Roles are coordinator, agent, operator and viewer.")
            })
    }
}

/// `operator/alice`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub role: Role,
    name: String,
}

impl Identity {
    pub fn new(role: Role, name: &str) -> Result<Self> {
        let is_good = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
        if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(is_good) {
            return Err(Error::invalid(format!("{name:?} cannot be a name"))
                .hint("A name is made of letters, digits and ._-@, at most 128 of them."));
        }
        Ok(Self {
            role,
            name: name.to_owned(),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// As it stands in a certificate.
    pub fn uri(&self) -> String {
        format!("{URI_SCHEME}{self}")
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.role, self.name)
    }
}

impl FromStr for Identity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (role, name) = text.split_once('/').ok_or_else(|| {
            Error::invalid(format!("{text:?} names no role")).hint("It is written ROLE/NAME.")
        })?;
        Self::new(role.parse()?, name)
    }
}
