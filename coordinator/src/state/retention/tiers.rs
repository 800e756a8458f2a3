//! The newest complete backup of each of the last days, weeks and months with backups, in UTC.

use std::collections::BTreeSet;

use jiff::{Timestamp, tz::TimeZone};
use seawall_common::ids::BackupName;

use super::{Candidate, Policy};

const DAY_MS: u64 = 24 * 3600 * 1000;

/// Those that the tiers keep. `complete`: newest first.
pub(super) fn kept(policy: &Policy, complete: &[&Candidate]) -> BTreeSet<BackupName> {
    let mut kept = BTreeSet::new();
    for (count, period) in [
        (policy.daily, day as fn(u64) -> i64),
        (policy.weekly, week),
        (policy.monthly, month),
    ] {
        let mut newest_periods: BTreeSet<i64> = BTreeSet::new();
        newest_periods.extend(complete.iter().map(|backup| period(backup.at_unix_ms)));
        let counted: BTreeSet<i64> = newest_periods
            .into_iter()
            .rev()
            .take(count as usize)
            .collect();
        let mut taken = BTreeSet::new();
        for backup in complete {
            let period = period(backup.at_unix_ms);
            if counted.contains(&period) && taken.insert(period) {
                kept.insert(backup.name.clone());
            }
        }
    }
    kept
}

fn day(at_unix_ms: u64) -> i64 {
    i64::try_from(at_unix_ms / DAY_MS).unwrap_or(i64::MAX)
}

/// Weeks begin on Monday; the epoch was a Thursday.
fn week(at_unix_ms: u64) -> i64 {
    day(at_unix_ms).saturating_add(3) / 7
}

fn month(at_unix_ms: u64) -> i64 {
    let ms = i64::try_from(at_unix_ms).unwrap_or(i64::MAX);
    let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    let date = at.to_zoned(TimeZone::UTC).date();
    i64::from(date.year()) * 12 + i64::from(date.month())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u64 {
        let at: Timestamp = text.parse().unwrap();
        at.as_millisecond() as u64
    }

    #[test]
    fn days_weeks_and_months_begin_at_midnight_in_utc() {
        let apart = |period: fn(u64) -> i64, a: &str, b: &str| period(at(a)) != period(at(b));
        assert!(apart(day, "2026-11-21T23:59:59Z", "2026-11-22T00:00:00Z"));
        assert!(!apart(day, "2026-11-22T00:00:00Z", "2026-11-22T23:59:59Z"));
        // A Sunday and the Monday after it.
        assert!(apart(week, "2026-11-22T23:59:59Z", "2026-11-23T00:00:00Z"));
        assert!(!apart(week, "2026-11-23T00:00:00Z", "2026-11-29T23:59:59Z"));
        assert!(apart(month, "2026-02-28T23:59:59Z", "2026-03-01T00:00:00Z"));
        assert!(!apart(
            month,
            "2028-02-01T00:00:00Z",
            "2028-02-29T23:59:59Z"
        ));
        assert!(apart(month, "2026-12-31T12:00:00Z", "2027-12-31T12:00:00Z"));
    }
}
