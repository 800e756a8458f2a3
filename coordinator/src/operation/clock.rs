//! Whether wall time can be believed: it is compared with a clock that never jumps, and with the
//! times that the group has agreed on.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Coordination, driver::millis};
use crate::state::{State, retention::Standstill};

/// More than this and nothing is decided by the time of day any more.
const JUMP_MAX: Duration = Duration::from_secs(600);

/// With nothing to compare with, the last applied time may be this long ago.
const UNWATCHED_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// What wall time and the monotonic clock said at one moment.
#[derive(Clone, Copy, Debug)]
struct Moment {
    wall_unix_ms: u64,
    at: Instant,
}

impl Moment {
    fn due_unix_ms(&self, at: Instant) -> u64 {
        let passed_ms = millis(at.saturating_duration_since(self.at));
        self.wall_unix_ms.saturating_add(passed_ms)
    }

    fn agrees(&self, other: Moment) -> bool {
        is_near(other.wall_unix_ms, self.due_unix_ms(other.at))
    }

    fn jump(&self, now: Moment) -> Option<String> {
        if self.agrees(now) {
            return None;
        }
        let due_unix_ms = self.due_unix_ms(now.at);
        let off_ms = now.wall_unix_ms.abs_diff(due_unix_ms);
        let off = humantime::format_duration(Duration::from_secs(off_ms / 1000));
        let whither = if now.wall_unix_ms > due_unix_ms {
            "ahead"
        } else {
            "back"
        };
        Some(format!("wall time jumped {whither} by {off}"))
    }
}

fn is_near(one_unix_ms: u64, other_unix_ms: u64) -> bool {
    one_unix_ms.abs_diff(other_unix_ms) <= millis(JUMP_MAX)
}

/// Keeps, on every member and over all terms of office, a moment whose time of day was believed.
#[derive(Debug, Default)]
pub struct ClockWatch(Mutex<Watched>);

#[derive(Debug, Default)]
struct Watched {
    believed: Option<Moment>,
    /// Of a command that may have been applied long after it was made.
    candidate: Option<Moment>,
}

impl ClockWatch {
    /// What is wrong with the clock now. `committed_unix_ms`: the last time that the group has seen;
    /// `interval`: between two such times.
    pub fn doubt(
        &self,
        wall_unix_ms: u64,
        at: Instant,
        committed_unix_ms: u64,
        interval: Duration,
    ) -> Option<String> {
        let now = Moment { wall_unix_ms, at };
        let believed = self.watched().believed;
        let doubt = match believed {
            Some(believed) => believed.jump(now),
            None => beyond(wall_unix_ms, committed_unix_ms, interval),
        };
        doubt.or_else(|| behind(wall_unix_ms, committed_unix_ms))
    }

    /// Later times are compared with this one.
    pub fn believe(&self, wall_unix_ms: u64, at: Instant) {
        *self.watched() = Watched {
            believed: Some(Moment { wall_unix_ms, at }),
            candidate: None,
        };
    }

    /// A command of another member's time has been applied: now, or belatedly. So it may be behind
    /// what is believed, and is believed itself when this member's clock agrees, or when as much time
    /// has passed since another one as between the two.
    fn note(&self, committed_unix_ms: u64, at: Instant, own_unix_ms: u64) {
        let noted = Moment {
            wall_unix_ms: committed_unix_ms,
            at,
        };
        let mut watched = self.watched();
        match (watched.believed, watched.candidate) {
            (Some(believed), _) if !believed.agrees(noted) => {}
            (Some(_), _) => watched.believed = Some(noted),
            (None, _) if is_near(own_unix_ms, committed_unix_ms) => watched.believed = Some(noted),
            (None, Some(before)) if before.agrees(noted) => {
                if at.saturating_duration_since(before.at) > JUMP_MAX {
                    watched.believed = Some(noted);
                }
            }
            (None, _) => watched.candidate = Some(noted),
        }
    }

    /// An operator has said that the clock is right: what was believed before counts no more.
    fn begin_anew(&self) {
        *self.watched() = Watched::default();
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes the times that the group agrees on: on every member, for the day on which it leads.
pub async fn follow(context: &Coordination) {
    let mut applied = context.group.applied();
    let look = || {
        let group = &context.group;
        group.look(|state| (state.retention.resumes(), committed_unix_ms(state)))
    };
    let mut seen = look();
    loop {
        if applied.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        let now = look();
        if now.0 != seen.0 {
            context.clock.begin_anew();
        }
        if now != seen {
            let own_unix_ms = (context.wall_unix_ms)();
            context
                .clock
                .note(now.1, (context.monotonic)(), own_unix_ms);
        }
        seen = now;
    }
}

/// The latest time by which the group has decided something.
pub fn committed_unix_ms(state: &State) -> u64 {
    let of_retention = state.retention.applied_unix_ms();
    of_retention.max(state.schedules.seen_unix_ms())
}

/// Why nothing is decided by the time of day now.
pub fn doubt(context: &Coordination) -> Option<Standstill> {
    let look = |state: &State| (committed_unix_ms(state), state.retention.stopped());
    let (committed, stopped) = context.group.look(look);
    let now_unix_ms = (context.wall_unix_ms)();
    let interval = context.patience.retention;
    stopped.or_else(|| {
        let watch = &context.clock;
        let doubt = watch.doubt(now_unix_ms, (context.monotonic)(), committed, interval);
        doubt.map(Standstill::of_clock)
    })
}

/// What is wrong with a clock that is further on than this group has ever been left alone for.
fn beyond(wall_unix_ms: u64, committed_unix_ms: u64, interval: Duration) -> Option<String> {
    let unwatched = UNWATCHED_MAX.max(interval.saturating_mul(2));
    let on_ms = wall_unix_ms.saturating_sub(committed_unix_ms);
    (committed_unix_ms > 0 && on_ms > millis(unwatched)).then(|| {
        let on = humantime::format_duration(Duration::from_secs(on_ms / 1000));
        format!("wall time is {on} beyond what the group has seen")
    })
}

/// What is wrong with a clock that shows an earlier time than was committed.
fn behind(wall_unix_ms: u64, committed_unix_ms: u64) -> Option<String> {
    let behind_ms = committed_unix_ms.saturating_sub(wall_unix_ms);
    (behind_ms > millis(JUMP_MAX)).then(|| {
        let behind = humantime::format_duration(Duration::from_secs(behind_ms / 1000));
        format!("wall time is {behind} behind what the group has seen")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_792_000_000_000;
    const MINUTE: u64 = 60_000;

    const DAY: u64 = 24 * 60 * MINUTE;
    const HOURLY: Duration = Duration::from_secs(3600);

    fn after(begun: Instant, minutes: u64) -> Instant {
        begun + Duration::from_secs(minutes * 60)
    }

    fn doubt(watch: &ClockWatch, wall_unix_ms: u64, at: Instant) -> Option<String> {
        watch.doubt(wall_unix_ms, at, START, HOURLY)
    }

    #[test]
    fn a_clock_that_goes_as_time_goes_is_believed_however_long() {
        let begun = Instant::now();
        let watch = ClockWatch::default();
        for hour in 0..100_u64 {
            // Set right by a few minutes now and then, one way and the other.
            let slewed = START + hour * 60 * MINUTE + (hour % 5) * MINUTE;
            let at = after(begun, hour * 60);
            assert_eq!(doubt(&watch, slewed, at), None, "hour {hour}");
            watch.believe(slewed, at);
        }
    }

    #[test]
    fn a_jump_of_more_than_ten_minutes_is_seen_in_both_directions_and_not_forgotten() {
        let begun = Instant::now();
        for (wall, said) in [
            (START + 12 * MINUTE, "ahead by 11m"),
            (START - 10 * MINUTE, "back by 11m"),
        ] {
            let watch = ClockWatch::default();
            watch.believe(START, begun);
            for _ in 0..2 {
                let wrong = doubt(&watch, wall, after(begun, 1)).unwrap();
                assert!(wrong.ends_with(said), "{wrong}");
            }
        }
        let watch = ClockWatch::default();
        watch.believe(START, begun);
        assert_eq!(doubt(&watch, START + 11 * MINUTE, after(begun, 1)), None);
    }

    #[test]
    fn i5_a_member_whose_clock_was_always_wrong_knows_it_when_it_leads() {
        let begun = Instant::now();
        let watch = ClockWatch::default();
        let off = 3 * DAY;
        for hour in 0..3 {
            let wall = START + hour * 60 * MINUTE;
            watch.note(wall, after(begun, hour * 60), wall + off);
        }
        let later = START + 180 * MINUTE;
        let wrong = doubt(&watch, later + off, after(begun, 180)).unwrap();
        assert!(wrong.contains("ahead by 3days"), "{wrong}");
        assert_eq!(doubt(&watch, later, after(begun, 180)), None);
    }

    #[test]
    fn what_a_member_applies_belatedly_is_not_taken_for_the_time_of_day() {
        let begun = Instant::now();
        let watch = ClockWatch::default();
        let now = START + DAY;
        // A day of the log at once, some of it within minutes.
        for minutes in [0, 60, 65, 1000, 1100, 1105] {
            watch.note(START + minutes * MINUTE, begun, now);
        }
        assert_eq!(doubt(&watch, now, begun), None);
        watch.believe(now, begun);
        watch.note(now - 30 * MINUTE, after(begun, 1), now + MINUTE);
        assert_eq!(doubt(&watch, now + 2 * MINUTE, after(begun, 2)), None);
    }

    #[test]
    fn i5_with_nothing_to_compare_with_a_week_is_believed_and_not_more() {
        let begun = Instant::now();
        let watch = ClockWatch::default();
        assert_eq!(doubt(&watch, START + 7 * DAY, begun), None);
        let wrong = doubt(&watch, START + 8 * DAY, begun).unwrap();
        assert!(wrong.contains("8days beyond"), "{wrong}");
        let new_group = watch.doubt(START, begun, 0, HOURLY);
        assert_eq!(new_group, None);
    }

    #[test]
    fn a_clock_that_is_behind_what_was_committed_is_not_believed() {
        assert_eq!(behind(START, 0), None);
        assert_eq!(behind(START, START + 10 * MINUTE), None);
        let wrong = behind(START, START + 11 * MINUTE).unwrap();
        assert!(wrong.contains("11m behind"), "{wrong}");
    }
}
