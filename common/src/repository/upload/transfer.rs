//! One run of the pipeline, from the survey of the roots to the manifest that is ready to be put.

use std::sync::{Arc, Mutex};

use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    BackupSource, PreparedManifest, feed,
    pages::Damage,
    prepared::{self, Ready},
    puts::put_packs,
    references::References,
    scribe::Scribe,
    session::Session,
    walk::Sources,
    worker::{Shared, Worker},
};
use crate::{
    error::{Error, Result},
    repository::{
        header::Repository, known::Sorter, manifest::PackRecord, pack::PACK_BYTES_MAX, pool::Pool,
        progress::Progress,
    },
};

/// Units that are cut and not yet in a list. A unit's results are small; its bytes are only in
/// memory while a worker is at it.
const UNITS_IN_FLIGHT: usize = 64;
/// Pack buffers beyond one for each worker, so that a worker need not wait for its own put.
const SPARE_BUFFERS: usize = 1;

pub(super) struct Transfer<'a> {
    pub repository: &'a Repository,
    pub source: &'a BackupSource,
    pub session: Arc<Session>,
    pub references: Arc<References>,
    pub concurrency: usize,
    pub progress: &'a Progress,
}

/// What a run came to.
pub(super) struct Done {
    pub manifest: PreparedManifest,
    pub packs: Vec<PackRecord>,
    /// Every chunk of the backup, when they were wanted.
    pub chunks: Option<Result<Sorter>>,
}

/// Runs it to its end, or until it is cancelled; no thread goes on afterwards.
pub(super) async fn run_cancellable(
    transfer: Transfer<'_>,
    chunks: Option<Sorter>,
    cancel: &CancellationToken,
) -> Result<Done> {
    let stop = cancel.child_token();
    let _stop_on_drop = stop.clone().drop_guard();
    let cancelled = Error::cancelled(format!("backup {} was cancelled", transfer.source.name));
    tokio::select! {
        done = transfer.run(chunks, &stop) => match done {
            Err(_) if cancel.is_cancelled() => Err(cancelled),
            other => other,
        },
        // The threads look at `stop`, which is cancelled as well.
        () = cancel.cancelled() => Err(cancelled),
    }
}

impl Transfer<'_> {
    async fn run(&self, chunks: Option<Sorter>, stop: &CancellationToken) -> Result<Done> {
        let (repository, source) = (self.repository, self.source);
        let roots = source.roots.clone();
        let sources = tokio::task::spawn_blocking(move || Sources::survey(&roots))
            .await
            .map_err(|e| {
                Error::internal(format!("the thread that surveys the roots died: {e}"))
            })??;
        let sources = Arc::new(sources);
        self.progress.begin(sources.bytes, sources.files);
        let damage = Arc::new(Damage::new(source.page_check.clone()));

        let places = Pool::new((0..UNITS_IN_FLIGHT).map(drop));
        let buffers =
            Pool::new((0..self.concurrency + SPARE_BUFFERS).map(|_| vec![0; PACK_BYTES_MAX]));
        // Threads that wait for a place or a buffer go when these are closed, whatever happens.
        let _places_guard = places.close_on_drop();
        let _buffers_guard = buffers.close_on_drop();
        let (packs_out, packs_in) = mpsc::channel(self.concurrency);
        let (written_out, written_in) = mpsc::channel(UNITS_IN_FLIGHT);
        let (units_out, units_in) = std::sync::mpsc::channel();
        let shared = Arc::new(Shared {
            stop: stop.clone(),
            session: Arc::clone(&self.session),
            references: Arc::clone(&self.references),
            damage: Arc::clone(&damage),
            buffers,
            throttle: repository.throttle().clone(),
            progress: self.progress.clone(),
            units: Mutex::new(units_in),
            packs: packs_out,
            written: written_out,
        });

        let mut threads = JoinSet::new();
        let feeder_sources = Arc::clone(&sources);
        threads.spawn_blocking(move || feed::feed(&feeder_sources, &places, &units_out));
        for _ in 0..self.concurrency {
            let worker = Worker::new(Arc::clone(&shared))?;
            threads.spawn_blocking(move || worker.run());
        }
        drop(shared);
        let mut scribe = Scribe::new(repository, source, &self.session, self.progress, chunks);
        let outcome = tokio::try_join!(
            join_all(&mut threads),
            put_packs(
                repository,
                source,
                &self.session,
                self.concurrency,
                self.progress,
                packs_in
            ),
            scribe.write(written_in),
        );
        let own = match outcome {
            Ok(((), own, ())) => own,
            Err(error) => {
                stop.cancel();
                return Err(error);
            }
        };
        let own_bytes: u64 = own.iter().map(|(_, pack)| u64::from(pack.bytes)).sum();
        let all = self.references.all(own)?;
        let (lists, chunks) = scribe.finish(&all.packs).await?;
        if lists.files != sources.files || lists.logical_bytes != sources.bytes {
            return Err(Error::refused(format!(
                "the directories changed while they were read: {} files of {} bytes became {} files of {} bytes",
                sources.files, sources.bytes, lists.files, lists.logical_bytes
            ))
            .hint("Something writes to them although the database is stopped."));
        }
        self.references.confirm(repository, &source.shard).await?;
        let ready = Ready {
            session: &self.session,
            sources: &sources,
            new_pack_bytes: own_bytes + all.taken_over_bytes,
            refers_to: all.refers_to,
            damage: damage.result(),
            pages_seen: damage.seen(),
            lists,
        };
        Ok(Done {
            manifest: prepared::prepare(source, ready)?,
            packs: all.packs,
            chunks,
        })
    }
}

async fn join_all(threads: &mut JoinSet<Result<()>>) -> Result<()> {
    while let Some(ended) = threads.join_next().await {
        ended.map_err(|e| Error::internal(format!("a thread of the backup died: {e}")))??;
    }
    Ok(())
}
