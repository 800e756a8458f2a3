//! How fast a count grows, over the last seconds in which somebody looked.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(10);
/// Two looks are not nearer to each other: so there are never more than twenty or so.
const APART: Duration = Duration::from_millis(500);
/// What was seen for a shorter time shows no pace.
const SEEN_MIN: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub struct Pace {
    seen: VecDeque<(Instant, u64)>,
}

impl Pace {
    /// Notes a look at the count; how much it grows in a second, as far as that can be said.
    pub fn look(&mut self, now: Instant, count: u64) -> u64 {
        // Another count has begun.
        if self.seen.back().is_some_and(|(_, last)| count < *last) {
            self.seen.clear();
        }
        if self.seen.back().is_none_or(|(at, _)| now - *at >= APART) {
            self.seen.push_back((now, count));
        }
        while self.seen.get(1).is_some_and(|(at, _)| now - *at >= WINDOW) {
            self.seen.pop_front();
        }
        match self.seen.front() {
            Some((at, first)) if now - *at >= SEEN_MIN => {
                ((count - first) as f64 / (now - *at).as_secs_f64()) as u64
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_of_the_last_seconds() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut pace = Pace::default();
        assert_eq!(pace.look(at(0), 0), 0);
        assert_eq!(pace.look(at(400), 400_000), 0);
        for i in 1..=100 {
            assert_eq!(pace.look(at(i * 1000), i * 1_000_000), 1_000_000);
        }
        // It stands still, and after a while nothing else is remembered.
        assert_eq!(pace.look(at(105_000), 100_000_000), 500_000);
        assert_eq!(pace.look(at(111_000), 100_000_000), 0);
        // The next step counts from nothing.
        assert_eq!(pace.look(at(112_000), 1), 0);
        assert_eq!(pace.look(at(114_000), 2_000_001), 1_000_000);
        assert!(pace.seen.len() < 25);
    }
}
