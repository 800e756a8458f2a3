//! The moments that a cron expression means in a time zone.
//!
//! An expression that names hours means local times, and each of them comes once: one that the
//! clock skips comes at the end of the skip, one that it repeats comes the first time. An expression
//! for every hour means time that passes: of a skipped hour there is nothing, and a repeated one is
//! two hours.
//!
//! The rules of time zones change, and members may have learnt of a change at different times: so
//! only the leader computes slots, and they enter the log as values.

mod expression;

use croner::Cron;
use jiff::{
    SignedDuration, Timestamp, Zoned,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone},
};
use seawall_common::{Error, Result, alike::likeness};

/// A schedule of which nothing comes within this time never comes.
const HORIZON: SignedDuration = SignedDuration::from_hours(10 * 366 * 24);
const ZONE_CHARS_MAX: usize = 100;
/// Local times of one day that may come to the same moment, and more.
const LOCAL_TIMES_MAX: usize = 100_000;
/// Zones that are named when the one that is asked for is not known.
const NEAREST: usize = 3;
/// Spans of time in which the last slot before a moment is looked for, one after the other.
const SPANS_MS: [u64; 5] = [
    60 * 1000,
    3600 * 1000,
    24 * 3600 * 1000,
    32 * 24 * 3600 * 1000,
    400 * 24 * 3600 * 1000,
];

#[derive(Clone, Debug)]
pub struct Slots {
    cron: Cron,
    zone: TimeZone,
    /// Otherwise it names hours.
    is_every_hour: bool,
}

impl Slots {
    pub fn new(cron: &str, zone: &str) -> Result<Self> {
        let cron = expression::parse(cron)?;
        let is_hour = |hour| cron.pattern.hour_match(hour).unwrap_or(false);
        Ok(Self {
            is_every_hour: (0..24).all(is_hour),
            cron,
            zone: find_zone(zone)?,
        })
    }

    /// The first slot after a moment; none within ten years.
    pub fn after(&self, unix_ms: u64) -> Option<u64> {
        let from = Timestamp::from_millisecond(i64::try_from(unix_ms).ok()?).ok()?;
        let limit = from.checked_add(HORIZON).ok()?;
        let slot = match self.is_every_hour {
            true => self.by_time_that_passes(from, limit),
            false => self.by_local_times(from),
        };
        let slot = slot.filter(|slot| *slot <= limit)?;
        u64::try_from(slot.as_millisecond()).ok()
    }

    /// The next slots after a moment.
    pub fn following(&self, unix_ms: u64) -> impl Iterator<Item = u64> {
        std::iter::successors(self.after(unix_ms), |slot| self.after(*slot))
    }

    /// The last slot after one moment and not after another.
    pub fn last_between(&self, after_unix_ms: u64, until_unix_ms: u64) -> Option<u64> {
        let starts = SPANS_MS
            .iter()
            .map(|span| until_unix_ms.saturating_sub(*span));
        let starts = starts.take_while(|start| *start > after_unix_ms);
        let mut starts = starts.chain([after_unix_ms]);
        starts.find_map(|start| {
            let slots = self.following(start);
            slots.take_while(|slot| *slot <= until_unix_ms).last()
        })
    }

    /// How many slots there are after one moment and before another, up to a bound.
    pub fn count_between(&self, after_unix_ms: u64, before_unix_ms: u64, max: usize) -> usize {
        let slots = self.following(after_unix_ms);
        let slots = slots.take_while(|slot| *slot < before_unix_ms);
        slots.take(max).count()
    }

    /// A moment as the clocks there show it: `2026-11-27T03:00:00+01:00`.
    pub fn local(&self, unix_ms: u64) -> String {
        let at = i64::try_from(unix_ms).ok();
        let at = at.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        at.map_or_else(String::new, |at| {
            let local = at.to_zoned(self.zone.clone());
            local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
        })
    }

    fn by_local_times(&self, from: Timestamp) -> Option<Timestamp> {
        let mut local = whole_second(self.zone.to_datetime(from));
        for _ in 0..LOCAL_TIMES_MAX {
            local = self.local_after(local)?;
            let slot = self.moment_of(local)?;
            if slot > from {
                return Some(slot);
            }
        }
        None
    }

    fn moment_of(&self, local: DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).ok(),
            AmbiguousOffset::Gap { after, .. } => {
                // Read so, it lies before the change, and nothing else lies between.
                let earlier = after.to_timestamp(local).ok()?;
                let change = self.zone.following(earlier).next()?;
                Some(change.timestamp())
            }
        }
    }

    /// Between two changes of the clock local time goes as time goes.
    fn by_time_that_passes(&self, from: Timestamp, limit: Timestamp) -> Option<Timestamp> {
        let mut from = from;
        let mut offset = self.zone.to_offset(from);
        let mut local = whole_second(offset.to_datetime(from));
        while from <= limit {
            let slot = offset.to_timestamp(self.local_after(local)?).ok()?;
            let change = self.zone.following(from).next();
            let change = change.filter(|change| slot >= change.timestamp());
            let Some(change) = change else {
                return Some(slot);
            };
            from = change.timestamp();
            offset = change.offset();
            // The moment of the change itself may be a slot.
            let second = SignedDuration::from_secs(1);
            local = offset.to_datetime(from).checked_sub(second).ok()?;
        }
        None
    }

    /// The first local time after another that the expression means, in a calendar without changes
    /// of the clock.
    fn local_after(&self, local: DateTime) -> Option<DateTime> {
        let unchanging: Zoned = local.to_zoned(TimeZone::UTC).ok()?;
        let found = self.cron.find_next_occurrence(&unchanging, false).ok()?;
        Some(found.datetime())
    }
}

fn whole_second(local: DateTime) -> DateTime {
    local.with().subsec_nanosecond(0).build().unwrap_or(local)
}

fn find_zone(zone: &str) -> Result<TimeZone> {
    if zone.len() <= ZONE_CHARS_MAX
        && let Ok(found) = TimeZone::get(zone)
    {
        return Ok(found);
    }
    let nearest = nearest_zones(zone);
    let hint = match &*nearest {
        [] => "It is a name of the IANA database: Europe/Zurich, America/New_York, UTC.".to_owned(),
        names => format!("Did you mean {}?", names.join(" or ")),
    };
    let named: String = zone.chars().take(ZONE_CHARS_MAX).collect();
    Err(Error::invalid(format!("no time zone {named:?}")).hint(hint))
}

/// The names that are most like one, also when the continent was left out.
fn nearest_zones(zone: &str) -> Vec<String> {
    let asked = zone.to_lowercase().replace(' ', "_");
    if asked.is_empty() || asked.len() > ZONE_CHARS_MAX {
        return Vec::new();
    }
    let likeness_of = |name: &str| {
        let name = name.to_lowercase();
        let city = name.rsplit('/').next().unwrap_or(&name);
        likeness(&asked, &name).max(likeness(&asked, city))
    };
    let mut names: Vec<(f64, String)> = jiff::tz::db()
        .available()
        .map(|name| (likeness_of(name.as_str()), name.as_str().to_owned()))
        .filter(|(likeness, _)| *likeness > 0.7)
        .collect();
    names.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let names = names.into_iter().take(NEAREST);
    names.map(|(_, name)| name).collect()
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
