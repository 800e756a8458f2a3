//! Reads the lists, makes directories and links, and hands on the chunks of the files in windows.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use tokio::sync::mpsc::Sender;

use super::{
    Shared, stopped,
    target::make_directory,
    target_file::TargetFile,
    tidy::{Kind, Tidy},
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

/// A window is what is gathered into runs together. Workers of a backup fill packs side by side, so
/// it is larger than a run: what one of them took lies apart in the lists, and together in a pack.
const WINDOW_BYTES_MAX: u64 = 64 << 20;
const WINDOW_CHUNKS_MAX: usize = 1024;

/// A chunk and the place that it is to have in a file.
pub(super) struct Wanted {
    pub file: Arc<TargetFile>,
    pub stored: StoredChunk,
    /// In the file.
    pub offset: u64,
    pub plain_bytes: usize,
}

impl Wanted {
    /// Where its stored form with the tag begins and ends.
    pub fn place_in_pack(&self) -> (u64, u64) {
        let start = u64::from(self.stored.offset);
        let sealed_bytes = u64::from(self.stored.stored_bytes) + TAG_BYTES as u64;
        (start, start + sealed_bytes)
    }

    /// Whether the same stored chunk is meant.
    pub fn is_same(&self, other: &Wanted) -> bool {
        self.stored == other.stored && self.plain_bytes == other.plain_bytes
    }
}

/// What is left to do when everything is written.
#[derive(Default)]
pub(super) struct Plan {
    pub directories: Vec<(PathBuf, Attributes)>,
}

pub(super) struct Planner {
    shared: Arc<Shared>,
    windows: Sender<Vec<Wanted>>,
    window: Vec<Wanted>,
    window_bytes: u64,
    /// And the number of its next chunk.
    file: Option<(Arc<TargetFile>, u64)>,
    tidy: Tidy,
    plan: Plan,
}

impl Planner {
    pub async fn run(shared: Arc<Shared>, windows: Sender<Vec<Wanted>>) -> Result<Option<Plan>> {
        let mut planner = Self {
            shared: Arc::clone(&shared),
            windows,
            window: Vec::new(),
            window_bytes: 0,
            file: None,
            tidy: Tidy::default(),
            plan: Plan::default(),
        };
        for part in &shared.manifest.header.lists {
            let payload = tokio::select! {
                () = shared.stop.cancelled() => return Err(stopped()),
                payload = shared.manifest.get_list(&shared.repository, part) => payload?,
            };
            planner = shared.on_disk(move || planner.part(&payload)).await?;
        }
        shared.on_disk(move || planner.end()).await.map(Some)
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
        if !self.shared.is_plan {
            self.tidy.finish(&self.shared.targets.roots)?;
        }
        Ok(self.plan)
    }

    fn record(&mut self, record: Record) -> Result<()> {
        match record {
            Record::Directory {
                root,
                path,
                attributes,
            } => self.directory(root, &path, attributes),
            Record::Link {
                root,
                path,
                attributes,
                target,
            } => self.link(root, &path, &target, &attributes),
            Record::File {
                root,
                path,
                attributes,
                bytes,
            } => self.begin_file(root, &path, attributes, bytes),
            Record::Zeros { count } => self.zeros(u64::from(count)),
            Record::Chunks(chunks) => self.chunks(&chunks),
            Record::EndOfFile { .. } => self.end_file(),
        }
    }

    /// Whether an earlier restore has left it, so that it can be gone on with.
    fn finds(&mut self, root: u16, path: &[u8], kind: Kind) -> Result<bool> {
        let targets = &self.shared.targets;
        if !self.shared.is_plan {
            return self.tidy.finds(&targets.roots, root, path, kind);
        }
        let is_resumed = targets.root(root)?.resume;
        let full_path = targets.path(root, path)?;
        Ok(is_resumed && full_path.symlink_metadata().is_ok_and(|m| m.is_file()))
    }

    fn directory(&mut self, root: u16, path: &[u8], attributes: Attributes) -> Result<()> {
        let is_there = self.finds(root, path, Kind::Directory)?;
        if self.shared.is_plan {
            return Ok(());
        }
        let path = self.shared.targets.path(root, path)?;
        if !is_there {
            make_directory(&path)?;
        }
        self.plan.directories.push((path, attributes));
        Ok(())
    }

    fn link(
        &mut self,
        root: u16,
        path: &[u8],
        target: &[u8],
        attributes: &Attributes,
    ) -> Result<()> {
        self.finds(root, path, Kind::Link)?;
        if self.shared.is_plan {
            return Ok(());
        }
        let targets = &self.shared.targets;
        targets.make_link(&targets.path(root, path)?, target, attributes)
    }

    fn begin_file(
        &mut self,
        root: u16,
        path: &[u8],
        attributes: Attributes,
        bytes: u64,
    ) -> Result<()> {
        let is_kept = self.finds(root, path, Kind::File)?;
        let targets = &self.shared.targets;
        let file = TargetFile::new(
            targets.path(root, path)?,
            targets.old_path(root, path)?,
            is_kept,
            bytes,
            attributes,
        );
        self.file = Some((Arc::new(file), 0));
        Ok(())
    }

    fn end_file(&mut self) -> Result<()> {
        let Some((file, _)) = self.file.take() else {
            return Err(no_file());
        };
        if !self.shared.is_plan
            && file.done(1, &self.shared.targets, self.shared.progress.stages())?
        {
            self.shared.file_is_done();
        }
        Ok(())
    }

    fn zeros(&mut self, count: u64) -> Result<()> {
        let (file, next) = self.file.as_mut().ok_or_else(no_file)?;
        let from = *next * CHUNK_BYTES as u64;
        *next += count;
        let to = (*next * CHUNK_BYTES as u64).min(file.bytes());
        self.shared.progress.add_bytes(to - from);
        if self.shared.is_plan {
            return Ok(());
        }
        file.clear(from, to - from)?;
        // The planner's own count is still open: the file is not finished here.
        file.done(count, &self.shared.targets, self.shared.progress.stages())
            .map(drop)
    }

    fn chunks(&mut self, chunks: &[StoredChunk]) -> Result<()> {
        let (file, next) = self.file.clone().ok_or_else(no_file)?;
        if !self.shared.is_plan {
            let from = next * CHUNK_BYTES as u64;
            let to = from + (chunks.len() * CHUNK_BYTES) as u64;
            file.reserve(from, to.min(file.bytes()) - from)?;
        }
        for (number, stored) in (next..).zip(chunks) {
            self.window.push(Wanted {
                file: Arc::clone(&file),
                stored: *stored,
                offset: number * CHUNK_BYTES as u64,
                plain_bytes: chunk::length(file.bytes(), number),
            });
            self.window_bytes += chunk::length(file.bytes(), number) as u64;
            let is_full =
                self.window_bytes >= WINDOW_BYTES_MAX || self.window.len() >= WINDOW_CHUNKS_MAX;
            if is_full {
                self.send()?;
            }
        }
        self.file = Some((file, next + chunks.len() as u64));
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        self.window_bytes = 0;
        if self.window.is_empty() {
            return Ok(());
        }
        self.windows
            .blocking_send(std::mem::take(&mut self.window))
            .map_err(|_| stopped())
    }
}

fn no_file() -> Error {
    Error::corrupt("a list has chunks of no file")
}
