//! Reads back what a backup reaches and checks it, as a restore would, without writing a file.
//!
//! It goes on after damage: every damaged object is named, and the files that need it. What fails
//! for another reason (a store that does not answer, an identity that opens nothing) is an error
//! and says nothing about the backup. Memory is bounded: a pack for each reader, and a short mark
//! of each chunk of those read since the lists were last compared.

mod keys;
mod lists;
mod outline;
mod pack;
mod reach;
mod readers;
mod report;
mod sample;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{header::Repository, progress::Progress, upload::check_concurrency};
use crate::{
    error::{Error, Result},
    ids::{BackupName, ShardId},
};
use keys::Keys;
use lists::Comparison;
use outline::Outline;
use pack::Marker;
use readers::{Readers, Target};

pub use reach::{pack_name, packs_named_in};
pub use report::{Damage, VerifyReport};

/// How closely it is looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Manifest, parts, key files; of packs that they are there with their size. Needs no identity.
    Listed,
    /// Also what is in the packs, by their hashes in the pack lists. Needs no identity.
    Hashes,
    /// Also every chunk: seal, unpacked, hash; and that the lists name what the packs hold. Needs
    /// an identity where the backup is encrypted.
    Chunks,
}

#[derive(Clone, Copy, Debug)]
pub struct VerifyOptions {
    pub depth: Depth,
    /// Of the packs, at least one; 1 to 100.
    pub percent: u8,
    /// Decides which packs a share consists of.
    pub seed: u64,
    /// Packs in memory at once.
    pub concurrency: usize,
}

impl VerifyOptions {
    /// All of it, as a restore needs it.
    pub fn full(concurrency: usize) -> Self {
        Self {
            depth: Depth::Chunks,
            percent: 100,
            seed: 0,
            concurrency,
        }
    }

    fn check(&self) -> Result<()> {
        check_concurrency(self.concurrency)?;
        match self.percent {
            1..=100 => Ok(()),
            percent => Err(Error::invalid(format!(
                "a backup cannot be verified by {percent} per cent"
            ))
            .hint("Give a percentage from 1 to 100.")),
        }
    }
}

/// Verifies one backup.
///
/// `expected_hash`: of its manifest, as the catalogue has it. A backup that was removed or never
/// completed is [`crate::ErrorKind::NotFound`]. An encrypted one that no configured identity opens
/// is [`crate::ErrorKind::Invalid`] or [`crate::ErrorKind::Refused`], one that no pinned writer
/// signed [`crate::ErrorKind::Refused`]: never damage.
pub async fn verify(
    repository: &Repository,
    shard: &ShardId,
    name: &BackupName,
    expected_hash: Option<&str>,
    options: &VerifyOptions,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<VerifyReport> {
    options.check()?;
    let cancelled = || Error::cancelled(format!("the verification of {name} was cancelled"));
    let mut report = VerifyReport::new(name, options.percent, options.seed);
    let work = async {
        let outline =
            Outline::read(repository, shard, name, expected_hash, true, &mut report).await?;
        if let Some(outline) = outline {
            repository.check_writer(&outline.header)?;
            check(repository, outline, options, progress, &mut report).await?;
        }
        repository.check_there().await
    };
    let ended = tokio::select! {
        ended = work => ended,
        () = cancel.cancelled() => return Err(cancelled()),
    };
    ended.map(|()| report)
}

async fn check(
    repository: &Repository,
    outline: Outline,
    options: &VerifyOptions,
    progress: &Progress,
    report: &mut VerifyReport,
) -> Result<()> {
    let keys = Keys::check(repository, &outline, options.depth, report).await?;
    let bad = outline.check_sizes(repository, report).await?;
    if options.depth == Depth::Listed {
        return Ok(());
    }
    let chosen: Vec<usize> = sample::choose(outline.packs.len(), options.percent, options.seed)
        .into_iter()
        .filter(|number| !bad.contains(number))
        .collect();
    let bytes = chosen.iter().map(|n| u64::from(outline.packs[*n].bytes));
    progress.begin(bytes.sum(), 0);
    let marker = (options.depth == Depth::Chunks).then(Marker::new);
    let target = Arc::new(Target {
        repository: repository.clone(),
        outline,
        keys,
        marker,
    });
    let mut lists = Comparison::begin(&target, &bad, report)?;
    let mut readers = Readers {
        target: Arc::clone(&target),
        waiting: chosen.into(),
        concurrency: options.concurrency,
        progress: progress.clone(),
    };
    loop {
        for (number, mut examined) in readers.read_some().await? {
            let pack = &target.outline.packs[number];
            report.packs_read += 1;
            report.bytes_read += u64::from(pack.bytes);
            report.chunks += examined.chunks;
            if let Some(what) = examined.damage.take() {
                report.damaged(target.outline.pack_damage(pack, what));
            }
            if let Some(lists) = &mut lists {
                lists.hold(number, examined);
            }
        }
        if let Some(lists) = &mut lists {
            lists.compare(report).await?;
        }
        if readers.waiting.is_empty() {
            return Ok(());
        }
    }
}
