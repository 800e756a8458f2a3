//! Gives timestamps out: from memory, below the bound that the group has agreed on.
//!
//! The order is what makes it right (I1): take a number, *then* prove, by a quorum round that began
//! after the taking, that this member still leads in the term under which the block was reserved,
//! *then* answer. A number whose proof fails is never answered and never used again. All who wait
//! share one round. A block is thrown away when its term is over. Before a block is used, the
//! repository has a bound that covers it ([`bounds`]); a number that no bound of ours covers any more
//! is not answered either.

mod bounds;
#[cfg(test)]
pub(crate) mod bounds_tests;
mod notes;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use bounds::{AHEAD, Recorder, keep_bounds_ahead};
pub use notes::note_times;
use prometheus_client::metrics::counter::Counter;
use seawall_common::{Error, Result, timestamps::RANGE_MAX};

#[cfg(feature = "sim")]
use crate::sim;
use crate::{
    raft::Node,
    state::{
        Command, Response,
        timestamps::{self, Granted},
    },
};

/// How many numbers are reserved at once.
const BLOCK: u64 = 50_000;
/// How often a request begins again because the term has changed under it.
const TRIES_MAX: usize = 4;

pub struct Allocator {
    node: Node,
    recorder: Arc<Recorder>,
    block: Mutex<Option<Block>>,
    /// Held while the group is asked, so that a block that was reserved before a fast-forward is
    /// never put in place after it.
    asking: tokio::sync::Mutex<()>,
    given: Counter,
}

/// Numbers `next..=last`, reserved under `term` and not yet given; none is left when `next` lies
/// above `last`. Whatever was given lies below `next`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Block {
    term: u64,
    next: u64,
    last: u64,
}

impl Block {
    fn take(&mut self, count: u64) -> Option<u64> {
        // No overflow: `last` is never the greatest number.
        let left = self.last + 1 - self.next;
        if left < count {
            return None;
        }
        let first = self.next;
        self.next += count;
        Some(first)
    }
}

impl Allocator {
    pub fn new(node: Node, recorder: Arc<Recorder>) -> Self {
        Self {
            node,
            recorder,
            block: Mutex::new(None),
            asking: tokio::sync::Mutex::new(()),
            given: Counter::default(),
        }
    }

    /// How many have been given by this member since it started.
    pub fn given(&self) -> Counter {
        self.given.clone()
    }

    /// The first of `count` contiguous numbers, all greater than any that was answered before the
    /// call began.
    pub async fn fetch(&self, count: u32) -> Result<u64> {
        if count > RANGE_MAX {
            return Err(Error::invalid(format!(
                "cannot give {count} timestamps at once, at most {RANGE_MAX}"
            )));
        }
        let count = u64::from(count.max(1));
        for _ in 0..TRIES_MAX {
            let (first, term) = self.take(count).await?;
            #[cfg(feature = "sim")]
            sim::moment().await;
            #[cfg(feature = "sim")]
            let proved = sim::proved(term, self.node.prove_leadership()).await?;
            #[cfg(not(feature = "sim"))]
            let proved = self.node.prove_leadership().await?;
            if proved != term {
                self.discard_other_than(proved);
            } else if first + (count - 1) > self.recorder.recorded() {
                *self.block() = None;
            } else {
                self.given.inc_by(count);
                return Ok(first);
            }
        }
        Err(Error::unavailable(
            "the leader of the coordinators changes too fast",
        ))
    }

    /// Makes sure that nothing at or below `timestamp` is given any more; answers the bound.
    pub async fn fast_forward(&self, timestamp: u64) -> Result<u64> {
        let _asking = self.asking.lock().await;
        if timestamp <= timestamps::TIMESTAMP_MAX {
            self.recorder.ensure(timestamp).await?;
        }
        let command = Command::Timestamps(timestamps::Command::FastForward { timestamp });
        match self.node.propose(command).await? {
            Response::TimestampBound { bound } => {
                *self.block() = None;
                Ok(bound)
            }
            other => Err(unexpected(&other)),
        }
    }

    fn block(&self) -> MutexGuard<'_, Option<Block>> {
        self.block.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_from_block(&self, count: u64) -> Option<(u64, u64)> {
        let mut block = self.block();
        let block = block.as_mut()?;
        Some((block.take(count)?, block.term))
    }

    fn discard_other_than(&self, term: u64) {
        let mut block = self.block();
        if block.is_some_and(|block| block.term != term) {
            *block = None;
        }
    }

    /// `count` numbers and the term of their block, which is reserved first when need be.
    async fn take(&self, count: u64) -> Result<(u64, u64)> {
        if let Some(taken) = self.take_from_block(count) {
            return Ok(taken);
        }
        let _asking = self.asking.lock().await;
        if let Some(taken) = self.take_from_block(count) {
            return Ok(taken);
        }
        let (granted, term) = self.reserve(count.max(BLOCK)).await?;
        let mut block = self.block();
        let joined = joined(*block, granted, term);
        block
            .insert(joined)
            .take(count)
            .map(|first| (first, term))
            .ok_or_else(|| {
                Error::exhausted(format!("fewer than {count} timestamps are left for ever"))
            })
    }

    /// A block that a bound in the repository covers. What was granted without one is never given.
    async fn reserve(&self, count: u64) -> Result<(Granted, u64)> {
        for _ in 0..TRIES_MAX {
            let bound = self.node.look(|state| state.timestamps.bound());
            let needed = bound.saturating_add(count).min(timestamps::TIMESTAMP_MAX);
            self.recorder.ensure(needed).await?;
            let command = Command::Timestamps(timestamps::Command::Reserve { count });
            match self.node.propose_in_term(command).await? {
                // Otherwise the bound of the timestamps has grown in between.
                (Response::TimestampsGranted(granted), term)
                    if granted.last <= self.recorder.recorded() =>
                {
                    return Ok((granted, term));
                }
                (Response::TimestampsGranted(_), _) => {}
                (other, _) => return Err(unexpected(&other)),
            }
        }
        Err(Error::unavailable(
            "the bound of the timestamps grows too fast",
        ))
    }
}

/// The block after a grant: what was left is kept when the grant follows it without a gap.
fn joined(old: Option<Block>, granted: Granted, term: u64) -> Block {
    let next = match old {
        Some(old) if old.term == term && old.last + 1 == granted.first => old.next,
        _ => granted.first,
    };
    Block {
        term,
        next,
        last: granted.last,
    }
}

fn unexpected(response: &Response) -> Error {
    Error::internal(format!("timestamps were answered with {response:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i1_a_block_gives_each_number_once_and_none_beyond_its_end() {
        let mut block = Block {
            term: 1,
            next: 5,
            last: 10,
        };
        assert_eq!(block.take(2), Some(5));
        assert_eq!(block.take(5), None);
        assert_eq!(block.take(4), Some(7));
        assert_eq!(block.take(1), None);
    }

    #[test]
    fn i1_what_is_left_is_kept_only_within_a_term_and_without_a_gap() {
        let old = Some(Block {
            term: 1,
            next: 5,
            last: 10,
        });
        let granted = |first| Granted { first, last: 90 };
        assert_eq!(joined(old, granted(11), 1).next, 5);
        assert_eq!(joined(old, granted(12), 1).next, 12);
        assert_eq!(joined(old, granted(11), 2).next, 11);
        assert_eq!(joined(None, granted(11), 2).next, 11);
    }
}
