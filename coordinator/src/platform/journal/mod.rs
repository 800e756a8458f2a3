//! The medium of the log: files to which changes are appended, and in memory where each record lies.
//! Why it is our own: `docs/decisions/0018`.
//!
//! What always holds: all that is synced at once is one frame, and the next is written when it is on
//! disk. So only the last frame of the last file can be one that was not acknowledged: it is dropped
//! when it is not whole. Frames are numbered without a gap, over all files: whatever else is missing
//! or damaged is noticed when the log is opened, and refused. A file that has no record any more is
//! removed, the oldest first; each begins with all marks, so that none is lost with an older one.
//!
//! One thread writes; any may read.

mod frame;
mod segment;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    ops::{Bound, RangeInclusive},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use seawall_common::{Error, Result};

use self::{
    frame::Decoded,
    segment::{Opened, Segment, missing},
};
use super::{
    files::{self, DirectoryLock},
    medium::{Change, Medium, Order, Tree},
};

/// A segment that has grown to this is the last no more. Records for which it has no room make it
/// longer. Each costs a few syncs when it is made and when it goes, and is read when the log is opened.
const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Segments that go at one sync, at most: others wait for it.
const REMOVED_MAX: usize = 2;
/// What a file system of its own may have in it.
const LOST_AND_FOUND: &str = "lost+found";

/// Whether a log that is not there is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    Make,
    /// There was one: it is gone, with what it acknowledged.
    Refuse,
}

pub struct Journal {
    directory: PathBuf,
    segment_bytes: u64,
    inner: Mutex<Inner>,
    _lock: DirectoryLock,
}

struct Inner {
    /// The oldest first. The last is the one that is written.
    segments: VecDeque<Segment>,
    records: BTreeMap<u64, Place>,
    marks: BTreeMap<u64, Vec<u8>>,
    /// The number of the next frame, and what it will hold.
    number: u64,
    pending: Vec<u8>,
}

/// Where a record's value lies: in the segment of this first frame, in the file or pending.
#[derive(Clone, Copy)]
struct Place {
    segment: u64,
    offset: u64,
    length: usize,
}

impl Journal {
    pub fn open(directory: &Path, if_missing: Missing) -> Result<Self> {
        Self::open_with(directory, if_missing, SEGMENT_BYTES)
    }

    fn open_with(directory: &Path, if_missing: Missing, segment_bytes: u64) -> Result<Self> {
        let failed = |e: std::io::Error| Error::io("create", directory, &e);
        files::create_directory(directory).map_err(failed)?;
        let lock = DirectoryLock::take(directory)?;
        let paths = Segment::paths(directory)?;
        let mut inner = Inner {
            segments: VecDeque::new(),
            records: BTreeMap::new(),
            marks: BTreeMap::new(),
            number: 1,
            pending: Vec::new(),
        };
        inner.read(directory, &paths)?;
        if inner.segments.is_empty() {
            may_make(directory, if_missing)?;
            let first = Segment::create(directory, inner.number, segment_bytes)?;
            inner.segments.push_back(first);
        }
        for path in [Some(directory), directory.parent()].into_iter().flatten() {
            files::sync_directory(path).map_err(|e| Error::io("sync", path, &e))?;
        }
        Ok(Self {
            directory: directory.to_owned(),
            segment_bytes,
            inner: Mutex::new(inner),
            _lock: lock,
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A member whose log is gone must not come back with an empty one: it would not know what it has
/// acknowledged.
fn may_make(directory: &Path, if_missing: Missing) -> Result<()> {
    let inside = files::list(directory).map_err(|e| Error::io("read", directory, &e))?;
    if !inside.iter().all(|path| path.ends_with(LOST_AND_FOUND)) {
        return Err(missing(
            directory,
            "what lies there is no log of this version",
        ));
    }
    match if_missing {
        Missing::Make => Ok(()),
        Missing::Refuse => Err(missing(directory, "it is gone, and this member had one")),
    }
}

impl Inner {
    fn read(&mut self, directory: &Path, paths: &[PathBuf]) -> Result<()> {
        let mut last = None;
        for (index, path) in paths.iter().enumerate() {
            match Segment::open(path)? {
                Some(opened) => {
                    if let Some(sealed) = last.replace(opened) {
                        self.take(directory, sealed)?;
                    }
                }
                // Made when the power went: the one before is whole, and goes on.
                None if index + 1 == paths.len() => {
                    tracing::warn!("{}: nothing was written to it", path.display());
                    files::remove(path).map_err(|e| Error::io("remove", path, &e))?;
                }
                None => return Err(segment::damaged(path, "all of it")),
            }
        }
        if let Some(last) = last {
            self.check_number(directory, &last)?;
            last.settle()?;
            self.take(directory, last)?;
        }
        Ok(())
    }

    fn check_number(&self, directory: &Path, opened: &Opened) -> Result<()> {
        match self.segments.is_empty() || opened.segment.first == self.number {
            true => Ok(()),
            false => Err(missing(
                directory,
                &format!("frame {} is missing", self.number),
            )),
        }
    }

    fn take(&mut self, directory: &Path, opened: Opened) -> Result<()> {
        self.check_number(directory, &opened)?;
        let Opened {
            segment, frames, ..
        } = opened;
        let first = segment.first;
        self.number = first;
        self.segments.push_back(segment);
        for (offset, payload) in frames {
            let damaged = || missing(directory, &format!("frame {} is damaged", self.number));
            let changes = frame::decode(&payload).ok_or_else(damaged)?;
            for Decoded {
                tree,
                number,
                value,
            } in changes
            {
                match tree {
                    Tree::Marks => self.mark(number, value.map(|value| value.of(&payload))),
                    Tree::Records => self.record(
                        number,
                        value.map(|value| Place {
                            segment: first,
                            offset: offset + value.offset as u64,
                            length: value.length,
                        }),
                    ),
                }
            }
            self.number += 1;
        }
        Ok(())
    }

    fn mark(&mut self, number: u64, value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.marks.insert(number, value),
            None => self.marks.remove(&number),
        };
    }

    fn record(&mut self, number: u64, place: Option<Place>) {
        let old = match place {
            Some(place) => {
                self.count(place.segment, |live| live + 1);
                self.records.insert(number, place)
            }
            None => self.records.remove(&number),
        };
        if let Some(old) = old {
            self.count(old.segment, |live| live - 1);
        }
    }

    fn count(&mut self, first: u64, count: impl Fn(usize) -> usize) {
        let at = self
            .segments
            .binary_search_by_key(&first, |segment| segment.first);
        if let Ok(at) = at {
            self.segments[at].live = count(self.segments[at].live);
        }
    }

    fn last(&self) -> Result<&Segment> {
        self.segments
            .back()
            .ok_or_else(|| Error::internal("a log without a file"))
    }

    fn put(&mut self, tree: Tree, change: Change) -> Result<()> {
        let value = frame::encode(tree, &change, &mut self.pending)?;
        match (tree, change) {
            (Tree::Marks, Change::Put(number, value)) => self.mark(number, Some(value)),
            (Tree::Marks, Change::Delete(number)) => self.mark(number, None),
            (Tree::Records, Change::Delete(number)) => self.record(number, None),
            (Tree::Records, Change::Put(number, _)) => {
                let place = Place {
                    segment: self.last()?.first,
                    offset: self.last()?.payload_offset() + value.offset as u64,
                    length: value.length,
                };
                self.record(number, Some(place));
            }
        }
        Ok(())
    }

    /// A segment that is full is followed by another; and each begins with all marks, also one that
    /// was made just before the power went.
    fn begin_frame(&mut self, directory: &Path, segment_bytes: u64) -> Result<()> {
        if self.last()?.length >= segment_bytes {
            let next = Segment::create(directory, self.number, segment_bytes)?;
            self.segments.push_back(next);
        }
        if !self.last()?.is_empty() {
            return Ok(());
        }
        for (number, value) in &self.marks {
            let mark = Change::Put(*number, value.clone());
            frame::encode(Tree::Marks, &mark, &mut self.pending)?;
        }
        Ok(())
    }

    /// The oldest segments that have no records, out of the list.
    fn emptied(&mut self) -> Vec<Segment> {
        let mut gone = Vec::new();
        while gone.len() < REMOVED_MAX
            && self.segments.len() > 1
            && let Some(oldest) = self.segments.pop_front_if(|oldest| oldest.live == 0)
        {
            gone.push(oldest);
        }
        gone
    }

    fn value(&self, place: Place) -> Result<Vec<u8>> {
        let at = self
            .segments
            .binary_search_by_key(&place.segment, |segment| segment.first);
        let segment = at.ok().and_then(|at| self.segments.get(at));
        let segment = segment.ok_or_else(|| Error::internal("a record in no file of the log"))?;
        if place.offset + place.length as u64 > segment.length {
            let begin = place.offset - segment.payload_offset();
            let begin = usize::try_from(begin).unwrap_or(usize::MAX);
            let value = self.pending.get(begin..begin.saturating_add(place.length));
            let value =
                value.ok_or_else(|| Error::internal("a record beyond the end of the log"))?;
            return Ok(value.to_vec());
        }
        let mut value = vec![0; place.length];
        let read = segment.file.read_at(&mut value, place.offset);
        read.map_err(|e| segment.damaged(&format!("a record ({e})")))?;
        Ok(value)
    }
}

impl Medium for Journal {
    fn apply(&self, tree: Tree, changes: Vec<Change>) -> Result<()> {
        let mut inner = self.inner();
        if inner.pending.is_empty() {
            inner.begin_frame(&self.directory, self.segment_bytes)?;
        }
        changes
            .into_iter()
            .try_for_each(|change| inner.put(tree, change))
    }

    fn sync(&self) -> Result<()> {
        let (frame, file, offset) = {
            let inner = self.inner();
            if inner.pending.is_empty() {
                return Ok(());
            }
            let last = inner.last()?;
            let frame = frame::framed(last.salt, inner.number, &inner.pending)?;
            (frame, last.file.clone(), last.length)
        };
        // Who reads does not wait for the disk meanwhile.
        let written = file.write_at(&frame, offset).and_then(|()| file.sync());
        written.map_err(|e| Error::io("write", &self.directory, &e))?;
        let mut inner = self.inner();
        inner.number += 1;
        inner.pending.clear();
        if let Some(last) = inner.segments.back_mut() {
            last.length += frame.len() as u64;
        }
        let gone = inner.emptied();
        drop(inner);
        gone.into_iter().try_for_each(Segment::remove)
    }

    fn get(&self, tree: Tree, number: u64) -> Result<Option<Vec<u8>>> {
        let inner = self.inner();
        match tree {
            Tree::Marks => Ok(inner.marks.get(&number).cloned()),
            Tree::Records => {
                let place = inner.records.get(&number);
                place.map(|place| inner.value(*place)).transpose()
            }
        }
    }

    fn keys(&self, range: RangeInclusive<u64>, order: Order, max: usize) -> Result<Vec<u64>> {
        let inner = self.inner();
        let keys = inner.records.range(range).map(|(number, _)| *number);
        Ok(match order {
            Order::Forwards => keys.take(max).collect(),
            Order::Backwards => keys.rev().take(max).collect(),
        })
    }

    fn scan(
        &self,
        range: RangeInclusive<u64>,
        show: &mut dyn FnMut(u64, &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let (mut from, last) = (
            Bound::Included(*range.start()),
            Bound::Included(*range.end()),
        );
        loop {
            let found = {
                let inner = self.inner();
                match inner.records.range((from, last)).next() {
                    Some((number, place)) => Some((*number, inner.value(*place)?)),
                    None => None,
                }
            };
            let Some((number, value)) = found else {
                return Ok(());
            };
            if !show(number, &value)? || number == *range.end() {
                return Ok(());
            }
            from = Bound::Excluded(number);
        }
    }
}
