//! The manifest that is ready to be put.

use bytes::Bytes;

use super::{BackupSource, scribe::Lists, session::Session, walk::Sources};
use crate::{
    clock,
    error::{Error, Result},
    ids::{BackupName, ShardId},
    repository::{
        chunk::CHUNK_BYTES,
        header::{FORMAT_VERSION, Repository},
        layout,
        manifest::{Body, DamagedPage, ManifestHeader, encode_manifest},
        object::ObjectKind,
        page_check::PagesSeen,
    },
};

/// A manifest of which everything is in the repository but itself.
#[derive(Clone, Debug)]
pub struct PreparedManifest {
    header: ManifestHeader,
    hash: String,
    object: Bytes,
    first_damaged: Vec<DamagedPage>,
    pages_seen: PagesSeen,
}

/// What the manifest is made of, besides the source.
pub(super) struct Ready<'a> {
    pub session: &'a Session,
    pub sources: &'a Sources,
    pub lists: Lists,
    /// Bytes of packs that no earlier complete backup holds.
    pub new_pack_bytes: u64,
    pub refers_to: Vec<BackupName>,
    /// How many pages were damaged in the source, and the first of them.
    pub damage: (u64, Vec<DamagedPage>),
    pub pages_seen: PagesSeen,
}

pub(super) fn prepare(source: &BackupSource, ready: Ready<'_>) -> Result<PreparedManifest> {
    let Ready {
        session,
        sources,
        lists,
        ..
    } = ready;
    let parts = lists.lists.iter().chain(&lists.pack_lists);
    let stored_bytes = ready.new_pack_bytes + parts.map(|part| part.bytes).sum::<u64>();
    let (damaged_pages, first_damaged) = ready.damage;
    let header = ManifestHeader {
        version: FORMAT_VERSION,
        name: source.name.clone(),
        shard: source.shard.clone(),
        alias: source.alias.clone(),
        engine: source.engine.clone(),
        epoch: source.epoch,
        position: source.position.clone(),
        started_unix_ms: source.started_unix_ms,
        ended_unix_ms: clock::now_unix_ms(),
        logical_bytes: lists.logical_bytes,
        stored_bytes,
        files: lists.files,
        encrypted: session.is_encrypted(),
        chunk_bytes: CHUNK_BYTES as u32,
        lists: lists.lists,
        pack_lists: lists.pack_lists,
        refers_to: ready.refers_to,
        damaged_pages,
        writer_key: source
            .signer
            .as_ref()
            .map_or_else(String::new, |key| key.public().to_string()),
    };
    let body = Body {
        operation: source.operation.clone(),
        token: source.token,
        details: source.details.clone(),
        roots: sources.records(),
        users: sources.users.clone(),
        groups: sources.groups.clone(),
        damaged_pages: first_damaged.clone(),
    };
    let (prefix, sealer) = session.object(ObjectKind::Manifest)?;
    let object = encode_manifest(&prefix, &sealer, &header, &body, source.signer.as_ref())?;
    Ok(PreparedManifest {
        header,
        hash: blake3::hash(&object).to_hex().to_string(),
        object: Bytes::from(object),
        first_damaged,
        pages_seen: ready.pages_seen,
    })
}

impl PreparedManifest {
    /// Of a backup without files or roots, by a simulated agent that has no database.
    #[cfg(feature = "fault-injection")]
    pub fn of_nothing(repository: &Repository, source: &BackupSource) -> Result<Self> {
        let session = Session::new(repository);
        let ready = Ready {
            session: &session,
            sources: &Sources::default(),
            lists: Lists::default(),
            new_pack_bytes: 0,
            refers_to: Vec::new(),
            damage: (0, Vec::new()),
            pages_seen: PagesSeen::default(),
        };
        prepare(source, ready)
    }

    /// BLAKE3 of the manifest object, hexadecimal: to be announced before it is put.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    pub fn header(&self) -> &ManifestHeader {
        &self.header
    }

    /// The first of the pages that were damaged in the source; the header counts them all.
    pub fn damaged_pages(&self) -> &[DamagedPage] {
        &self.first_damaged
    }

    /// How many pages the engine's check has looked at, and passed over.
    pub fn pages_seen(&self) -> PagesSeen {
        self.pages_seen
    }

    /// Puts the manifest, which completes the backup. The same one already there is success. A
    /// backup that was given up in the meantime stays given up: [`crate::ErrorKind::Fenced`].
    pub async fn put(&self, repository: &Repository) -> Result<()> {
        let (shard, name) = (&self.header.shard, &self.header.name);
        check_not_removed(repository, shard, name).await?;
        repository
            .store()
            .put_create(&layout::manifest(shard, name), self.object.clone())
            .await?;
        check_not_removed(repository, shard, name).await
    }
}

async fn check_not_removed(
    repository: &Repository,
    shard: &ShardId,
    name: &BackupName,
) -> Result<()> {
    if repository
        .store()
        .exists(&layout::removed(shard, name))
        .await?
    {
        return Err(Error::fenced(format!(
            "backup {name} of {shard} was given up: it cannot be completed any more"
        )));
    }
    Ok(())
}
