//! Timestamps as the group has agreed on them: one bound that only grows.
//!
//! A leader reserves a block of numbers above the bound and gives them out from memory. What always
//! holds (I1): no number is reserved twice, each block lies above all earlier ones and above every
//! fast-forward, and the greatest number is never reached, so nothing can overflow. Pairs of
//! timestamp and wall time are kept sparsely, so that a time can be translated.

use seawall_common::{Error, Result};
use serde::{Deserialize, Serialize};

use super::Response;

/// The greatest timestamp that can be given; the one above it is refused everywhere.
pub const TIMESTAMP_MAX: u64 = u64::MAX - 1;
const PAIRS_MAX: usize = 4096;
const PAIR_SPACING_MS: u64 = 60_000;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timestamps {
    /// Every number up to this one has been reserved or passed over.
    bound: u64,
    /// Growing in both parts.
    pairs: Vec<Pair>,
}

/// At this wall time the bound was this timestamp: what was given before is not above it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Pair {
    timestamp: u64,
    unix_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Grants up to `count` numbers above all granted before; fewer only at the very end.
    Reserve { count: u64, now_unix_ms: u64 },
    /// Raises the bound to at least `timestamp`.
    FastForward { timestamp: u64 },
}

/// Numbers `first..=last`, granted to nobody else.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Granted {
    pub first: u64,
    pub last: u64,
}

impl Timestamps {
    pub fn apply(&mut self, command: &Command) -> Result<Response> {
        match *command {
            Command::Reserve { count, now_unix_ms } => self
                .reserve(count, now_unix_ms)
                .map(Response::TimestampsGranted),
            Command::FastForward { timestamp } => self
                .fast_forward(timestamp)
                .map(|bound| Response::TimestampBound { bound }),
        }
    }

    fn reserve(&mut self, count: u64, now_unix_ms: u64) -> Result<Granted> {
        if count == 0 {
            return Err(Error::invalid("cannot reserve no timestamps"));
        }
        let count = count.min(TIMESTAMP_MAX - self.bound);
        if count == 0 {
            return Err(Error::exhausted(format!(
                "all timestamps up to {TIMESTAMP_MAX} have been given"
            )));
        }
        self.note_time(now_unix_ms);
        let first = self.bound + 1;
        self.bound += count;
        Ok(Granted {
            first,
            last: self.bound,
        })
    }

    fn fast_forward(&mut self, timestamp: u64) -> Result<u64> {
        if timestamp > TIMESTAMP_MAX {
            return Err(Error::invalid(format!(
                "cannot fast-forward to {timestamp}: nothing lies above"
            ))
            .hint(format!("The greatest timestamp is {TIMESTAMP_MAX}.")));
        }
        self.bound = self.bound.max(timestamp);
        Ok(self.bound)
    }

    fn note_time(&mut self, unix_ms: u64) {
        let is_due = self.pairs.last().is_none_or(|last| {
            unix_ms >= last.unix_ms.saturating_add(PAIR_SPACING_MS) && self.bound > last.timestamp
        });
        if !is_due {
            return;
        }
        self.pairs.push(Pair {
            timestamp: self.bound,
            unix_ms,
        });
        if self.pairs.len() > PAIRS_MAX {
            // Every second one of the older half goes: the past is known more coarsely.
            let mut index = 0;
            self.pairs.retain(|_| {
                index += 1;
                index > PAIRS_MAX / 2 || index % 2 == 1
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn command() -> impl Strategy<Value = Command> {
        let anywhere = prop_oneof![0..1_000_000_u64, any::<u64>(), u64::MAX - 20..=u64::MAX];
        prop_oneof![
            4 => (prop_oneof![0..100_u64, any::<u64>()], any::<u64>())
                .prop_map(|(count, now_unix_ms)| Command::Reserve { count, now_unix_ms }),
            1 => anywhere.prop_map(|timestamp| Command::FastForward { timestamp }),
        ]
    }

    proptest! {
        #[test]
        fn i1_every_grant_lies_above_all_before(commands in prop::collection::vec(command(), 0..60)) {
            let mut timestamps = Timestamps::default();
            let mut floor = 0;
            for command in commands {
                let before = timestamps.clone();
                match (timestamps.apply(&command), command) {
                    (Ok(Response::TimestampsGranted(granted)), Command::Reserve { count, .. }) => {
                        prop_assert!(granted.first > floor);
                        prop_assert!(granted.last >= granted.first);
                        prop_assert!(granted.last - granted.first < count);
                        prop_assert!(granted.last <= TIMESTAMP_MAX);
                        floor = granted.last;
                    }
                    (Ok(Response::TimestampBound { bound }), Command::FastForward { timestamp }) => {
                        prop_assert!(bound >= timestamp && bound >= floor);
                        floor = bound;
                    }
                    (Err(_), command) => {
                        prop_assert_eq!(&timestamps, &before);
                        let is_due = match command {
                            Command::Reserve { count, .. } => count == 0 || floor == TIMESTAMP_MAX,
                            Command::FastForward { timestamp } => timestamp == u64::MAX,
                        };
                        prop_assert!(is_due);
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }

    #[test]
    fn i1_the_maximum_is_refused_and_the_last_numbers_are_still_given() {
        let mut timestamps = Timestamps::default();
        let fast_forward = |timestamp| Command::FastForward { timestamp };
        let reserve = Command::Reserve {
            count: 1000,
            now_unix_ms: 0,
        };
        assert!(timestamps.apply(&fast_forward(u64::MAX)).is_err());
        timestamps.apply(&fast_forward(u64::MAX - 3)).unwrap();
        assert_eq!(
            timestamps.apply(&reserve).unwrap(),
            Response::TimestampsGranted(Granted {
                first: u64::MAX - 2,
                last: u64::MAX - 1
            })
        );
        assert!(timestamps.apply(&reserve).is_err());
        timestamps.apply(&fast_forward(5)).unwrap();
        assert!(timestamps.apply(&reserve).is_err(), "it went back");
    }

    #[test]
    fn pairs_are_sparse_growing_and_bounded() {
        let mut timestamps = Timestamps::default();
        for step in 0..3 * PAIRS_MAX as u64 {
            for now_unix_ms in [step * PAIR_SPACING_MS, step * PAIR_SPACING_MS / 2] {
                let command = Command::Reserve {
                    count: 10,
                    now_unix_ms,
                };
                timestamps.apply(&command).unwrap();
            }
        }
        let pairs = &timestamps.pairs;
        assert!(pairs.len() <= PAIRS_MAX && pairs.len() > PAIRS_MAX / 2);
        assert!(
            pairs
                .windows(2)
                .all(|two| two[0].timestamp < two[1].timestamp
                    && two[1].unix_ms - two[0].unix_ms >= PAIR_SPACING_MS)
        );
        assert_eq!(pairs[0].unix_ms, 0, "the oldest is kept");
    }
}
