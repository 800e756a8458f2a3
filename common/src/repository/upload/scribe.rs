//! Brings what the workers wrote back into the order of the walk, and writes the lists, part by
//! part, as they grow.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use tokio::sync::mpsc::Receiver;

use super::{
    BackupSource,
    session::Session,
    worker::{Line, Written},
};
use crate::{
    error::{Error, Result},
    repository::{
        header::Repository,
        known::Sorter,
        layout,
        list::{FileHasher, LIST_BYTES_MAX, Record},
        manifest::{
            LISTS_MAX, PACK_LISTS_MAX, PackRecord, PartRecord, TOO_LARGE, encode_pack_list,
            pack_list_parts,
        },
        object::ObjectKind,
        pack::StoredChunk,
        progress::Progress,
        stages::Stage,
    },
};

/// What the lists of a backup came to.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub lists: Vec<PartRecord>,
    pub pack_lists: Vec<PartRecord>,
    pub files: u64,
    pub logical_bytes: u64,
}

pub(super) struct Scribe<'a> {
    repository: &'a Repository,
    source: &'a BackupSource,
    session: &'a Arc<Session>,
    progress: &'a Progress,
    done: Lists,
    next_part: u32,
    next_unit: u64,
    /// Units that came before their turn; bounded by the places in the pipeline.
    early: BTreeMap<u64, Written>,
    hasher: FileHasher,
    payload: Vec<u8>,
    /// Every chunk of the backup, when somebody wants to remember them; or why that failed, which is
    /// no reason to fail the backup.
    chunks: Option<Result<Sorter>>,
}

impl<'a> Scribe<'a> {
    pub fn new(
        repository: &'a Repository,
        source: &'a BackupSource,
        session: &'a Arc<Session>,
        progress: &'a Progress,
        chunks: Option<Sorter>,
    ) -> Self {
        Self {
            repository,
            source,
            session,
            progress,
            done: Lists::default(),
            next_part: 0,
            next_unit: 0,
            early: BTreeMap::new(),
            hasher: FileHasher::default(),
            payload: Vec::new(),
            chunks: chunks.map(Ok),
        }
    }

    /// Writes everything that the workers send.
    pub async fn write(&mut self, mut written: Receiver<Written>) -> Result<()> {
        while let Some(unit) = written.recv().await {
            self.early.insert(unit.number, unit);
            while let Some(unit) = self.early.remove(&self.next_unit) {
                self.next_unit += 1;
                for line in unit.lines {
                    self.line(line).await?;
                }
            }
        }
        Ok(())
    }

    /// Writes what is left and the list of packs. Only when every worker has ended well: one that
    /// has not leaves a gap, and itself says why.
    pub async fn finish(mut self, packs: &[PackRecord]) -> Result<(Lists, Option<Result<Sorter>>)> {
        if !self.early.is_empty() {
            return Err(Error::internal("a piece of the backup was lost on the way"));
        }
        self.end_part().await?;
        for packs in pack_list_parts(packs) {
            let payload = encode_pack_list(packs)?;
            let part = self.put_part(ObjectKind::PackList, payload).await?;
            self.done.pack_lists.push(part);
        }
        if self.done.lists.len() > LISTS_MAX || self.done.pack_lists.len() > PACK_LISTS_MAX {
            return Err(Error::exhausted(format!(
                "the backup is too large for one manifest: it has {} lists of files and {} of packs, {LISTS_MAX} and {PACK_LISTS_MAX} are the limits",
                self.done.lists.len(),
                self.done.pack_lists.len()
            ))
            .hint(TOO_LARGE));
        }
        Ok((self.done, self.chunks))
    }

    async fn line(&mut self, line: Line) -> Result<()> {
        let record = match line {
            Line::Record(record) => record,
            Line::EndOfFile => {
                self.done.files += 1;
                self.progress.add_file();
                Record::EndOfFile {
                    hash: std::mem::take(&mut self.hasher).hash(),
                }
            }
        };
        match &record {
            Record::File { bytes, .. } => self.done.logical_bytes += bytes,
            Record::Zeros { count } => self.hasher.add_zeros(u64::from(*count)),
            Record::Chunks(chunks) => {
                chunks.iter().for_each(|c| self.hasher.add(&c.id));
                self.remember(chunks).await?;
            }
            _ => {}
        }
        let start = self.payload.len();
        record.encode(&mut self.payload);
        if self.payload.len() > LIST_BYTES_MAX {
            let begun = self.payload.split_off(start);
            self.end_part().await?;
            self.payload = begun;
        }
        Ok(())
    }

    async fn remember(&mut self, chunks: &[StoredChunk]) -> Result<()> {
        for chunk in chunks {
            let Some(Ok(sorter)) = &mut self.chunks else {
                return Ok(());
            };
            if !sorter.add(chunk) {
                continue;
            }
            if let Some(Ok(mut full)) = self.chunks.take() {
                let spilt = tokio::task::spawn_blocking(move || full.spill().map(|()| full));
                let spilt = spilt.await.map_err(|e| {
                    Error::internal(format!("the thread that sorts chunks died: {e}"))
                })?;
                self.chunks = Some(spilt);
            }
        }
        Ok(())
    }

    async fn end_part(&mut self) -> Result<()> {
        if self.payload.is_empty() {
            return Ok(());
        }
        let payload = std::mem::take(&mut self.payload);
        let part = self.put_part(ObjectKind::List, payload).await?;
        self.done.lists.push(part);
        Ok(())
    }

    async fn put_part(&mut self, kind: ObjectKind, payload: Vec<u8>) -> Result<PartRecord> {
        let number = self.next_part;
        self.next_part += 1;
        let session = Arc::clone(self.session);
        let object = tokio::task::spawn_blocking(move || session.part(kind, number, &payload))
            .await
            .map_err(|e| Error::internal(format!("the thread that seals a part died: {e}")))??;
        let part = PartRecord {
            number,
            bytes: object.len() as u64,
            hash: blake3::hash(&object).to_hex().to_string(),
        };
        let key = layout::part(&self.source.shard, &self.source.name, number);
        let store = self.repository.store();
        let put = store.put_create(&key, Bytes::from(object));
        self.progress.stages().time_request(Stage::Put, put).await?;
        Ok(part)
    }
}
