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
mod whole;

use std::{collections::BTreeSet, sync::Arc};

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
use whole::WholePacks;

pub use reach::{pack_name, packs_named_in};
pub use report::{Damage, VerifyReport};
pub(super) use whole::Seen;

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
    let mut verifier = Verifier::new(repository, progress, cancel);
    verifier.verify(shard, name, expected_hash, options).await
}

/// Verifies backups one after the other. A pack that was found whole is not read again for another
/// backup that needs it: of that only its index is, for the comparison with the lists.
pub(super) struct Verifier<'a> {
    repository: &'a Repository,
    progress: &'a Progress,
    cancel: &'a CancellationToken,
    whole: WholePacks,
}

impl<'a> Verifier<'a> {
    pub fn new(
        repository: &'a Repository,
        progress: &'a Progress,
        cancel: &'a CancellationToken,
    ) -> Self {
        Self {
            repository,
            progress,
            cancel,
            whole: WholePacks::default(),
        }
    }

    /// As [`verify`] does.
    pub async fn verify(
        &mut self,
        shard: &ShardId,
        name: &BackupName,
        expected_hash: Option<&str>,
        options: &VerifyOptions,
    ) -> Result<VerifyReport> {
        options.check()?;
        let cancel = self.cancel;
        let cancelled = || Error::cancelled(format!("the verification of {name} was cancelled"));
        let mut report = VerifyReport::new(name, options.percent, options.seed);
        let work = async {
            let repository = self.repository;
            let outline =
                Outline::read(repository, shard, name, expected_hash, true, &mut report).await?;
            if let Some(outline) = outline {
                repository.check_writer(&outline.header)?;
                self.check(outline, options, &mut report).await?;
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
        &mut self,
        outline: Outline,
        options: &VerifyOptions,
        report: &mut VerifyReport,
    ) -> Result<()> {
        let repository = self.repository;
        let keys = Keys::check(repository, &outline, options.depth, report).await?;
        let bad = outline.check_sizes(repository, report).await?;
        if options.depth == Depth::Listed {
            return Ok(());
        }
        let chosen: Vec<usize> = sample::choose(outline.packs.len(), options.percent, options.seed)
            .into_iter()
            .filter(|number| !bad.contains(number))
            .collect();
        let mut target = Target {
            repository: repository.clone(),
            outline,
            keys,
            marker: (options.depth == Depth::Chunks).then(Marker::new),
            whole: BTreeSet::new(),
        };
        let is_whole = |number: &usize| {
            let pack = &target.outline.packs[*number];
            let key = target.outline.pack_key(pack);
            self.whole.has(&key, pack, target.opens(pack))
        };
        target.whole = chosen.iter().copied().filter(is_whole).collect();
        let to_read = chosen.iter().filter(|n| !target.whole.contains(n));
        let bytes = to_read.map(|n| u64::from(target.outline.packs[*n].bytes));
        self.progress.begin(bytes.sum(), 0);
        self.read(Arc::new(target), chosen, &bad, options, report)
            .await
    }

    async fn read(
        &mut self,
        target: Arc<Target>,
        chosen: Vec<usize>,
        bad: &BTreeSet<usize>,
        options: &VerifyOptions,
        report: &mut VerifyReport,
    ) -> Result<()> {
        let mut lists = Comparison::begin(&target, bad, report)?;
        let mut readers = Readers {
            target: Arc::clone(&target),
            waiting: chosen.into(),
            concurrency: options.concurrency,
            progress: self.progress.clone(),
        };
        loop {
            for (number, mut examined) in readers.read_some().await? {
                let pack = &target.outline.packs[number];
                report.packs_read += 1;
                report.bytes_read += examined.bytes_read;
                report.chunks += examined.chunks;
                match examined.damage.take() {
                    Some(what) => report.damaged(target.outline.pack_damage(pack, what)),
                    None => {
                        let key = target.outline.pack_key(pack);
                        self.whole.add(&key, pack, target.opens(pack));
                    }
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
}
