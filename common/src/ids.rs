//! Names: keyspaces, shards, tablet aliases, backups, operations.
//!
//! Each is checked when it is parsed, so that a value of these types is always safe as a path
//! segment: no separators, no dots at the ends, no control characters, bounded length.

use std::{fmt, str::FromStr};

use seawall_proto::v1;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};

const NAME_BYTES_MAX: usize = 64;

fn check_name(what: &str, name: &str, allowed: impl Fn(char) -> bool) -> Result<()> {
    let reason = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.len() > NAME_BYTES_MAX {
        format!("it is longer than {NAME_BYTES_MAX} characters")
    } else if let Some(bad) = name.chars().find(|c| !allowed(*c)) {
        format!("{bad:?} is not allowed in it")
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!(
        "malformed {what} {name:?}: {reason}"
    )))
}

macro_rules! text_type {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&String::from(self.clone()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                text.parse()
            }
        }
    };
}

/// A shard of a keyspace: `commerce/0`, `commerce/-80`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShardId {
    keyspace: String,
    shard: String,
}

text_type!(ShardId);

impl ShardId {
    pub fn new(keyspace: &str, shard: &str) -> Result<Self> {
        check_keyspace(keyspace)?;
        check_name("shard", shard, |c| {
            c.is_ascii_alphanumeric() || c == '-' || c == '_'
        })
        .map_err(|e| e.hint("A shard is letters, digits, '-' and '_': 0, -80, 80-c0."))?;
        Ok(Self {
            keyspace: keyspace.to_owned(),
            shard: shard.to_owned(),
        })
    }

    pub fn keyspace(&self) -> &str {
        &self.keyspace
    }

    pub fn shard(&self) -> &str {
        &self.shard
    }

    pub fn from_proto(shard: Option<&v1::ShardRef>) -> Result<Self> {
        let shard = shard.ok_or_else(|| Error::invalid("no shard is named"))?;
        Self::new(&shard.keyspace, &shard.shard)
    }

    pub fn to_proto(&self) -> v1::ShardRef {
        v1::ShardRef {
            keyspace: self.keyspace.clone(),
            shard: self.shard.clone(),
        }
    }
}

/// Checks a keyspace that stands alone (`ListTablets commerce`).
pub fn check_keyspace(keyspace: &str) -> Result<()> {
    check_name("keyspace", keyspace, |c| {
        c.is_ascii_alphanumeric() || c == '_' || c == '-'
    })
    .map_err(|e| e.hint("A keyspace is letters, digits, '-' and '_': commerce."))
}

/// Checks the name of a schedule.
pub fn check_schedule(name: &str) -> Result<()> {
    check_name("schedule", name, |c| {
        c.is_ascii_alphanumeric() || c == '_' || c == '-'
    })
    .map_err(|e| e.hint("The name of a schedule is letters, digits, '-' and '_': nightly."))
}

impl FromStr for ShardId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let (keyspace, shard) = text.split_once('/').ok_or_else(|| {
            Error::invalid(format!("malformed shard {text:?}: no '/' in it"))
                .hint("A shard is written keyspace/shard: commerce/0.")
        })?;
        Self::new(keyspace, shard)
    }
}

impl From<ShardId> for String {
    fn from(id: ShardId) -> String {
        format!("{}/{}", id.keyspace, id.shard)
    }
}

/// A tablet's alias, `cell-uid`: `zone1-101`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Alias {
    cell: String,
    uid: u32,
}

text_type!(Alias);

impl Alias {
    pub fn cell(&self) -> &str {
        &self.cell
    }

    pub fn uid(&self) -> u32 {
        self.uid
    }
}

impl FromStr for Alias {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let malformed = |reason: String| {
            Error::invalid(format!("malformed tablet alias {text:?}: {reason}"))
                .hint("An alias is written cell-uid: zone1-101.")
        };
        let (cell, uid) = text
            .rsplit_once('-')
            .ok_or_else(|| malformed("no '-' in it".into()))?;
        check_name("cell", cell, |c| {
            c.is_ascii_alphanumeric() || c == '_' || c == '-'
        })
        .map_err(|e| malformed(e.message().to_owned()))?;
        if uid.is_empty()
            || !uid.bytes().all(|b| b.is_ascii_digit())
            || (uid.len() > 1 && uid.starts_with('0'))
        {
            return Err(malformed(format!("{uid:?} is not a number")));
        }
        let uid = uid
            .parse()
            .map_err(|_| malformed(format!("{uid} is larger than {}", u32::MAX)))?;
        Ok(Self {
            cell: cell.to_owned(),
            uid,
        })
    }
}

impl From<Alias> for String {
    fn from(alias: Alias) -> String {
        format!("{}-{}", alias.cell, alias.uid)
    }
}

/// A backup's name: `YYYY-MM-DD.HHMMSS.<alias>` in UTC, with `.N` behind it when that second had
/// one already. For people: the order of backups comes from epoch and position.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupName(String);

text_type!(BackupName);

impl BackupName {
    /// `suffix` 0 is the plain name.
    pub fn new(at_unix_ms: u64, alias: &Alias, suffix: u32) -> Result<Self> {
        let at = i64::try_from(at_unix_ms)
            .ok()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
            .ok_or_else(|| Error::invalid(format!("{at_unix_ms} ms is no point in time")))?;
        let mut name = format!("{}.{alias}", at.strftime("%Y-%m-%d.%H%M%S"));
        if suffix > 0 {
            name.push_str(&format!(".{suffix}"));
        }
        Ok(Self(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The second in which it was given, as the name says; `None`: there is no such second.
    pub fn given_unix_ms(&self) -> Option<u64> {
        let at = self.0.get(.."2026-11-21.031500".len())?;
        let at = jiff::civil::DateTime::strptime("%Y-%m-%d.%H%M%S", at).ok()?;
        let at = at.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        u64::try_from(at.timestamp().as_millisecond()).ok()
    }
}

impl FromStr for BackupName {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let malformed = || {
            Error::invalid(format!("malformed backup name {text:?}"))
                .hint("A backup is named like 2026-11-21.031500.zone1-101; ListBackups shows them.")
        };
        let mut parts = text.split('.');
        let (Some(date), Some(time), Some(alias), suffix, None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(malformed());
        };
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let date_is_good = date.len() == 10
            && date.bytes().enumerate().all(|(i, b)| {
                if i == 4 || i == 7 {
                    b == b'-'
                } else {
                    b.is_ascii_digit()
                }
            });
        let suffix_is_good =
            suffix.is_none_or(|s| digits(s) && s.len() <= 6 && !s.starts_with('0'));
        if !date_is_good || time.len() != 6 || !digits(time) || !suffix_is_good {
            return Err(malformed());
        }
        let _: Alias = alias.parse().map_err(|_| malformed())?;
        Ok(Self(text.to_owned()))
    }
}

impl From<BackupName> for String {
    fn from(name: BackupName) -> String {
        name.0
    }
}

/// An operation's id: a UUID, version 7 when we make it, so that they sort by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OperationId(Uuid);

impl OperationId {
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// An id that any repetition of the same derivation finds again.
    pub fn derived(&self, from: &str) -> Self {
        let hash = blake3::derive_key(
            "seawall operation id derived from another, v1",
            format!("{}/{from}", self.0).as_bytes(),
        );
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for OperationId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Uuid::try_parse(text).map(Self).map_err(|_| {
            Error::invalid(format!("malformed operation id {text:?}"))
                .hint("It is a UUID; ListOperations shows them.")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_leaves_its_directory_is_refused() {
        for bad in [
            "../0", "a/..", "a/.", "a//0", "/0", "a/", "a", "a/b/c", "a/b\0", "a b/0", "",
        ] {
            assert!(bad.parse::<ShardId>().is_err(), "{bad:?} was taken");
        }
        for good in ["commerce/0", "commerce/-80", "a_b-c/80-c0"] {
            assert_eq!(good.parse::<ShardId>().unwrap().to_string(), good);
        }
    }

    #[test]
    fn an_alias_is_a_cell_and_a_number() {
        for bad in [
            "zone1",
            "zone1-",
            "-1",
            "zone1-x",
            "zone1-01",
            "zo/ne-1",
            "..-1",
            "z-99999999999",
        ] {
            assert!(bad.parse::<Alias>().is_err(), "{bad:?} was taken");
        }
        let alias: Alias = "eu-west-7".parse().unwrap();
        assert_eq!((alias.cell(), alias.uid()), ("eu-west", 7));
        assert_eq!(alias.to_string(), "eu-west-7");
    }

    #[test]
    fn a_backup_is_named_by_second_and_alias() {
        let alias: Alias = "zone1-101".parse().unwrap();
        let name = BackupName::new(1_792_000_000_123, &alias, 0).unwrap();
        assert_eq!(name.as_str().parse::<BackupName>().unwrap(), name);
        assert_eq!(name.given_unix_ms(), Some(1_792_000_000_000));
        let never: BackupName = "2026-99-21.031500.a-1".parse().unwrap();
        assert_eq!(never.given_unix_ms(), None);
        let second = BackupName::new(1_792_000_000_123, &alias, 1).unwrap();
        assert_eq!(second.to_string(), format!("{name}.1"));
        for bad in [
            "",
            "x",
            "2026-11-21.031500",
            "2026-11-21.031500.../x",
            "2026-11-21.03150x.a-1",
            "2026-11-21.031500.a-1.0",
        ] {
            assert!(bad.parse::<BackupName>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_derived_operation_id_is_always_the_same() {
        let id = OperationId::generate();
        assert_eq!(id.derived("commerce/0"), id.derived("commerce/0"));
        assert_ne!(id.derived("commerce/0"), id.derived("commerce/1"));
    }
}
