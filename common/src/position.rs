//! How far a database's history has got.
//!
//! MariaDB: the last GTID of each replication domain, `domain-server-sequence`, joined by commas.
//! Engines without a history (plain files) have the empty position, which every position covers.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A MariaDB global transaction id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gtid {
    pub domain: u32,
    pub server_id: u32,
    pub sequence: u64,
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server_id, self.sequence)
    }
}

impl FromStr for Gtid {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let malformed = || Error::invalid(format!("malformed GTID {text:?}"));
        let mut parts = text.split('-');
        let (Some(domain), Some(server_id), Some(sequence), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed());
        };
        Ok(Self {
            domain: domain.parse().map_err(|_| malformed())?,
            server_id: server_id.parse().map_err(|_| malformed())?,
            sequence: sequence.parse().map_err(|_| malformed())?,
        })
    }
}

/// The last GTID of each domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Position(BTreeMap<u32, (u32, u64)>);

impl Position {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn gtids(&self) -> impl Iterator<Item = Gtid> + '_ {
        self.0.iter().map(|(&domain, &(server_id, sequence))| Gtid {
            domain,
            server_id,
            sequence,
        })
    }

    /// Whether every domain of `other` is here with at least its sequence. Only sound for two
    /// positions on one line of epochs: the same sequence under another server id may be another
    /// history.
    pub fn covers(&self, other: &Position) -> bool {
        other.0.iter().all(|(domain, (_, sequence))| {
            self.0.get(domain).is_some_and(|(_, ours)| ours >= sequence)
        })
    }

    /// A number that grows along one line of epochs: to order backups of one shard.
    pub fn order_key(&self) -> u128 {
        self.0
            .values()
            .map(|(_, sequence)| u128::from(*sequence))
            .sum()
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, gtid) in self.gtids().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            gtid.fmt(f)?;
        }
        Ok(())
    }
}

impl FromStr for Position {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let mut domains = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let gtid: Gtid = part.parse()?;
            if domains
                .insert(gtid.domain, (gtid.server_id, gtid.sequence))
                .is_some()
            {
                return Err(Error::invalid(format!(
                    "malformed position {text:?}: domain {} stands in it twice",
                    gtid.domain
                )));
            }
        }
        Ok(Self(domains))
    }
}

impl TryFrom<String> for Position {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Position> for String {
    fn from(position: Position) -> String {
        position.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(text: &str) -> Position {
        text.parse().unwrap()
    }

    #[test]
    fn a_position_covers_what_it_has_passed() {
        assert!(position("0-1-10").covers(&position("0-1-10")));
        assert!(position("0-1-11,1-1-1").covers(&position("0-2-10")));
        assert!(!position("0-1-9").covers(&position("0-1-10")));
        assert!(!position("0-1-10").covers(&position("1-1-1")));
        assert!(position("").covers(&position("")));
        assert!(!position("").covers(&position("0-1-1")));
    }

    #[test]
    fn a_position_is_written_as_it_was_read() {
        assert_eq!(position("1-1-7,0-3-5").to_string(), "0-3-5,1-1-7");
        for bad in ["0-1", "0-1-x", "0-1-1,0-2-2", "4294967296-1-1", "-1-1-1"] {
            assert!(bad.parse::<Position>().is_err(), "{bad:?} was taken");
        }
    }
}
