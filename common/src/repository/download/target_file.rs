//! A file under restoration: made, or gone on with, when something is first read or written of it,
//! with room for its data; complete, with its attributes, and synced, when the last one of those
//! who work on it is done.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
    libc,
};

use super::target::{PRIVATE_FILE, Targets};
use crate::{
    error::{Error, Result},
    repository::{
        chunk::{self, CHUNK_BYTES},
        list::Attributes,
        stages::{Stage, Stages},
    },
};

pub(super) struct TargetFile {
    pub path: PathBuf,
    /// The file of the same name where it is about to be replaced; it may not be there.
    pub old: Option<PathBuf>,
    /// A restore that was cut off has left it: what is right in it stays.
    pub is_kept: bool,
    bytes: u64,
    attributes: Attributes,
    /// Chunks that are not in their place yet, and one more until the planner is through with it.
    pending: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Option<Arc<File>>,
    /// Where data comes, as offset and length, for which no room has been reserved yet.
    unreserved: Vec<(u64, u64)>,
}

impl TargetFile {
    pub fn new(
        path: PathBuf,
        old: Option<PathBuf>,
        is_kept: bool,
        bytes: u64,
        attributes: Attributes,
    ) -> Self {
        Self {
            path,
            old,
            is_kept,
            bytes,
            attributes,
            pending: AtomicU64::new(chunk::count(bytes) + 1),
            state: Mutex::default(),
        }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file, with its full size: what is never written to it stays a hole.
    pub fn file(&self) -> Result<Arc<File>> {
        let mut state = self.state();
        if let Some(file) = &state.open {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(self.open()?);
        for (offset, length) in std::mem::take(&mut state.unreserved) {
            self.reserve_in(&file, offset, length)?;
        }
        state.open = Some(Arc::clone(&file));
        Ok(file)
    }

    fn open(&self) -> Result<File> {
        let mut options = OpenOptions::new();
        options
            .read(self.is_kept)
            .write(true)
            .create_new(!self.is_kept)
            .mode(PRIVATE_FILE)
            .custom_flags(libc::O_NOFOLLOW);
        let what = if self.is_kept { "open" } else { "create" };
        let file = options
            .open(&self.path)
            .map_err(|e| Error::io(what, &self.path, &e))?;
        file.set_len(self.bytes)
            .map_err(|e| Error::io("set the size of", &self.path, &e))?;
        Ok(file)
    }

    /// Data will come here: what a full disk cannot hold shows before it is fetched, and the file
    /// lies in few pieces.
    pub fn reserve(&self, offset: u64, length: u64) -> Result<()> {
        // Not worth a call: it is written at once, in one piece.
        if self.bytes <= CHUNK_BYTES as u64 {
            return Ok(());
        }
        let mut state = self.state();
        if let Some(file) = &state.open {
            return self.reserve_in(file, offset, length);
        }
        match state.unreserved.last_mut() {
            Some((from, known)) if *from + *known == offset => *known += length,
            _ => state.unreserved.push((offset, length)),
        }
        Ok(())
    }

    fn reserve_in(&self, file: &File, offset: u64, length: u64) -> Result<()> {
        match allocate(file, FallocateFlags::empty(), offset, length) {
            // A file system that cannot reserve gives the room as it is written.
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => Ok(()),
            Err(e) => Err(Error::io("reserve room for", &self.path, &e.into())),
        }
    }

    /// Nothing but zeros is in this part of the file. A new one has a hole there.
    pub fn clear(&self, offset: u64, length: u64) -> Result<()> {
        if !self.is_kept {
            return Ok(());
        }
        let file = self.file()?;
        let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        match allocate(&file, punch, offset, length) {
            Ok(()) => Ok(()),
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => {
                self.write_zeros(&file, offset, length)
            }
            Err(e) => Err(Error::io("make a hole in", &self.path, &e.into())),
        }
    }

    /// Where there are no holes to be made: writes what is not zero already.
    fn write_zeros(&self, file: &File, offset: u64, length: u64) -> Result<()> {
        let zeros = vec![0; CHUNK_BYTES];
        let mut there = vec![0; CHUNK_BYTES];
        let end = offset + length;
        for at in (offset..end).step_by(CHUNK_BYTES) {
            let length = usize::try_from(end - at).map_or(CHUNK_BYTES, |n| n.min(CHUNK_BYTES));
            let there = &mut there[..length];
            let is_zero = file.read_exact_at(there, at).is_ok() && chunk::is_zero(there);
            if !is_zero {
                file.write_all_at(&zeros[..length], at)
                    .map_err(|e| Error::io("write", &self.path, &e))?;
            }
        }
        Ok(())
    }

    pub fn write(&self, plain: &[u8], offset: u64) -> Result<()> {
        self.file()?
            .write_all_at(plain, offset)
            .map_err(|e| Error::io("write", &self.path, &e))
    }

    /// Counts chunks as done; with the last of them the file is finished: then `true`.
    pub fn done(&self, count: u64, targets: &Targets, stages: &Stages) -> Result<bool> {
        if self.pending.fetch_sub(count, Ordering::AcqRel) != count {
            return Ok(false);
        }
        let file = self.file()?;
        targets.apply(&self.path, &file, &self.attributes, 0o1777)?;
        stages
            .time(Stage::Sync, || file.sync_all())
            .map_err(|e| Error::io("sync", &self.path, &e))?;
        self.state().open = None;
        Ok(true)
    }
}

fn allocate(
    file: &File,
    flags: FallocateFlags,
    offset: u64,
    length: u64,
) -> std::result::Result<(), Errno> {
    // Sizes of files are checked with the lists to fit.
    let (Ok(from), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else {
        return Err(Errno::EFBIG);
    };
    loop {
        match fallocate(file, flags, from, length) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}
