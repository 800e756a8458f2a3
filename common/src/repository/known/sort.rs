//! Sorts any number of chunk records with a bounded memory: what does not fit goes to files, which
//! are merged in the end. The files have no names and go with the process.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::{File, OpenOptions},
    io::{BufReader, BufWriter, ErrorKind, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use crate::{
    error::{Error, Result},
    repository::{
        list::{CHUNK_BYTES_IN_LIST, encode_chunk},
        manifest::TOO_LARGE,
        pack::StoredChunk,
    },
};

pub(super) const RECORD_BYTES: usize = CHUNK_BYTES_IN_LIST;
/// A chunk as in a list: its id first, so that records sort by it.
pub(super) type IndexRecord = [u8; RECORD_BYTES];

/// Records that are sorted in memory: about 13 MB.
const BATCH_RECORDS: usize = 1 << 18;
/// Files that are merged at once: enough for 128 TiB.
const RUNS_MAX: usize = 512;
const RUN_BUFFER_BYTES: usize = 32 << 10;

/// Takes records in any order and gives them back by id.
#[derive(Debug)]
pub(in super::super) struct Sorter {
    directory: PathBuf,
    batch_records: usize,
    batch: Vec<IndexRecord>,
    runs: Vec<File>,
}

impl Sorter {
    pub fn new(directory: &Path) -> Self {
        Self::with_batches(directory, BATCH_RECORDS)
    }

    pub(super) fn with_batches(directory: &Path, batch_records: usize) -> Self {
        Self {
            directory: directory.to_owned(),
            batch_records,
            batch: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// Adds a chunk; `true`: [`Self::spill`] is due.
    pub fn add(&mut self, chunk: &StoredChunk) -> bool {
        let mut bytes = Vec::with_capacity(RECORD_BYTES);
        encode_chunk(&mut bytes, chunk);
        let mut record = [0; RECORD_BYTES];
        record.copy_from_slice(&bytes);
        self.batch.push(record);
        self.batch.len() >= self.batch_records
    }

    /// Writes what is in memory to a file. Blocks.
    pub fn spill(&mut self) -> Result<()> {
        if self.runs.len() == RUNS_MAX {
            return Err(Error::exhausted(format!(
                "the backup has more than {} chunks: no list of them can be made to know them again",
                RUNS_MAX * self.batch_records
            ))
            .hint(TOO_LARGE));
        }
        self.batch.sort_unstable();
        let path = self.directory.join(format!(".{}.run", Uuid::new_v4()));
        let failed = |e: std::io::Error| Error::io("write", &path, &e);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        std::fs::remove_file(&path).map_err(failed)?;
        let mut writer = BufWriter::with_capacity(RUN_BUFFER_BYTES, file);
        for record in &self.batch {
            writer.write_all(record).map_err(failed)?;
        }
        let mut file = writer.into_inner().map_err(|e| failed(e.into_error()))?;
        file.rewind().map_err(failed)?;
        self.runs.push(file);
        self.batch.clear();
        Ok(())
    }

    /// Shows every record once, by id; of several with one id the first. Blocks.
    pub fn merge(mut self, mut visit: impl FnMut(&IndexRecord) -> Result<()>) -> Result<u64> {
        self.batch.sort_unstable();
        let failed = |e: std::io::Error| Error::io("read a list in", &self.directory, &e);
        let mut runs: Vec<BufReader<File>> = std::mem::take(&mut self.runs)
            .into_iter()
            .map(|file| BufReader::with_capacity(RUN_BUFFER_BYTES, file))
            .collect();
        let mut in_memory = self.batch.iter();
        let mut heap = BinaryHeap::new();
        for (number, run) in runs.iter_mut().enumerate() {
            heap.extend(next_of(run).map_err(failed)?.map(|r| Reverse((r, number))));
        }
        let memory = runs.len();
        heap.extend(in_memory.next().map(|r| Reverse((*r, memory))));
        let (mut last, mut count) = (None, 0);
        while let Some(Reverse((record, number))) = heap.pop() {
            let next = match runs.get_mut(number) {
                Some(run) => next_of(run).map_err(failed)?,
                None => in_memory.next().copied(),
            };
            heap.extend(next.map(|r| Reverse((r, number))));
            let id: [u8; 32] = *record.first_chunk().unwrap_or(&[0; 32]);
            if last != Some(id) {
                visit(&record)?;
                (last, count) = (Some(id), count + 1);
            }
        }
        Ok(count)
    }
}

fn next_of(run: &mut impl Read) -> std::io::Result<Option<IndexRecord>> {
    let mut record = [0; RECORD_BYTES];
    match run.read_exact(&mut record) {
        Ok(()) => Ok(Some(record)),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}
