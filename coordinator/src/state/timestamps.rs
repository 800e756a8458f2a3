//! Timestamps as the group has agreed on them: one bound that only grows.
//!
//! A leader reserves a block of numbers above the bound and gives them out from memory. What always
//! holds (I1): no number is reserved twice, each block lies above all earlier ones and above every
//! fast-forward, and the greatest number is never reached, so nothing can overflow. Notes of which
//! timestamp was the last at which time are kept sparsely, so that the one can be told from the other.

use seawall_common::{Error, Result};
use serde::{Deserialize, Serialize};

use super::Response;

/// The greatest timestamp that can be given; the one above it is refused everywhere.
pub const TIMESTAMP_MAX: u64 = u64::MAX - 1;
const NOTES_MAX: usize = 4096;
/// Between two notes, at least.
pub const NOTE_SPACING_MS: u64 = 60_000;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timestamps {
    /// Every number up to this one has been reserved or passed over.
    bound: u64,
    /// Growing in both parts.
    notes: Vec<Note>,
    /// The greatest bound that is known to be in the repository. Whoever gives numbers out keeps below
    /// it; it is no limit of the commands here, for a log from before there was one must stay readable.
    #[serde(default)]
    recorded: u64,
    /// How often it was noted that another group has the repository. What the repository was found to
    /// have before the last time says nothing of how far that group came.
    #[serde(default)]
    disowned: u64,
}

/// At this time this was the greatest timestamp: what was answered before is not above it, what is
/// asked for after it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub timestamp: u64,
    pub unix_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Grants up to `count` numbers above all granted before; fewer only at the very end.
    Reserve { count: u64 },
    /// Raises the bound to at least `timestamp`.
    FastForward { timestamp: u64 },
    /// Passed over when it is too near to the one before, or says nothing new.
    Note(Note),
    /// The repository has this bound. It was read and written there after it had been noted `disowned`
    /// times that another group has the repository; refused when it has been noted since.
    Record {
        bound: u64,
        #[serde(default)]
        disowned: u64,
    },
    /// Another group has had the repository, and given timestamps out above what is known here.
    Disown,
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
            Command::Reserve { count } => self.reserve(count).map(Response::TimestampsGranted),
            Command::FastForward { timestamp } => self
                .fast_forward(timestamp)
                .map(|bound| Response::TimestampBound { bound }),
            Command::Note(note) => {
                self.note(note);
                Ok(Response::Done)
            }
            Command::Record { bound, disowned } => {
                self.record(bound, disowned)?;
                Ok(Response::Done)
            }
            Command::Disown => {
                self.recorded = 0;
                self.disowned += 1;
                Ok(Response::Done)
            }
        }
    }

    pub fn bound(&self) -> u64 {
        self.bound
    }

    /// A defect that tests plant: what the repository has is known, what has been reserved is not.
    #[cfg(feature = "sim")]
    pub(crate) fn forget_bound(&mut self) {
        self.bound = 0;
    }

    /// For a new group: nothing at or below `timestamp` is given, and no bound of its own is noted yet.
    pub(super) fn begin_above(&mut self, timestamp: u64) {
        self.bound = self.bound.max(timestamp.min(TIMESTAMP_MAX));
        self.recorded = 0;
    }

    /// Up to where numbers may be given out: the greatest bound in the repository.
    pub fn recorded(&self) -> u64 {
        self.recorded
    }

    /// How often another group had the repository.
    pub fn disowned(&self) -> u64 {
        self.disowned
    }

    fn record(&mut self, bound: u64, disowned: u64) -> Result<()> {
        if disowned != self.disowned {
            return Err(Error::unavailable(format!(
                "another group has had the repository since the bound {bound} was written there"
            )));
        }
        self.recorded = self.recorded.max(bound);
        Ok(())
    }

    fn reserve(&mut self, count: u64) -> Result<Granted> {
        if count == 0 {
            return Err(Error::invalid("cannot reserve no timestamps"));
        }
        let count = count.min(TIMESTAMP_MAX - self.bound);
        if count == 0 {
            return Err(Error::exhausted(format!(
                "all timestamps up to {TIMESTAMP_MAX} have been given"
            )));
        }
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

    fn note(&mut self, note: Note) {
        let is_new = self.notes.last().is_none_or(|last| {
            note.unix_ms >= last.unix_ms.saturating_add(NOTE_SPACING_MS)
                && note.timestamp > last.timestamp
        });
        if !is_new || note.timestamp > self.bound {
            return;
        }
        self.notes.push(note);
        if self.notes.len() > NOTES_MAX {
            // Every second one of the older half goes: the past is known more coarsely.
            let mut index = 0;
            self.notes.retain(|_| {
                index += 1;
                index > NOTES_MAX / 2 || index % 2 == 1
            });
        }
    }

    /// The last note that is not later than a time, and the first that is.
    pub fn notes_at(&self, unix_ms: u64) -> (Option<Note>, Option<Note>) {
        self.notes_around(|note| note.unix_ms <= unix_ms)
    }

    /// The last note below a timestamp: it was given after that. The first of those that are not
    /// below it: it was given before that, if at all.
    pub fn notes_around_timestamp(&self, timestamp: u64) -> (Option<Note>, Option<Note>) {
        self.notes_around(|note| note.timestamp < timestamp)
    }

    fn notes_around(&self, is_before: impl Fn(&Note) -> bool) -> (Option<Note>, Option<Note>) {
        let next = self.notes.partition_point(is_before);
        let before = next.checked_sub(1).and_then(|last| self.notes.get(last));
        (before.copied(), self.notes.get(next).copied())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn command() -> impl Strategy<Value = Command> {
        let anywhere = prop_oneof![0..1_000_000_u64, any::<u64>(), u64::MAX - 20..=u64::MAX];
        prop_oneof![
            4 => prop_oneof![0..100_u64, any::<u64>()].prop_map(|count| Command::Reserve { count }),
            1 => anywhere.clone().prop_map(|timestamp| Command::FastForward { timestamp }),
            2 => (anywhere, 0..4_u64).prop_map(|(bound, disowned)| Command::Record { bound, disowned }),
            1 => Just(Command::Disown),
        ]
    }

    proptest! {
        #[test]
        fn i1_every_grant_lies_above_all_before(commands in prop::collection::vec(command(), 0..60)) {
            let mut timestamps = Timestamps::default();
            let (mut floor, mut recorded, mut times_disowned) = (0, 0, 0);
            for command in commands {
                let before = timestamps.clone();
                match (timestamps.apply(&command), command) {
                    (Ok(Response::TimestampsGranted(granted)), Command::Reserve { count }) => {
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
                            Command::Reserve { count } => count == 0 || floor == TIMESTAMP_MAX,
                            Command::FastForward { timestamp } => timestamp == u64::MAX,
                            Command::Record { disowned, .. } => disowned != times_disowned,
                            Command::Note(_) | Command::Disown => false,
                        };
                        prop_assert!(is_due);
                    }
                    (Ok(Response::Done), Command::Record { bound, disowned }) => {
                        prop_assert_eq!(disowned, times_disowned);
                        recorded = recorded.max(bound);
                    }
                    (Ok(Response::Done), Command::Disown) => {
                        times_disowned += 1;
                        recorded = 0;
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
                prop_assert_eq!(timestamps.recorded(), recorded);
                prop_assert_eq!(timestamps.disowned(), times_disowned);
            }
        }
    }

    #[test]
    fn i1_a_bound_of_before_another_group_had_the_repository_is_not_taken_for_one_of_after() {
        let mut timestamps = Timestamps::default();
        let record = |bound, disowned| Command::Record { bound, disowned };
        timestamps.apply(&record(100, 0)).unwrap();
        // A leader has written the next bound, and another one finds the repository taken, before
        // that is in the log.
        timestamps.apply(&Command::Disown).unwrap();
        let refused = timestamps.apply(&record(200, 0)).unwrap_err();
        assert!(refused.is_retryable(), "{refused}");
        assert!(refused.message().contains("bound 200"), "{refused}");
        assert_eq!(timestamps.recorded(), 0);
        timestamps.apply(&record(900, 1)).unwrap();
        assert_eq!(timestamps.recorded(), 900);
        timestamps.apply(&record(200, 0)).unwrap_err();
        // As a snapshot carries it.
        let bytes = serde_json::to_vec(&timestamps).unwrap();
        let mut read: Timestamps = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(read, timestamps);
        read.apply(&record(950, 0)).unwrap_err();
    }

    #[test]
    fn i1_the_maximum_is_refused_and_the_last_numbers_are_still_given() {
        let mut timestamps = Timestamps::default();
        let fast_forward = |timestamp| Command::FastForward { timestamp };
        let reserve = Command::Reserve { count: 1000 };
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

    fn noted(timestamps: &mut Timestamps, timestamp: u64, unix_ms: u64) {
        let note = Command::Note(Note { timestamp, unix_ms });
        timestamps.apply(&note).unwrap();
    }

    #[test]
    fn notes_are_sparse_growing_and_bounded() {
        let mut timestamps = Timestamps::default();
        timestamps
            .apply(&Command::Reserve { count: 1 << 40 })
            .unwrap();
        for step in 0..3 * NOTES_MAX as u64 {
            noted(&mut timestamps, step * 10, step * NOTE_SPACING_MS);
            // Too near, of another time, and beyond what can have been given.
            noted(&mut timestamps, step * 10 + 1, step * NOTE_SPACING_MS + 1);
            noted(&mut timestamps, step * 10 + 1, step * NOTE_SPACING_MS / 2);
            noted(&mut timestamps, 1 << 41, (step + 1) * NOTE_SPACING_MS);
        }
        let notes = &timestamps.notes;
        assert!(notes.len() <= NOTES_MAX && notes.len() > NOTES_MAX / 2);
        assert!(notes.windows(2).all(|two| {
            two[0].timestamp < two[1].timestamp
                && two[1].unix_ms - two[0].unix_ms >= NOTE_SPACING_MS
        }));
        assert_eq!(notes[0].unix_ms, 0, "the oldest is kept");
    }

    #[test]
    fn a_time_lies_between_two_notes_and_so_does_a_timestamp() {
        let mut timestamps = Timestamps::default();
        timestamps.apply(&Command::Reserve { count: 1000 }).unwrap();
        let notes = [(10, 100_000), (20, 200_000)].map(|(timestamp, unix_ms)| {
            noted(&mut timestamps, timestamp, unix_ms);
            Some(Note { timestamp, unix_ms })
        });
        for (unix_ms, expected) in [
            (99_999, (None, notes[0])),
            (100_000, (notes[0], notes[1])),
            (199_999, (notes[0], notes[1])),
            (200_000, (notes[1], None)),
        ] {
            assert_eq!(timestamps.notes_at(unix_ms), expected, "{unix_ms}");
        }
        for (timestamp, expected) in [
            (10, (None, notes[0])),
            (11, (notes[0], notes[1])),
            (20, (notes[0], notes[1])),
            (21, (notes[1], None)),
        ] {
            assert_eq!(timestamps.notes_around_timestamp(timestamp), expected);
        }
    }
}
