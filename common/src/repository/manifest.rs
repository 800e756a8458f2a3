//! The manifest: written last, and what makes a backup complete.

use serde::{Deserialize, Serialize};

use super::header::Repository;
use crate::{
    error::{Error, Result},
    ids::{Alias, BackupName, ShardId},
    position::Position,
};

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
    /// Bytes that this backup added to the repository: packs and parts.
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
}

/// A pack that the backup needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackRecord {
    pub id: uuid::Uuid,
    pub bytes: u32,
    pub hash: [u8; 32],
}

/// A manifest that was read and passed every check.
#[derive(Debug)]
pub struct Manifest {
    pub header: ManifestHeader,
    /// BLAKE3 of the manifest object, hexadecimal.
    pub hash: String,
    pub operation: String,
    pub token: u64,
    /// What the engine noted: server version, uuid, ...
    pub details: Vec<(String, String)>,
    pub roots: Vec<RootRecord>,
    pub packs: Vec<PackRecord>,
}

/// Reads and checks the manifest of a backup, with all that it names but the packs' contents.
pub async fn read_manifest(
    _repository: &Repository,
    _shard: &ShardId,
    _name: &BackupName,
    _expected_hash: Option<&str>,
) -> Result<Manifest> {
    Err(Error::internal("reading a manifest is not built yet"))
}
