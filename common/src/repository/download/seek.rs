//! Looks for chunks in what lies here already, and hands on what is missing.
//!
//! What counts is the hash of the very bytes that stay: those that were read from the file under
//! restoration, or those that were read elsewhere and are then written to it. So it does not matter
//! what happens to the old files meanwhile. Nothing about them fails a restore.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    sync::Arc,
};

use nix::{
    fcntl::{PosixFadviseAdvice, posix_fadvise},
    libc,
};
use tokio::sync::{
    Mutex,
    mpsc::{Receiver, Sender},
};

use super::{
    Shared,
    plan::{Plan, Wanted},
    runs::{Run, gather},
    stopped,
    target_file::TargetFile,
};
use crate::{
    error::Result,
    repository::{
        chunk::{self, CHUNK_BYTES},
        stages::Stage,
    },
};

pub(super) struct Seeker {
    shared: Arc<Shared>,
    windows: Arc<Mutex<Receiver<Vec<Wanted>>>>,
    runs: Sender<Run>,
}

impl Seeker {
    pub fn new(
        shared: Arc<Shared>,
        windows: Arc<Mutex<Receiver<Vec<Wanted>>>>,
        runs: Sender<Run>,
    ) -> Self {
        Self {
            shared,
            windows,
            runs,
        }
    }

    /// Seeks until there are no windows any more.
    pub async fn run(self) -> Result<Option<Plan>> {
        let Self {
            shared,
            windows,
            runs,
        } = self;
        let mut plain = Vec::new();
        loop {
            let next = async { windows.lock().await.recv().await };
            let window = tokio::select! {
                () = shared.stop.cancelled() => return Err(stopped()),
                window = next => match window {
                    Some(window) => window,
                    None => return Ok(None),
                },
            };
            let work = Arc::clone(&shared);
            let missing;
            let look = move || {
                let missing = seek(&work, window, &mut plain)?;
                Ok((missing, plain))
            };
            (missing, plain) = shared.on_disk(look).await?;
            for run in gather(missing) {
                tokio::select! {
                    () = shared.stop.cancelled() => return Err(stopped()),
                    sent = runs.send(run) => sent.map_err(|_| stopped())?,
                }
            }
        }
    }
}

/// What of a window is not here. `plain` is a buffer that is kept from window to window.
fn seek(shared: &Shared, window: Vec<Wanted>, plain: &mut Vec<u8>) -> Result<Vec<Wanted>> {
    let mut missing = Vec::with_capacity(window.len());
    let mut near = Near::default();
    for wanted in window {
        if shared.stop.is_cancelled() {
            return Err(stopped());
        }
        let is_sought = wanted.file.is_kept || wanted.file.old.is_some();
        if !is_sought || shared.enough.is_cancelled() {
            missing.push(wanted);
            continue;
        }
        plain.resize(CHUNK_BYTES, 0);
        near.come_to(shared, &wanted)?;
        let plain = &mut plain[..wanted.plain_bytes];
        let stages = shared.progress.stages();
        let mut holds =
            |file: Option<&File>| stages.time(Stage::LookHere, || holds(file, &wanted, plain));
        if holds(near.kept.as_deref()) {
            shared.tally.add_resumed(wanted.plain_bytes);
        } else if holds(near.old.as_ref()) {
            if !shared.is_plan {
                stages.time(Stage::Write, || wanted.file.write(plain, wanted.offset))?;
            }
            shared.tally.add_copied(wanted.plain_bytes);
        } else {
            missing.push(wanted);
            continue;
        }
        shared.progress.add_bytes(wanted.plain_bytes as u64);
        if !shared.is_plan && wanted.file.done(1, &shared.targets, stages)? {
            shared.file_is_done();
        }
    }
    let missing_bytes = missing.iter().map(|wanted| wanted.plain_bytes as u64);
    shared.tally.add_missing(missing_bytes.sum());
    Ok(missing)
}

/// The files in which the chunks of one file may lie.
#[derive(Default)]
struct Near {
    file: Option<Arc<TargetFile>>,
    kept: Option<Arc<File>>,
    old: Option<File>,
}

impl Near {
    fn come_to(&mut self, shared: &Shared, wanted: &Wanted) -> Result<()> {
        let is_here = self
            .file
            .as_ref()
            .is_some_and(|file| Arc::ptr_eq(file, &wanted.file));
        if is_here {
            return Ok(());
        }
        let file = &wanted.file;
        self.kept = match (file.is_kept, shared.is_plan) {
            (false, _) => None,
            (true, false) => Some(file.file()?),
            (true, true) => open(&file.path, 0).map(Arc::new),
        };
        self.old = file.old.as_ref().and_then(|old| open(old, wanted.offset));
        self.file = Some(Arc::clone(file));
        Ok(())
    }
}

/// A file to be read from `offset` on. Whatever is wrong with it: it is of no use.
fn open(path: &std::path::Path, offset: u64) -> Option<File> {
    let file = OpenOptions::new()
        .read(true)
        // A FIFO would wait for somebody to write.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let offset = i64::try_from(offset).ok()?;
    // Only a hint.
    let _ = posix_fadvise(&file, offset, 0, PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL);
    Some(file)
}

/// Whether the chunk lies in its place in `file`; then `plain` has it.
fn holds(file: Option<&File>, wanted: &Wanted, plain: &mut [u8]) -> bool {
    // A chunk of zeros is stored nowhere: where there are only zeros, there is a hole yet.
    file.is_some_and(|file| file.read_exact_at(plain, wanted.offset).is_ok())
        && !chunk::is_zero(plain)
        && *blake3::hash(plain).as_bytes() == wanted.stored.id
}
