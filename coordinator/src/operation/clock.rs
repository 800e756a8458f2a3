//! Whether wall time can be believed: it is compared with a clock that never jumps.

use std::time::{Duration, Instant};

use super::driver::millis;

/// More than this and nothing is decided by the time of day any more.
const JUMP_MAX: Duration = Duration::from_secs(600);

/// What wall time and the monotonic clock said at one moment.
#[derive(Clone, Copy, Debug)]
pub struct ClockWatch {
    wall_unix_ms: u64,
    at: Instant,
}

impl ClockWatch {
    pub fn new(wall_unix_ms: u64, at: Instant) -> Self {
        Self { wall_unix_ms, at }
    }

    /// What is wrong with the clock now; when nothing is, later looks are compared with this one.
    pub fn look(&mut self, wall_unix_ms: u64, at: Instant) -> Option<String> {
        let passed_ms = millis(at.saturating_duration_since(self.at));
        let due_unix_ms = self.wall_unix_ms.saturating_add(passed_ms);
        let off_ms = wall_unix_ms.abs_diff(due_unix_ms);
        if off_ms <= millis(JUMP_MAX) {
            *self = Self { wall_unix_ms, at };
            return None;
        }
        let off = humantime::format_duration(Duration::from_secs(off_ms / 1000));
        let whither = if wall_unix_ms > due_unix_ms {
            "ahead"
        } else {
            "back"
        };
        Some(format!("wall time jumped {whither} by {off}"))
    }
}

/// What is wrong with a clock that shows an earlier time than was committed.
pub fn behind(wall_unix_ms: u64, committed_unix_ms: u64) -> Option<String> {
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

    #[test]
    fn a_clock_that_goes_as_time_goes_is_believed_however_long() {
        let begun = Instant::now();
        let mut watch = ClockWatch::new(START, begun);
        for hour in 1..100_u64 {
            // Set right by a few minutes now and then, one way and the other.
            let slewed = START + hour * 60 * MINUTE + (hour % 5) * MINUTE;
            let at = begun + Duration::from_secs(hour * 3600);
            assert_eq!(watch.look(slewed, at), None, "hour {hour}");
        }
    }

    #[test]
    fn a_jump_of_more_than_ten_minutes_is_seen_in_both_directions_and_not_forgotten() {
        let begun = Instant::now();
        for (wall, said) in [
            (START + 12 * MINUTE, "ahead by 11m"),
            (START - 10 * MINUTE, "back by 11m"),
        ] {
            let mut watch = ClockWatch::new(START, begun);
            let later = begun + Duration::from_secs(60);
            for _ in 0..2 {
                let wrong = watch.look(wall, later).unwrap();
                assert!(wrong.ends_with(said), "{wrong}");
            }
        }
        let mut watch = ClockWatch::new(START, begun);
        let later = begun + Duration::from_secs(60);
        assert_eq!(watch.look(START + 11 * MINUTE, later), None);
    }

    #[test]
    fn a_clock_that_is_behind_what_was_committed_is_not_believed() {
        assert_eq!(behind(START, 0), None);
        assert_eq!(behind(START, START + 10 * MINUTE), None);
        let wrong = behind(START, START + 11 * MINUTE).unwrap();
        assert!(wrong.contains("11m behind"), "{wrong}");
    }
}
