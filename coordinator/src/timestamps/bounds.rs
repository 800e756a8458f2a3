//! Notes in the repository up to where timestamps may have been given out, before they are.
//!
//! What always holds: no timestamp is given out above the greatest bound in the repository, so that a
//! group that is restored from the repository begins above all of them. A bound lies far ahead, so
//! that one is written rarely, and the next is written in the background when half of the way to it is
//! gone. A group whose repository is away gives timestamps out up to the last bound, and no further;
//! so does one that finds another repository in its place, for that bound stands in its own.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use seawall_common::{Error, Result, repository::Repository};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    raft::Node,
    state::{
        Command,
        timestamps::{self, TIMESTAMP_MAX},
    },
};

/// How far ahead a bound lies.
pub const AHEAD: u64 = 1_000_000_000;
/// What no group has come near to: a bound above it is damage, and would use all timestamps up.
const BELIEVED_MAX: u64 = u64::MAX / 4 * 3;
/// How long those who ask for timestamps wait for the repository.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the next bound may take, for which nobody waits.
const PATIENCE_AHEAD: Duration = Duration::from_secs(30);
const SAME_ANSWER: Duration = Duration::from_secs(1);
const NAME_PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_secs(1);
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Where bounds are noted: the repository, or what a test puts in its place.
#[async_trait]
pub trait Bounds: Send + Sync + 'static {
    fn repository_id(&self) -> &str;
    /// Makes sure that the group may write there; refused when another group may.
    async fn own(&self, group_id: &str) -> Result<()>;
    /// As [`Repository::put_bound`].
    async fn put_bound(&self, group_id: &str, bound: u64) -> Result<()>;
    /// As [`Repository::highest_bound`].
    async fn highest_bound(&self) -> Result<u64>;
}

#[async_trait]
impl Bounds for Repository {
    fn repository_id(&self) -> &str {
        self.id()
    }

    async fn own(&self, group_id: &str) -> Result<()> {
        self.claim(group_id, false).await.map(drop)
    }

    async fn put_bound(&self, group_id: &str, bound: u64) -> Result<()> {
        Repository::put_bound(self, group_id, bound).await
    }

    async fn highest_bound(&self) -> Result<u64> {
        Repository::highest_bound(self).await
    }
}

pub struct Recorder {
    node: Node,
    bounds: Arc<dyn Bounds>,
    ahead: u64,
    /// For so long those who ask are given the answer that the last one was given.
    pub(super) same_answer: Duration,
    pub(super) patience_ahead: Duration,
    /// Held while a bound is written. Why the last try failed, and when.
    writing: tokio::sync::Mutex<Option<(Instant, Error)>>,
}

impl Recorder {
    pub fn new(node: Node, bounds: Arc<dyn Bounds>, ahead: u64) -> Self {
        Self {
            node,
            bounds,
            ahead,
            same_answer: SAME_ANSWER,
            patience_ahead: PATIENCE_AHEAD,
            writing: tokio::sync::Mutex::default(),
        }
    }

    /// Up to where timestamps may be given out.
    pub fn recorded(&self) -> u64 {
        self.node.look(|state| state.timestamps.recorded())
    }

    fn bound(&self) -> u64 {
        self.node.look(|state| state.timestamps.bound())
    }

    /// Makes sure that everything up to `needed` may be given out.
    pub async fn ensure(&self, needed: u64) -> Result<()> {
        if self.recorded() >= needed {
            return Ok(());
        }
        let limit = Limit::within(PATIENCE);
        let writing = limit.wait(self.writing.lock()).await;
        let mut writing = writing.map_err(|e| not_recorded(self.recorded(), e))?;
        if self.recorded() >= needed {
            return Ok(());
        }
        if let Some((at, error)) = &*writing
            && at.elapsed() < self.same_answer
        {
            return Err(error.clone());
        }
        let written = limit.wait(self.write(needed)).await;
        *writing = None;
        written.flatten().map_err(|e| {
            let error = not_recorded(self.recorded(), e);
            *writing = Some((Instant::now(), error.clone()));
            error
        })
    }

    /// Writes the next bound when half of the way to the last one is gone.
    pub(super) async fn keep_ahead(&self) -> Result<()> {
        let is_enough = || self.recorded() >= self.bound().saturating_add(self.ahead / 2);
        if is_enough() {
            return Ok(());
        }
        let limit = Limit::within(self.patience_ahead);
        let _writing = limit.wait(self.writing.lock()).await?;
        if is_enough() {
            return Ok(());
        }
        limit.wait(self.write(self.bound())).await?
    }

    /// Notes a bound above `needed`, in the repository and then in the state.
    async fn write(&self, needed: u64) -> Result<()> {
        let group_id = self.group_id().await?;
        // At one moment, and before the repository is looked at: whatever is found and put there
        // counts only as long as no other group has had it since.
        let (recorded, disowned) = self
            .node
            .look(|state| (state.timestamps.recorded(), state.timestamps.disowned()));
        let floor = match recorded {
            0 => self.floor(&group_id).await?,
            _ => 0,
        };
        if floor > BELIEVED_MAX {
            return Err(Error::corrupt(format!(
                "the repository has the bound {floor}, above which too few timestamps are left"
            ))
            .hint("No group can have come so far: see coordinator/bounds/ in the repository."));
        }
        if floor > self.bound() {
            let above = timestamps::Command::FastForward { timestamp: floor };
            self.node.propose(Command::Timestamps(above)).await?;
        }
        let bound = needed
            .max(floor)
            .saturating_add(self.ahead)
            .min(TIMESTAMP_MAX);
        self.bounds.put_bound(&group_id, bound).await?;
        let record = timestamps::Command::Record { bound, disowned };
        self.node.propose(Command::Timestamps(record)).await?;
        tracing::info!(bound, "timestamps up to this bound may be given out");
        Ok(())
    }

    /// A group that begins with another's repository begins above what that one gave out. First of
    /// all nobody else may be writing there: one that still may could raise it after the look.
    async fn floor(&self, group_id: &str) -> Result<u64> {
        self.bounds.own(group_id).await?;
        self.bounds.highest_bound().await
    }

    /// Another group has the repository. No timestamp is given out until it is ours again, and then
    /// above all that the other gave out. Said also when no bound is known: one that was written
    /// before may be on its way into the log.
    pub async fn disown(&self) -> Result<()> {
        let gave_out = self.recorded() > 0;
        let disown = Command::Timestamps(timestamps::Command::Disown);
        self.node.propose(disown).await?;
        if gave_out {
            tracing::warn!("another group has the repository: no timestamps are given out");
        }
        Ok(())
    }

    /// The group's name, if the repository is the group's.
    async fn group_id(&self) -> Result<String> {
        let mut applied = self.node.applied();
        let named = applied.wait_for(|_| self.node.look(|state| state.group_id.is_some()));
        // Nothing is lost by a timeout: it is looked at below.
        let _ = tokio::time::timeout(NAME_PATIENCE, named).await;
        let (group_id, repository_id) = self
            .node
            .look(|state| (state.group_id.clone(), state.repository_id.clone()));
        let group_id = group_id.ok_or_else(|| Error::unavailable("the group has no name yet"))?;
        match repository_id {
            Some(ours) if ours != self.bounds.repository_id() => Err(Error::refused(format!(
                "the repository is {}, that of this group is {ours}",
                self.bounds.repository_id()
            ))
            .hint("Look at repository.url, and whether its file system is mounted.")),
            _ => Ok(group_id),
        }
    }
}

/// How long the repository, or whoever waits for it, is waited for in all.
#[derive(Clone, Copy)]
struct Limit {
    patience: Duration,
    until: Instant,
}

impl Limit {
    fn within(patience: Duration) -> Self {
        Self {
            patience,
            until: Instant::now() + patience,
        }
    }

    async fn wait<T>(self, answer: impl Future<Output = T>) -> Result<T> {
        let answer = tokio::time::timeout_at(self.until, answer).await;
        answer.map_err(|_| {
            Error::unavailable(format!(
                "the repository does not answer within {:?}",
                self.patience
            ))
        })
    }
}

fn not_recorded(recorded: u64, cause: Error) -> Error {
    let kind = cause.kind();
    let hint = cause.hint_text().map_or_else(
        || "Timestamps are given out again once the repository can be written.".to_owned(),
        str::to_owned,
    );
    Error::new(
        kind,
        format!(
            "no timestamp above {recorded} is given out before the repository has a note of it: {}",
            cause.message()
        ),
    )
    .hint(hint)
}

/// For as long as it runs: while this member leads, sees that the next bound is written in time.
pub async fn keep_bounds_ahead(recorder: Arc<Recorder>, stop: CancellationToken) {
    let leadership = recorder.node.leadership();
    let mut told = None;
    loop {
        let mut pause = LOOK_EVERY;
        let is_ours = leadership.borrow().is_ours;
        if is_ours {
            let Some(kept) = stop.run_until_cancelled(recorder.keep_ahead()).await else {
                return;
            };
            match kept {
                Ok(()) => told = None,
                Err(e) => {
                    // Once for each reason: it is tried again for as long as it takes.
                    if told.as_ref() != Some(&e) {
                        tracing::warn!("the next bound of timestamps cannot be noted: {e}");
                        told = Some(e);
                    }
                    pause = AGAIN_AFTER;
                }
            }
        }
        if stop
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            return;
        }
    }
}
