//! Gets runs, opens and verifies every chunk, and writes it to its place.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use object_store::path::Path;
use tokio::sync::{Mutex, mpsc::Receiver};

use super::{
    Shared,
    plan::{Plan, Wanted},
    runs::Run,
    stopped,
};
use crate::{
    error::{Error, Result},
    repository::{
        chunk::CHUNK_BYTES,
        compress::{ChunkDecompressor, Encoding},
        layout,
        manifest::PackRecord,
        seal::Sealer,
        stages::{Stage, Stages},
    },
};

pub(super) struct Fetcher {
    shared: Arc<Shared>,
    runs: Arc<Mutex<Receiver<Run>>>,
    bench: Bench,
}

/// What a fetcher keeps from run to run.
struct Bench {
    decompressor: ChunkDecompressor,
    plain: Vec<u8>,
}

impl Fetcher {
    pub fn new(shared: Arc<Shared>, runs: Arc<Mutex<Receiver<Run>>>) -> Result<Self> {
        Ok(Self {
            shared,
            runs,
            bench: Bench {
                decompressor: ChunkDecompressor::new()?,
                plain: vec![0; CHUNK_BYTES],
            },
        })
    }

    /// Fetches until there are no runs any more.
    pub async fn run(mut self) -> Result<Option<Plan>> {
        loop {
            let shared = Arc::clone(&self.shared);
            let next = async { self.runs.lock().await.recv().await };
            let run = tokio::select! {
                () = shared.stop.cancelled() => return Err(stopped()),
                run = next => match run {
                    Some(run) => run,
                    None => return Ok(None),
                },
            };
            // The limit may have changed since the run was gathered.
            let burst_bytes = shared.repository.throttle().burst_bytes();
            for run in run.split(burst_bytes) {
                shared.tally.add_request(run.bytes());
                if !shared.is_plan {
                    self = self.fetch(run).await?;
                }
            }
        }
    }

    async fn fetch(self, run: Run) -> Result<Self> {
        let Self {
            shared,
            runs,
            mut bench,
        } = self;
        let pack = shared
            .manifest
            .packs
            .get(run.pack as usize)
            .cloned()
            .ok_or_else(|| Error::corrupt(format!("the backup has no pack {}", run.pack)))?;
        let key = layout::pack(&shared.manifest.header.shard, &pack.origin.backup, pack.id);
        let get = shared
            .repository
            .store()
            .get_data_range(&key, run.start..run.end);
        let bytes = tokio::select! {
            () = shared.stop.cancelled() => return Err(stopped()),
            bytes = shared.progress.stages().time_request(Stage::Get, get) => {
                bytes.map_err(|e| e.context(first_file(&run)))?
            }
        };
        let work = Arc::clone(&shared);
        let write = move || {
            write_run(&work, &key, &pack, &run, bytes, &mut bench)?;
            Ok(bench)
        };
        let bench = shared.on_disk(write).await?;
        tokio::select! {
            () = shared.stop.cancelled() => return Err(stopped()),
            reached = crate::fault::reach("agent.fetch.middle") => reached?,
        }
        Ok(Self {
            shared,
            runs,
            bench,
        })
    }
}

fn first_file(run: &Run) -> String {
    let path = run
        .chunks
        .first()
        .map(|c| c.file.path.display().to_string());
    format!("cannot restore {}", path.unwrap_or_default())
}

fn write_run(
    shared: &Shared,
    key: &Path,
    pack: &PackRecord,
    run: &Run,
    bytes: Bytes,
    bench: &mut Bench,
) -> Result<()> {
    let prefix = pack.prefix(shared.repository.uuid());
    let sealer = Sealer::new(&prefix, shared.manifest.keys.get(&prefix.session))?;
    let mut bytes = BytesMut::from(bytes);
    let mut at = run.start;
    for places in run.chunks.chunk_by(Wanted::is_same) {
        if shared.stop.is_cancelled() {
            return Err(stopped());
        }
        let Some(chunk) = places.first() else {
            continue;
        };
        // Runs are gathered in the order of the pack, and nothing in them overlaps.
        let (start, end) = chunk.place_in_pack();
        let mut skipped_and_sealed = bytes.split_to(((end - at) as usize).min(bytes.len()));
        let skipped = ((start - at) as usize).min(skipped_and_sealed.len());
        at = end;
        let plain = open_chunk(
            &sealer,
            chunk,
            &mut skipped_and_sealed[skipped..],
            bench,
            shared.progress.stages(),
        )
        .map_err(|why| damaged(shared, key, chunk, why))?;
        for place in places {
            let stages = shared.progress.stages();
            stages.time(Stage::Write, || place.file.write(plain, place.offset))?;
            shared.progress.add_bytes(place.plain_bytes as u64);
            if place.file.done(1, &shared.targets, stages)? {
                shared.file_is_done();
            }
        }
    }
    Ok(())
}

fn damaged(shared: &Shared, key: &Path, chunk: &Wanted, why: &str) -> Error {
    Error::corrupt(format!(
        "object {key} is damaged: the chunk at byte {} {why}; {} of backup {} cannot be restored",
        chunk.stored.offset,
        chunk.file.path.display(),
        shared.manifest.header.name
    ))
}

/// The plain bytes of a chunk, or what is wrong with it.
fn open_chunk<'a>(
    sealer: &Sealer,
    chunk: &Wanted,
    sealed: &'a mut [u8],
    bench: &'a mut Bench,
    stages: &Stages,
) -> std::result::Result<&'a [u8], &'static str> {
    let place = u64::from(chunk.stored.place);
    let length = stages
        .time(Stage::Unseal, || sealer.open_with_tag(place, &[], sealed))
        .map_err(|_| "was altered")?;
    let stored = &sealed[..length];
    let plain: &[u8] = match chunk.stored.encoding {
        Encoding::Raw => stored,
        Encoding::Zstd => {
            let plain = &mut bench.plain[..chunk.plain_bytes];
            let decompressor = &mut bench.decompressor;
            if !stages.time(Stage::Decompress, || decompressor.unpack(stored, plain)) {
                return Err("cannot be unpacked");
            }
            plain
        }
    };
    let id = stages.time(Stage::Hash, || blake3::hash(plain));
    if plain.len() != chunk.plain_bytes || *id.as_bytes() != chunk.stored.id {
        return Err("is not the one that was written");
    }
    Ok(plain)
}
