//! Cuts what the walk finds into units of work: some megabytes of one file, or many small files
//! together, so that what lies side by side in a directory lies side by side in a pack.

use std::{
    fs::Metadata,
    path::PathBuf,
    sync::{Arc, OnceLock, mpsc::Sender},
};

use super::walk::{Entry, Found, Sources};
use crate::{
    error::{Error, Result},
    repository::{
        chunk::{self, CHUNK_BYTES},
        list::Record,
        page_check::FilePages,
        pool::{Lent, Pool},
    },
};

/// A unit reads about this much.
const UNIT_CHUNKS: u64 = 8;
const UNIT_PIECES_MAX: usize = 256;

pub(super) struct SourceFile {
    /// Name of its root, and where it lies below it.
    pub root: Arc<str>,
    pub relative: Vec<u8>,
    pub path: PathBuf,
    /// As the walk saw it: it must not change until it was read.
    pub meta: Metadata,
    /// The engine's check of its pages, once it was looked for.
    pub pages: OnceLock<Option<Box<dyn FilePages>>>,
}

pub(super) enum Piece {
    /// Goes into the list as it is.
    Record(Record),
    /// Chunks of a file that are to be read.
    Chunks {
        file: Arc<SourceFile>,
        first: u64,
        count: u64,
    },
    EndOfFile,
}

/// Work for one worker. Its place in the pipeline is free again when its results are in a list.
pub(super) struct Unit {
    pub number: u64,
    pub pieces: Vec<Piece>,
    pub place: Lent<()>,
}

struct Feeder<'a> {
    root_names: Vec<Arc<str>>,
    places: &'a Pool<()>,
    units: &'a Sender<Unit>,
    number: u64,
    pieces: Vec<Piece>,
    bytes: u64,
}

/// Walks the roots and sends units until there is nothing left, or nobody takes them any more.
pub(super) fn feed(sources: &Sources, places: &Pool<()>, units: &Sender<Unit>) -> Result<()> {
    let mut feeder = Feeder {
        root_names: sources.root_names(),
        places,
        units,
        number: 0,
        pieces: Vec::new(),
        bytes: 0,
    };
    sources.walk(&mut |entry| feeder.add(entry))?;
    feeder.send()
}

impl Feeder<'_> {
    fn add(&mut self, entry: Entry) -> Result<()> {
        let Entry {
            root,
            path,
            full_path,
            attributes,
            found,
        } = entry;
        match found {
            Found::Directory => self.push(Piece::Record(Record::Directory {
                root,
                path,
                attributes,
            })),
            Found::Link { target } => self.push(Piece::Record(Record::Link {
                root,
                path,
                attributes,
                target,
            })),
            Found::File(meta) => {
                let bytes = meta.len();
                let name = self.root_names.get(usize::from(root)).cloned();
                let file = Arc::new(SourceFile {
                    root: name.ok_or_else(|| Error::internal("a file in no root"))?,
                    relative: path.clone(),
                    path: full_path,
                    meta,
                    pages: OnceLock::new(),
                });
                self.push(Piece::Record(Record::File {
                    root,
                    path,
                    attributes,
                    bytes,
                }))?;
                self.add_chunks(&file, bytes)?;
                self.push(Piece::EndOfFile)
            }
        }
    }

    fn add_chunks(&mut self, file: &Arc<SourceFile>, bytes: u64) -> Result<()> {
        let chunks = chunk::count(bytes);
        for first in (0..chunks).step_by(UNIT_CHUNKS as usize) {
            let count = UNIT_CHUNKS.min(chunks - first);
            self.bytes += if first + count == chunks {
                bytes - first * CHUNK_BYTES as u64
            } else {
                count * CHUNK_BYTES as u64
            };
            self.push(Piece::Chunks {
                file: Arc::clone(file),
                first,
                count,
            })?;
        }
        Ok(())
    }

    fn push(&mut self, piece: Piece) -> Result<()> {
        self.pieces.push(piece);
        let full = self.bytes >= UNIT_CHUNKS * CHUNK_BYTES as u64;
        if full || self.pieces.len() >= UNIT_PIECES_MAX {
            self.send()?;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        if self.pieces.is_empty() {
            return Ok(());
        }
        let ended = || Error::cancelled("the backup was stopped");
        let place = self.places.take().ok_or_else(ended)?;
        let unit = Unit {
            number: self.number,
            pieces: std::mem::take(&mut self.pieces),
            place,
        };
        self.number += 1;
        self.bytes = 0;
        self.units.send(unit).map_err(|_| ended())
    }
}
