//! Gets runs, opens and verifies every chunk, and writes it to its place.

use std::{os::unix::fs::FileExt, sync::Arc};

use bytes::{Bytes, BytesMut};
use object_store::path::Path;
use tokio::sync::{Mutex, mpsc::Receiver};

use super::{
    Shared, on_thread,
    plan::{Plan, Run, RunChunk},
    stopped,
};
use crate::{
    error::{Error, Result},
    repository::{
        chunk::CHUNK_BYTES,
        compress::{ChunkDecompressor, Encoding},
        layout,
        manifest::PackRecord,
        seal::{Sealer, TAG_BYTES},
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
    pub async fn run(self) -> Result<Option<Plan>> {
        let Self {
            shared,
            runs,
            mut bench,
        } = self;
        loop {
            let next = async { runs.lock().await.recv().await };
            let run = tokio::select! {
                () = shared.stop.cancelled() => return Err(stopped()),
                run = next => match run {
                    Some(run) => run,
                    None => return Ok(None),
                },
            };
            let pack = shared
                .manifest
                .packs
                .get(run.pack as usize)
                .cloned()
                .ok_or_else(|| Error::corrupt(format!("the backup has no pack {}", run.pack)))?;
            let key = layout::pack(&shared.manifest.header.shard, &pack.origin.backup, pack.id);
            let bytes = tokio::select! {
                () = shared.stop.cancelled() => return Err(stopped()),
                bytes = shared.repository.store().get_data_range(&key, run.start..run.end) => {
                    bytes.map_err(|e| e.context(first_file(&run)))?
                }
            };
            let work = Arc::clone(&shared);
            bench = on_thread(move || {
                write_run(&work, &key, &pack, &run, bytes, &mut bench)?;
                Ok(bench)
            })
            .await?;
            tokio::select! {
                () = shared.stop.cancelled() => return Err(stopped()),
                reached = crate::fault::reach("agent.fetch.middle") => reached?,
            }
        }
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
    for chunk in &run.chunks {
        if shared.stop.is_cancelled() {
            return Err(stopped());
        }
        // The planner laid the chunks of a run side by side, from its start to its end.
        let sealed_bytes = chunk.stored.stored_bytes as usize + TAG_BYTES;
        let mut sealed = bytes.split_to(sealed_bytes.min(bytes.len()));
        let plain = open_chunk(&sealer, chunk, &mut sealed, bench).map_err(|why| {
            Error::corrupt(format!(
                "object {key} is damaged: the chunk at byte {} {why}; {} cannot be restored",
                chunk.stored.offset,
                chunk.file.path.display()
            ))
        })?;
        chunk
            .file
            .file()?
            .write_all_at(plain, chunk.offset)
            .map_err(|e| Error::io("write", &chunk.file.path, &e))?;
        shared.progress.add_bytes(chunk.plain_bytes as u64);
        if chunk.file.done(1, &shared.targets)? {
            shared.file_is_done();
        }
    }
    Ok(())
}

/// The plain bytes of a chunk, or what is wrong with it.
fn open_chunk<'a>(
    sealer: &Sealer,
    chunk: &RunChunk,
    sealed: &'a mut [u8],
    bench: &'a mut Bench,
) -> std::result::Result<&'a [u8], &'static str> {
    let length = sealer
        .open_with_tag(u64::from(chunk.stored.place), &[], sealed)
        .map_err(|_| "was altered")?;
    let stored = &sealed[..length];
    let plain: &[u8] = match chunk.stored.encoding {
        Encoding::Raw => stored,
        Encoding::Zstd => {
            let plain = &mut bench.plain[..chunk.plain_bytes];
            if !bench.decompressor.unpack(stored, plain) {
                return Err("cannot be unpacked");
            }
            plain
        }
    };
    if plain.len() != chunk.plain_bytes || *blake3::hash(plain).as_bytes() != chunk.stored.id {
        return Err("is not the one that was written");
    }
    Ok(plain)
}
