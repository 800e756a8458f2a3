//! What an object is, by its key alone: the other direction of [`super::super::layout`].

use object_store::path::Path;
use uuid::Uuid;

use super::super::layout::number;
use crate::ids::{BackupName, ShardId};

/// An object below a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Object {
    Manifest(BackupName),
    Removed(BackupName),
    Part(BackupName, u32),
    Pack(BackupName, Uuid),
    /// The session whose key it holds.
    Key(BackupName, Uuid),
    Epoch(u64),
    /// Of a later version, which the format has kept a place for.
    Later,
    Unknown,
}

/// What lies under a key below `shard`.
pub(super) fn object(shard: &ShardId, key: &Path) -> Object {
    let start = format!("keyspaces/{}/{}/", shard.keyspace(), shard.shard());
    let Some(below) = key.as_ref().strip_prefix(&start) else {
        return Object::Unknown;
    };
    let names: Vec<&str> = below.split('/').collect();
    known(&names).unwrap_or(Object::Unknown)
}

fn known(names: &[&str]) -> Option<Object> {
    Some(match names {
        ["backups", name, "manifest"] => Object::Manifest(name.parse().ok()?),
        ["backups", name, "removed"] => Object::Removed(name.parse().ok()?),
        ["backups", name, "parts", part] => {
            Object::Part(name.parse().ok()?, number(part, 6)?.try_into().ok()?)
        }
        ["packs", name, "keys", file] => Object::Key(name.parse().ok()?, session_of(file)?),
        ["packs", name, pack] => Object::Pack(name.parse().ok()?, id(pack)?),
        ["epochs", number_] => Object::Epoch(number(number_, 20)?),
        ["log", ..] => Object::Later,
        _ => return None,
    })
}

/// The session of a key file.
fn session_of(file: &str) -> Option<Uuid> {
    let (session, rest) = file.split_once('.')?;
    let recipient = rest.strip_suffix(".age")?;
    is_hex(recipient, 16).then_some(())?;
    id(session)
}

pub(super) fn is_key_file(file: &str) -> bool {
    session_of(file).is_some()
}

fn id(text: &str) -> Option<Uuid> {
    is_hex(text, 32)
        .then(|| Uuid::try_parse(text).ok())
        .flatten()
}

fn is_hex(text: &str, digits: usize) -> bool {
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.len() == digits && text.bytes().all(lower)
}

#[cfg(test)]
mod tests {
    use super::{super::super::layout, *};

    #[test]
    fn every_key_of_the_format_is_known_and_no_other() {
        let shard: ShardId = "commerce/-80".parse().unwrap();
        let name: BackupName = "2026-11-21.031500.zone1-101".parse().unwrap();
        let pack = Uuid::from_u128(7);
        let key = layout::key(&shard, &name, pack, "0011223344556677");
        for (key, expected) in [
            (
                layout::manifest(&shard, &name),
                Object::Manifest(name.clone()),
            ),
            (
                layout::removed(&shard, &name),
                Object::Removed(name.clone()),
            ),
            (
                layout::part(&shard, &name, 3),
                Object::Part(name.clone(), 3),
            ),
            (
                layout::pack(&shard, &name, pack),
                Object::Pack(name.clone(), pack),
            ),
            (key, Object::Key(name.clone(), pack)),
            (layout::epoch(&shard, 2), Object::Epoch(2)),
        ] {
            assert_eq!(object(&shard, &key), expected);
            let other: ShardId = "commerce/80-".parse().unwrap();
            assert_eq!(object(&other, &key), Object::Unknown);
        }
        for unknown in [
            "backups/x/manifest",
            "backups/2026-11-21.031500.zone1-101/manifest2",
            "backups/2026-11-21.031500.zone1-101/parts/3",
            "packs/2026-11-21.031500.zone1-101/7",
            "packs/2026-11-21.031500.zone1-101/keys/7.age",
            "epochs/2",
            "x",
        ] {
            let key = Path::from(format!("keyspaces/commerce/-80/{unknown}"));
            assert_eq!(object(&shard, &key), Object::Unknown, "{unknown}");
        }
    }
}
