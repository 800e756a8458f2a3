//! The manifest: written last, and what makes a backup complete.
//!
//! It begins with a clear header, enough to list and to collect without any key; the rest is
//! sealed. What is too large for it lies in parts, whose hashes the header carries.

mod packs;
mod part;
mod reach;
mod read;
mod signature;
mod write;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[cfg(any(test, feature = "fuzzing"))]
pub(super) use packs::decode_pack_list;
pub(super) use packs::{PackOrigin, encode_pack_list, pack_list_parts};
pub(super) use part::{get_part, get_part_object, load_key, open_key};
pub(super) use reach::read_needed_packs;
pub(super) use read::{check_origins, check_totals, decode_header, get_pack_list, open_body};
pub(super) use write::encode_manifest;

pub use packs::PackRecord;
pub use read::read_manifest;

use super::{check::Seen, keys::DataKey, list::Attributes, object::Prefix};
use crate::{
    ids::{Alias, BackupName, ShardId},
    position::Position,
};

/// No manifest is larger.
pub(super) const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// No part is larger.
pub(super) const PART_BYTES_MAX: u64 = 8 << 20;
pub(super) const LISTS_MAX: usize = 16_384;
pub(super) const PACK_LISTS_MAX: usize = 64;
pub(super) const ROOTS_MAX: usize = 256;
/// What to do about a backup that does not fit into these.
pub(super) const TOO_LARGE: &str =
    "Spread the database over more shards: each of them has backups of its own.";
/// Damaged pages that a body names.
pub(super) const DAMAGED_PAGES_MAX: usize = 1000;

/// What anybody may read of a backup without a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestHeader {
    pub version: u32,
    pub name: BackupName,
    pub shard: ShardId,
    pub alias: Alias,
    pub engine: String,
    pub epoch: u64,
    pub position: Position,
    pub started_unix_ms: u64,
    pub ended_unix_ms: u64,
    /// Bytes of the files as they lay in their directories, holes included.
    pub logical_bytes: u64,
    /// Bytes of packs and parts that no earlier complete backup holds.
    pub stored_bytes: u64,
    pub files: u64,
    pub encrypted: bool,
    pub chunk_bytes: u32,
    /// Parts with the list of files and chunks, in order.
    pub lists: Vec<PartRecord>,
    /// Parts with the list of packs, in order.
    pub pack_lists: Vec<PartRecord>,
    /// Other backups of the shard whose packs this one needs.
    pub refers_to: Vec<BackupName>,
    /// Public key of the writer that signed, hexadecimal; empty: not signed.
    #[serde(default)]
    pub writer_key: String,
    /// Pages that were damaged in the source when they were copied.
    #[serde(default)]
    pub damaged_pages: u64,
}

/// An object under `parts/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRecord {
    pub number: u32,
    pub bytes: u64,
    /// BLAKE3 of the object, hexadecimal.
    pub hash: String,
}

/// A named root, as it lay on the tablet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootRecord {
    pub name: String,
    /// Where it lay. For people: a restore is told where each root goes.
    pub path: String,
    pub(super) attributes: Attributes,
}

/// The sealed part of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Body {
    pub operation: String,
    pub token: u64,
    pub details: Vec<(String, String)>,
    pub roots: Vec<RootRecord>,
    /// Names of the owners and groups that the lists name by number.
    pub users: BTreeMap<u32, String>,
    pub groups: BTreeMap<u32, String>,
    /// The first of them, at most [`DAMAGED_PAGES_MAX`].
    #[serde(default)]
    pub damaged_pages: Vec<DamagedPage>,
}

/// A page that was damaged in the source when it was copied. The backup holds it as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedPage {
    /// Name of the root.
    pub root: String,
    /// Of the file, below the root; for people.
    pub path: String,
    pub page: u64,
    /// What is wrong with it.
    pub what: String,
}

/// A manifest that was read and passed every check.
///
/// Its list of files is not held in memory: it may be large, and is read again, part by part, by
/// a restore.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub header: ManifestHeader,
    /// BLAKE3 of the manifest object, hexadecimal.
    pub hash: String,
    pub operation: String,
    /// The fencing token of the hold under which the backup was written.
    pub token: u64,
    /// What the engine noted: server version, uuid, ...
    pub details: Vec<(String, String)>,
    pub roots: Vec<RootRecord>,
    pub packs: Vec<PackRecord>,
    /// The first of the pages that were damaged in the source; the header counts them all.
    pub damaged_pages: Vec<DamagedPage>,
    pub(super) users: BTreeMap<u32, String>,
    pub(super) groups: BTreeMap<u32, String>,
    /// For each root what its files come to.
    pub(super) seen: Vec<Seen>,
    pub(super) prefix: Prefix,
    /// The data keys of the sessions that wrote what this backup needs.
    pub(super) keys: Arc<BTreeMap<Uuid, DataKey>>,
}

impl Manifest {
    /// What a detail says, when the engine noted it.
    pub fn detail(&self, name: &str) -> Option<&str> {
        self.details
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Bytes that a restore writes for a root: its files without their holes.
    pub fn data_bytes(&self, root: &str) -> u64 {
        self.roots
            .iter()
            .zip(&self.seen)
            .filter(|(record, _)| record.name == root)
            .map(|(_, seen)| seen.data_bytes)
            .sum()
    }
}
