//! A keyspace or a shard, as a command names it: `commerce`, `commerce/0`.

use std::{fmt, str::FromStr};

use seawall_common::{
    Error,
    ids::{ShardId, check_keyspace, check_schedule},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Keyspace(String),
    Shard(ShardId),
}

impl Scope {
    pub fn keyspace(&self) -> &str {
        match self {
            Scope::Keyspace(keyspace) => keyspace,
            Scope::Shard(shard) => shard.keyspace(),
        }
    }

    /// Empty for a whole keyspace.
    pub fn shard(&self) -> &str {
        match self {
            Scope::Keyspace(_) => "",
            Scope::Shard(shard) => shard.shard(),
        }
    }
}

impl FromStr for Scope {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.contains('/') {
            return text.parse().map(Scope::Shard);
        }
        check_keyspace(text)?;
        Ok(Scope::Keyspace(text.to_owned()))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Keyspace(keyspace) => f.write_str(keyspace),
            Scope::Shard(shard) => shard.fmt(f),
        }
    }
}

/// A keyspace that stands alone.
pub fn keyspace(text: &str) -> Result<String, Error> {
    check_keyspace(text)?;
    Ok(text.to_owned())
}

/// The name of a schedule.
pub fn schedule(text: &str) -> Result<String, Error> {
    check_schedule(text)?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_a_keyspace_or_a_shard_and_nothing_else() {
        let scope: Scope = "commerce".parse().unwrap();
        assert_eq!((scope.keyspace(), scope.shard()), ("commerce", ""));
        let scope: Scope = "commerce/-80".parse().unwrap();
        assert_eq!((scope.keyspace(), scope.shard()), ("commerce", "-80"));
        for bad in ["", "..", "../0", "a/..", "a/b/c", "a b"] {
            assert!(bad.parse::<Scope>().is_err(), "{bad:?} was taken");
        }
    }
}
