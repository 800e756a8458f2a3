//! Bytes per second over the last few seconds.

use std::time::Duration;

use tokio::time::Instant;

const SLOT: Duration = Duration::from_millis(500);
const SLOTS: usize = 10;

/// Counts bytes in slots of time; the oldest slot is used again for the newest.
#[derive(Debug)]
pub(super) struct Meter {
    began: Instant,
    /// Number of the newest slot, from `began` on.
    newest: u64,
    slots: [u64; SLOTS],
}

impl Meter {
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            newest: 0,
            slots: [0; SLOTS],
        }
    }

    pub fn add(&mut self, now: Instant, bytes: u64) {
        self.turn_to(now);
        let slot = &mut self.slots[(self.newest % SLOTS as u64) as usize];
        *slot = slot.saturating_add(bytes);
    }

    /// Over all slots, the newest one of which has only begun.
    pub fn rate(&mut self, now: Instant) -> u64 {
        self.turn_to(now);
        let bytes = self
            .slots
            .iter()
            .fold(0_u64, |sum, s| sum.saturating_add(*s));
        let older = self.newest.min(SLOTS as u64 - 1) as u32;
        let in_newest = (now - self.began).as_nanos() % SLOT.as_nanos();
        let nanos = SLOT.as_nanos() * u128::from(older) + in_newest;
        // In the first moments a single request would count for more than it is.
        let nanos = nanos.max(Duration::from_secs(1).as_nanos());
        let rate = u128::from(bytes) * Duration::from_secs(1).as_nanos() / nanos;
        u64::try_from(rate).unwrap_or(u64::MAX)
    }

    fn turn_to(&mut self, now: Instant) {
        let slot = (now.saturating_duration_since(self.began).as_nanos() / SLOT.as_nanos()) as u64;
        let passed = slot.saturating_sub(self.newest);
        for i in 1..=passed.min(SLOTS as u64) {
            self.slots[((self.newest + i) % SLOTS as u64) as usize] = 0;
        }
        if passed > SLOTS as u64 {
            self.slots = [0; SLOTS];
        }
        self.newest = self.newest.max(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_shows_the_last_seconds_and_forgets_what_was_before() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut meter = Meter::new(began);
        assert_eq!(meter.rate(at(0)), 0);
        for i in 0..100 {
            meter.add(at(i * 100), 1000);
        }
        let rate = meter.rate(at(9_999));
        assert!((9_500..=10_500).contains(&rate), "{rate}");
        // Half of the window has nothing by now.
        let rate = meter.rate(at(12_499));
        assert!((4_500..=5_500).contains(&rate), "{rate}");
        assert_eq!(meter.rate(at(15_000)), 0);
        meter.add(at(1_000_000), 5_000);
        assert_eq!(meter.rate(at(1_000_000)), 5_000 * 1000 / 4_500);
    }
}
