//! Writes the backups of one agent, one after the other, and remembers between them what storage
//! holds already.

use std::{collections::HashSet, path::Path, sync::Arc};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    BackupSource, PreparedManifest, check_concurrency, check_name_is_free,
    kept::Kept,
    references::References,
    session::Session,
    transfer::{Transfer, run_cancellable},
};
use crate::{
    error::{Error, Result},
    ids::{BackupName, ShardId},
    repository::{
        header::Repository,
        known::{self, IndexIdentity, KnownChunks, Reference, Sorter, make_missing},
        manifest::PackRecord,
        progress::Progress,
    },
};

#[derive(Clone, Debug)]
pub struct Writer {
    repository: Repository,
    kept: Kept,
}

/// What a backup may refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MayReferTo {
    /// The order in which they are looked at.
    pub backups: Vec<Reference>,
    /// Ids of packs that are known to be damaged.
    pub damaged_packs: Vec<Uuid>,
}

/// A backup of which everything is in the repository but its manifest.
#[derive(Debug)]
pub struct Uploaded {
    pub manifest: PreparedManifest,
    packs: Vec<PackRecord>,
    /// Or why they could not be noted.
    chunks: Result<Sorter>,
}

impl Writer {
    /// `state_dir`: the agent's own, in which `known/` and `sessions/` are the writer's.
    pub fn new(repository: &Repository, state_dir: &Path) -> Self {
        Self {
            repository: repository.clone(),
            kept: Kept::new(state_dir),
        }
    }

    /// All that can be done before the database is stopped: finds out what storage holds, begins a
    /// session and puts its wrapped keys. Answers the session's id.
    ///
    /// The name must never have been used, except by an earlier try of this very writer:
    /// [`crate::ErrorKind::Conflict`].
    pub async fn prepare(
        &self,
        shard: &ShardId,
        name: &BackupName,
        may_refer_to: &[Reference],
    ) -> Result<Uuid> {
        if !self.kept.has_begun(name) {
            check_name_is_free(&self.repository, shard, name).await?;
        }
        let (kept, own, named) = (self.kept.clone(), name.clone(), may_refer_to.to_vec());
        let repository = self.repository.uuid();
        let (directory, keys) = on_thread(move || {
            kept.forget_others(&named, &own)?;
            Ok((kept.known()?, kept.keys(repository)?))
        })
        .await?;
        make_missing(&self.repository, shard, &directory, may_refer_to, &keys).await?;

        let session = Session::new(&self.repository);
        let (kept, own) = (self.kept.clone(), name.clone());
        let session = on_thread(move || kept.save(&own, &session).map(|()| session)).await?;
        session.begin(&self.repository, shard, name).await?;
        Ok(session.id)
    }

    /// Copies everything but the manifest itself into the repository; chunks that lie there already
    /// are referred to. `session`: from [`Self::prepare`].
    ///
    /// A file that changes while it is read, and a link that leaves every root, fail the backup.
    /// What was put before a failure stays for the next attempt, until it is collected.
    pub async fn upload(
        &self,
        source: &BackupSource,
        session: Uuid,
        may_refer_to: &MayReferTo,
        concurrency: usize,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<Uploaded> {
        check_concurrency(concurrency)?;
        let (kept, name) = (self.kept.clone(), source.name.clone());
        let repository = self.repository.uuid();
        let (directory, session) =
            on_thread(move || Ok((kept.known()?, kept.load(repository, &name, session)?))).await?;
        let damaged: HashSet<Uuid> = may_refer_to.damaged_packs.iter().copied().collect();
        let known = KnownChunks::open(
            &self.repository,
            &source.shard,
            &directory,
            &may_refer_to.backups,
            &damaged,
        )
        .await?;
        let transfer = Transfer {
            repository: &self.repository,
            source,
            session: Arc::new(session),
            references: Arc::new(References::new(known)),
            concurrency,
            progress,
        };
        let chunks = Sorter::new(&directory);
        let done = run_cancellable(transfer, Some(chunks), cancel).await?;
        let chunks = done.chunks;
        Ok(Uploaded {
            manifest: done.manifest,
            packs: done.packs,
            chunks: chunks.ok_or_else(|| Error::internal("the list of chunks was lost"))?,
        })
    }

    /// Remembers for the next backup what this one holds. Best before the manifest is put: without
    /// it, what is remembered does not count.
    pub async fn remember(&self, uploaded: Uploaded) -> Result<()> {
        let Uploaded {
            manifest,
            packs,
            chunks,
        } = uploaded;
        let header = manifest.header();
        let reference = Reference {
            name: header.name.clone(),
            manifest_hash: Some(manifest.hash().to_owned()),
        };
        let identity = IndexIdentity::of(self.repository.uuid(), &header.shard, &reference);
        let kept = self.kept.clone();
        on_thread(move || known::write(&kept.known()?, &identity, &packs, chunks?)).await
    }

    /// The manifest is put: nobody has to go on from here, so the keys are forgotten, those of
    /// attempts of which the backup took what is of use among them.
    pub async fn forget_sessions(&self) -> Result<()> {
        let kept = self.kept.clone();
        on_thread(move || kept.forget_all()).await
    }
}

async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal(format!("a thread of the writer died: {e}")))?
}
