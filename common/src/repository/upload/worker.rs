//! A worker: reads, hashes, compresses, seals and packs, each chunk in one go and in buffers that
//! it keeps.

use std::{
    fs::{File, Metadata, OpenOptions},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    sync::{Arc, Mutex, PoisonError, mpsc::Receiver},
};

use nix::{
    errno::Errno,
    fcntl::{PosixFadviseAdvice, posix_fadvise},
    libc,
    unistd::{Whence, lseek},
};
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

use super::{
    feed::{Piece, SourceFile, Unit},
    pages::Damage,
    references::References,
    session::Session,
};
use crate::{
    error::{Error, Result},
    repository::{
        chunk::{self, CHUNK_BYTES},
        compress::ChunkCompressor,
        list::Record,
        object::ObjectKind,
        pack::{ClosedPack, PackWriter, StoredChunk},
        pool::{Lent, Pool},
        progress::Progress,
        stages::Stage,
        throttle::Throttle,
    },
};

/// What the workers of one backup have in common.
pub(super) struct Shared {
    pub stop: CancellationToken,
    pub session: Arc<Session>,
    pub references: Arc<References>,
    pub damage: Arc<Damage>,
    pub buffers: Pool<Vec<u8>>,
    pub progress: Progress,
    pub throttle: Throttle,
    pub units: Mutex<Receiver<Unit>>,
    pub packs: Sender<ClosedPack>,
    pub written: Sender<Written>,
}

/// What became of a unit: what its place in the list says.
pub(super) struct Written {
    pub number: u64,
    pub lines: Vec<Line>,
    /// Free again when this is dropped: when the lines are in the list.
    pub _place: Lent<()>,
}

pub(super) enum Line {
    Record(Record),
    /// The scribe knows the file's hash.
    EndOfFile,
}

pub(super) struct Worker {
    shared: Arc<Shared>,
    compressor: ChunkCompressor,
    plain: Vec<u8>,
    pack: Option<PackWriter>,
}

impl Worker {
    pub fn new(shared: Arc<Shared>) -> Result<Self> {
        Ok(Self {
            shared,
            compressor: ChunkCompressor::new()?,
            plain: vec![0; CHUNK_BYTES],
            pack: None,
        })
    }

    /// Works until there are no units any more, on a thread that may block.
    pub fn run(mut self) -> Result<()> {
        while let Some(unit) = self.next() {
            let written = self.work(unit)?;
            self.shared
                .written
                .blocking_send(written)
                .map_err(|_| stopped())?;
        }
        self.close_pack()
    }

    fn next(&self) -> Option<Unit> {
        let units = self
            .shared
            .units
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        units.recv().ok()
    }

    fn work(&mut self, unit: Unit) -> Result<Written> {
        let mut lines = Vec::new();
        for piece in unit.pieces {
            match piece {
                Piece::Record(record) => lines.push(Line::Record(record)),
                Piece::EndOfFile => lines.push(Line::EndOfFile),
                Piece::Chunks { file, first, count } => {
                    self.read_chunks(&file, first, count, &mut lines)?;
                }
            }
        }
        Ok(Written {
            number: unit.number,
            lines,
            _place: unit.place,
        })
    }

    fn read_chunks(
        &mut self,
        source: &SourceFile,
        first: u64,
        count: u64,
        lines: &mut Vec<Line>,
    ) -> Result<()> {
        let bytes = source.meta.len();
        let file = open_unchanged(source)?;
        let pages = self.shared.damage.pages_of(source, &file)?;
        let is_sparse = source.meta.blocks() * 512 < bytes;
        read_ahead(&file, first, count);
        let mut chunks: Vec<StoredChunk> = Vec::new();
        let mut zeros = 0;
        for number in first..first + count {
            if self.shared.stop.is_cancelled() {
                return Err(stopped());
            }
            let length = chunk::length(bytes, number);
            let offset = number * CHUNK_BYTES as u64;
            let in_hole = is_sparse && is_hole(&file, offset, length as u64);
            let plain = &mut self.plain[..length];
            if in_hole {
                plain.fill(0);
            } else {
                self.shared
                    .progress
                    .stages()
                    .time(Stage::Read, || file.read_exact_at(plain, offset))
                    .map_err(|e| read_failed(source, &e))?;
            }
            let is_zero = in_hole || chunk::is_zero(plain);
            if let Some(pages) = pages
                && (number == 0 || !is_zero)
            {
                let stages = self.shared.progress.stages();
                stages.time(Stage::CheckPages, || {
                    self.shared.damage.look(source, pages, offset, plain);
                });
            }
            if is_zero {
                end_chunks(&mut chunks, lines);
                zeros += 1;
            } else {
                end_zeros(&mut zeros, lines);
                chunks.push(self.store(length)?);
            }
            self.shared.progress.add_bytes(length as u64);
        }
        end_chunks(&mut chunks, lines);
        end_zeros(&mut zeros, lines);
        let meta = file
            .metadata()
            .map_err(|e| Error::io("examine", &source.path, &e))?;
        check_unchanged(source, &meta)
    }

    /// Hashes the first `length` bytes of the buffer, and packs them unless storage holds them.
    fn store(&mut self, length: usize) -> Result<StoredChunk> {
        let plain = &self.plain[..length];
        let stages = self.shared.progress.stages();
        let id = *stages.time(Stage::Hash, || blake3::hash(plain)).as_bytes();
        let references = &self.shared.references;
        if let Some(known) = stages.time(Stage::LookUp, || references.find(&id, length))? {
            return Ok(known);
        }
        let mut pack = match self.pack.take() {
            Some(pack) => pack,
            None => self.open_pack()?,
        };
        let stored = pack.add(id, plain, &mut self.compressor, stages)?;
        let is_full = pack.is_full(self.shared.throttle.burst_bytes());
        self.pack = Some(pack);
        if is_full {
            self.close_pack()?;
        }
        Ok(stored)
    }

    fn open_pack(&self) -> Result<PackWriter> {
        let stages = self.shared.progress.stages();
        let buffer = stages
            .time(Stage::WaitForStore, || self.shared.buffers.take())
            .ok_or_else(stopped)?;
        let number = self.shared.references.next_pack();
        let (prefix, sealer) = self.shared.session.object(ObjectKind::Pack)?;
        Ok(PackWriter::new(number, prefix, sealer, buffer))
    }

    fn close_pack(&mut self) -> Result<()> {
        let Some(pack) = self.pack.take() else {
            return Ok(());
        };
        let stages = self.shared.progress.stages();
        let closed = pack.close(stages)?;
        stages
            .time(Stage::WaitForStore, || {
                self.shared.packs.blocking_send(closed)
            })
            .map_err(|_| stopped())
    }
}

/// Never seen by anybody: whoever stopped the workers has the reason.
fn stopped() -> Error {
    Error::cancelled("the backup was stopped")
}

fn end_chunks(chunks: &mut Vec<StoredChunk>, lines: &mut Vec<Line>) {
    if !chunks.is_empty() {
        lines.push(Line::Record(Record::Chunks(std::mem::take(chunks))));
    }
}

fn end_zeros(zeros: &mut u32, lines: &mut Vec<Line>) {
    if *zeros > 0 {
        lines.push(Line::Record(Record::Zeros { count: *zeros }));
        *zeros = 0;
    }
}

fn open_unchanged(source: &SourceFile) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&source.path)
        .map_err(|e| Error::io("open", &source.path, &e))?;
    let meta = file
        .metadata()
        .map_err(|e| Error::io("examine", &source.path, &e))?;
    check_unchanged(source, &meta)?;
    Ok(file)
}

fn check_unchanged(source: &SourceFile, now: &Metadata) -> Result<()> {
    let identity = |meta: &Metadata| {
        (
            meta.dev(),
            meta.ino(),
            meta.len(),
            meta.mtime(),
            meta.mtime_nsec(),
        )
    };
    if identity(&source.meta) == identity(now) {
        return Ok(());
    }
    Err(changed(source))
}

fn changed(source: &SourceFile) -> Error {
    Error::refused(format!(
        "{} changed while it was read",
        source.path.display()
    ))
    .hint("Something writes to it although the database is stopped.")
}

fn read_failed(source: &SourceFile, error: &std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        return changed(source);
    }
    Error::io("read", &source.path, error)
}

/// Only advice: a kernel that does not take it reads as well.
fn read_ahead(file: &File, first: u64, count: u64) {
    let offset = i64::try_from(first * CHUNK_BYTES as u64).unwrap_or(0);
    let length = i64::try_from(count * CHUNK_BYTES as u64).unwrap_or(0);
    let _ = posix_fadvise(
        file,
        offset,
        length,
        PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL,
    );
    let _ = posix_fadvise(
        file,
        offset,
        length,
        PosixFadviseAdvice::POSIX_FADV_WILLNEED,
    );
}

/// Whether a whole chunk lies in a hole.
fn is_hole(file: &File, offset: u64, length: u64) -> bool {
    let Ok(from) = i64::try_from(offset) else {
        return false;
    };
    match lseek(file, from, Whence::SeekData) {
        Ok(data) => u64::try_from(data).is_ok_and(|data| data >= offset + length),
        // No data behind this place.
        Err(Errno::ENXIO) => true,
        Err(_) => false,
    }
}
