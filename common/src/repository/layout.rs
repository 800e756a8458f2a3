//! Which object lies under which key. Every part of a key was checked before it came here:
//! shards and backup names by their types, ids by being UUIDs, numbers by being numbers.

use object_store::path::Path;
use uuid::Uuid;

use crate::ids::{BackupName, ShardId};

pub(super) fn header() -> Path {
    Path::from("seawall.json")
}

pub(super) fn owners() -> Path {
    Path::from("owners")
}

/// Objects by which a coordinator finds out what the store can do.
pub(super) fn probes() -> Path {
    Path::from("probes")
}

/// `began`: Unix time in milliseconds, so that a later probe can tell which are old.
pub(super) fn probe(began: u64, id: Uuid) -> Path {
    probes().join(format!("{began:020}.{}", id.simple()))
}

/// Padded, as all numbers in keys are, so that names sort as numbers do.
pub(super) fn owner(number: u64) -> Path {
    owners().join(format!("{number:020}"))
}

/// Public keys as text, by fingerprint.
pub(super) fn recipients() -> Path {
    Path::from("recipients")
}

pub(super) fn recipient(fingerprint: &str) -> Path {
    recipients().join(fingerprint)
}

/// Private keys that passphrases lock.
pub(super) fn identities() -> Path {
    Path::from("identities")
}

pub(super) fn identity(name: &str) -> Path {
    identities().join(format!("{name}.age"))
}

/// What is to be known of an identity without opening it.
pub(super) fn identity_record(name: &str) -> Path {
    identities().join(format!("{name}.json"))
}

/// What a coordinator group keeps of its own.
pub(super) fn coordinator() -> Path {
    Path::from("coordinator")
}

/// Up to where timestamps may have been given out.
pub(super) fn bounds() -> Path {
    coordinator().join("bounds")
}

pub(super) fn bound(bound: u64) -> Path {
    bounds().join(format!("{bound:020}"))
}

/// The object that makes a group's backup complete.
const GROUP_STATE: &str = "state";

/// The groups' backups of their own state.
pub(super) fn group_backups() -> Path {
    coordinator().join("backups")
}

fn group_backup_folder(name: &str) -> Path {
    group_backups().join(name)
}

pub(super) fn group_backup(name: &str) -> Path {
    group_backup_folder(name).join(GROUP_STATE)
}

pub(super) fn group_backup_keys(name: &str) -> Path {
    group_backup_folder(name).join("keys")
}

/// The name of the group's backup to which an object belongs, and whether it is the state itself.
pub(super) fn of_group_backup(key: &Path) -> Option<(String, bool)> {
    let mut parts = key.prefix_match(&group_backups())?;
    let name = parts.next()?.as_ref().to_owned();
    let is_state = *key == group_backup(&name);
    Some((name, is_state))
}

/// A session's data key, wrapped for a recipient.
pub(super) fn key_file(folder: Path, session: Uuid, recipient: &str) -> Path {
    folder.join(format!("{}.{recipient}.age", session.simple()))
}

/// A number with all its digits, the other direction of the padding above.
pub(super) fn number(text: &str, digits: usize) -> Option<u64> {
    let all_digits = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    all_digits.then(|| text.parse().ok()).flatten()
}

pub(super) fn keyspaces() -> Path {
    Path::from("keyspaces")
}

/// Everything of a shard.
pub(super) fn shard(shard: &ShardId) -> Path {
    keyspaces().join(shard.keyspace()).join(shard.shard())
}

pub(super) fn epochs(id: &ShardId) -> Path {
    shard(id).join("epochs")
}

pub(super) fn epoch(id: &ShardId, number: u64) -> Path {
    epochs(id).join(format!("{number:020}"))
}

/// All backups of a shard.
pub(super) fn backups(id: &ShardId) -> Path {
    shard(id).join("backups")
}

/// All packs of a shard.
pub(super) fn packs(id: &ShardId) -> Path {
    shard(id).join("packs")
}

/// What describes one backup: manifest, parts, `removed`.
pub(super) fn backup(id: &ShardId, name: &BackupName) -> Path {
    backups(id).join(name.as_str())
}

pub(super) fn manifest(id: &ShardId, name: &BackupName) -> Path {
    backup(id, name).join("manifest")
}

pub(super) fn removed(id: &ShardId, name: &BackupName) -> Path {
    backup(id, name).join("removed")
}

pub(super) fn parts(id: &ShardId, name: &BackupName) -> Path {
    backup(id, name).join("parts")
}

pub(super) fn part(id: &ShardId, name: &BackupName, number: u32) -> Path {
    parts(id, name).join(format!("{number:06}"))
}

/// The packs that one backup wrote.
pub(super) fn backup_packs(id: &ShardId, name: &BackupName) -> Path {
    packs(id).join(name.as_str())
}

pub(super) fn pack(id: &ShardId, name: &BackupName, pack: Uuid) -> Path {
    backup_packs(id, name).join(pack.simple().to_string())
}

/// The wrapped data keys of the sessions that wrote a backup's packs.
pub(super) fn keys(id: &ShardId, name: &BackupName) -> Path {
    backup_packs(id, name).join("keys")
}

pub(super) fn key(id: &ShardId, name: &BackupName, session: Uuid, recipient: &str) -> Path {
    key_file(keys(id, name), session, recipient)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_that_the_format_names() {
        let id: ShardId = "commerce/-80".parse().unwrap();
        let name: BackupName = "2026-11-21.031500.zone1-101".parse().unwrap();
        let uuid = Uuid::from_u128(0xab);
        let hex = "000000000000000000000000000000ab";
        let base = "keyspaces/commerce/-80";
        assert_eq!(header().as_ref(), "seawall.json");
        assert_eq!(owner(7).as_ref(), "owners/00000000000000000007");
        assert_eq!(bound(7).as_ref(), "coordinator/bounds/00000000000000000007");
        let state = group_backup("n");
        assert_eq!(state.as_ref(), "coordinator/backups/n/state");
        assert_eq!(of_group_backup(&state), Some(("n".to_owned(), true)));
        let key = key_file(group_backup_keys("n"), uuid, "0011");
        assert_eq!(
            key.as_ref(),
            format!("coordinator/backups/n/keys/{hex}.0011.age")
        );
        assert_eq!(of_group_backup(&key), Some(("n".to_owned(), false)));
        assert_eq!(of_group_backup(&bound(7)), None);
        assert_eq!(recipient("0011").as_ref(), "recipients/0011");
        assert_eq!(identity("ops").as_ref(), "identities/ops.age");
        assert_eq!(identity_record("ops").as_ref(), "identities/ops.json");
        for (key, expected) in [
            (
                manifest(&id, &name),
                format!("{base}/backups/{name}/manifest"),
            ),
            (
                removed(&id, &name),
                format!("{base}/backups/{name}/removed"),
            ),
            (
                part(&id, &name, 3),
                format!("{base}/backups/{name}/parts/000003"),
            ),
            (pack(&id, &name, uuid), format!("{base}/packs/{name}/{hex}")),
            (
                self::key(&id, &name, uuid, "0011"),
                format!("{base}/packs/{name}/keys/{hex}.0011.age"),
            ),
            (epoch(&id, 2), format!("{base}/epochs/00000000000000000002")),
        ] {
            assert_eq!(key.as_ref(), expected);
        }
    }
}
