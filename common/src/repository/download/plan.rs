//! Reads the lists, makes directories and links, and gathers chunks into runs.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use tokio::sync::mpsc::Sender;

use super::{
    Shared, on_thread, stopped,
    target::{TargetFile, make_directory},
};
use crate::{
    error::{Error, Result},
    repository::{
        chunk::{self, CHUNK_BYTES},
        list::{Attributes, Record, Records},
        pack::StoredChunk,
        seal::TAG_BYTES,
    },
};

/// A run is fetched in one request and is in memory as a whole.
const RUN_BYTES_MAX: u64 = 8 << 20;
const RUN_CHUNKS_MAX: usize = 256;

/// A chunk of a run and the place that it is written to.
pub(super) struct RunChunk {
    pub file: Arc<TargetFile>,
    pub stored: StoredChunk,
    /// In the file.
    pub offset: u64,
    pub plain_bytes: usize,
}

/// Chunks that lie side by side in one pack.
pub(super) struct Run {
    pub pack: u32,
    pub chunks: Vec<RunChunk>,
    /// In the pack.
    pub start: u64,
    pub end: u64,
}

/// What is left to do when everything is written.
#[derive(Default)]
pub(super) struct Plan {
    pub directories: Vec<(PathBuf, Attributes)>,
}

pub(super) struct Planner {
    shared: Arc<Shared>,
    runs: Sender<Run>,
    run: Option<Run>,
    file: Option<(Arc<TargetFile>, u64)>,
    plan: Plan,
}

impl Planner {
    pub async fn run(shared: Arc<Shared>, runs: Sender<Run>) -> Result<Option<Plan>> {
        let mut planner = Self {
            shared: Arc::clone(&shared),
            runs,
            run: None,
            file: None,
            plan: Plan::default(),
        };
        for part in &shared.manifest.header.lists {
            let payload = tokio::select! {
                () = shared.stop.cancelled() => return Err(stopped()),
                payload = shared.manifest.get_list(&shared.repository, part) => payload?,
            };
            planner = on_thread(move || planner.part(&payload)).await?;
        }
        on_thread(move || planner.end()).await.map(Some)
    }

    fn part(mut self, payload: &Bytes) -> Result<Self> {
        for record in Records::new(payload) {
            let record = record.map_err(|why| Error::corrupt(format!("a list part {why}")))?;
            self.record(record)?;
        }
        Ok(self)
    }

    fn end(mut self) -> Result<Plan> {
        self.send()?;
        Ok(self.plan)
    }

    fn record(&mut self, record: Record) -> Result<()> {
        let targets = &self.shared.targets;
        match record {
            Record::Directory {
                root,
                path,
                attributes,
            } => {
                let path = targets.path(root, &path)?;
                make_directory(&path)?;
                self.plan.directories.push((path, attributes));
            }
            Record::Link {
                root,
                path,
                attributes,
                target,
            } => {
                targets.make_link(&targets.path(root, &path)?, &target, &attributes)?;
            }
            Record::File {
                root,
                path,
                attributes,
                bytes,
            } => {
                let path = targets.path(root, &path)?;
                let file = TargetFile::new(path, attributes, bytes, chunk::count(bytes));
                self.file = Some((Arc::new(file), 0));
            }
            Record::Zeros { count } => self.zeros(u64::from(count))?,
            Record::Chunks(chunks) => {
                for stored in chunks {
                    self.chunk(stored)?;
                }
            }
            Record::EndOfFile { .. } => {
                if let Some((file, _)) = self.file.take()
                    && file.done(1, targets)?
                {
                    self.shared.file_is_done();
                }
            }
        }
        Ok(())
    }

    fn zeros(&mut self, count: u64) -> Result<()> {
        let (file, next) = self.file.as_mut().ok_or_else(no_file)?;
        let from = *next * CHUNK_BYTES as u64;
        *next += count;
        let to = (*next * CHUNK_BYTES as u64).min(file.bytes());
        self.shared.progress.add_bytes(to - from);
        // The planner's own count is still open: the file is not finished here.
        file.done(count, &self.shared.targets).map(drop)
    }

    fn chunk(&mut self, stored: StoredChunk) -> Result<()> {
        let (file, next) = self.file.as_mut().ok_or_else(no_file)?;
        let chunk = RunChunk {
            file: Arc::clone(file),
            stored,
            offset: *next * CHUNK_BYTES as u64,
            plain_bytes: chunk::length(file.bytes(), *next),
        };
        *next += 1;
        let start = u64::from(stored.offset);
        let end = start + u64::from(stored.stored_bytes) + TAG_BYTES as u64;
        let burst_bytes = self.shared.repository.throttle().burst_bytes();
        let fits = self.run.as_ref().is_some_and(|run| {
            run.pack == stored.pack
                && run.end == start
                && end - run.start <= RUN_BYTES_MAX.min(burst_bytes)
                && run.chunks.len() < RUN_CHUNKS_MAX
        });
        if !fits {
            self.send()?;
        }
        let run = self.run.get_or_insert_with(|| Run {
            pack: stored.pack,
            chunks: Vec::new(),
            start,
            end,
        });
        run.end = end;
        run.chunks.push(chunk);
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        match self.run.take() {
            Some(run) => self.runs.blocking_send(run).map_err(|_| stopped()),
            None => Ok(()),
        }
    }
}

fn no_file() -> Error {
    Error::corrupt("a list has chunks of no file")
}
