use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> u64 {
    let at: Timestamp = text.parse().unwrap();
    u64::try_from(at.as_millisecond()).unwrap()
}

/// The slots from one moment to another, as the clocks there show them.
fn slots(cron: &str, zone: &str, from: &str, until: &str) -> Vec<String> {
    let slots = Slots::new(cron, zone).unwrap();
    let until = at(until);
    let all = slots.following(at(from)).take_while(|slot| *slot <= until);
    all.map(|slot| slots.local(slot)).collect()
}

#[test]
fn a_local_time_comes_once_a_day_also_when_the_clock_skips_or_repeats_it() {
    // The nights of 2027-03-28 and 2026-10-25 in Zurich; 03-14 and 11-01 in New York.
    for (cron, zone, from, until, expected) in [
        (
            "30 2 * * *",
            "Europe/Zurich",
            "2027-03-26T12:00:00Z",
            "2027-03-29T12:00:00Z",
            &[
                "2027-03-27T02:30:00+01:00",
                "2027-03-28T03:00:00+02:00",
                "2027-03-29T02:30:00+02:00",
            ][..],
        ),
        (
            "30 2,14 * * *",
            "Europe/Zurich",
            "2026-10-24T12:00:00Z",
            "2026-10-26T00:00:00Z",
            &[
                "2026-10-24T14:30:00+02:00",
                "2026-10-25T02:30:00+02:00",
                "2026-10-25T14:30:00+01:00",
            ],
        ),
        (
            "30 2,14 * * *",
            "America/New_York",
            "2027-03-13T12:00:00Z",
            "2027-03-15T00:00:00Z",
            &[
                "2027-03-13T14:30:00-05:00",
                "2027-03-14T03:00:00-04:00",
                "2027-03-14T14:30:00-04:00",
            ],
        ),
        (
            "*/20 1 * * *",
            "America/New_York",
            "2026-11-01T00:00:00Z",
            "2026-11-02T00:00:00Z",
            &[
                "2026-11-01T01:00:00-04:00",
                "2026-11-01T01:20:00-04:00",
                "2026-11-01T01:40:00-04:00",
            ],
        ),
        // All that was skipped comes at once, and is one.
        (
            "*/20 2-3 * * *",
            "Europe/Zurich",
            "2027-03-27T12:00:00Z",
            "2027-03-28T12:00:00Z",
            &[
                "2027-03-28T03:00:00+02:00",
                "2027-03-28T03:20:00+02:00",
                "2027-03-28T03:40:00+02:00",
            ],
        ),
        // Half an hour is skipped, and repeated.
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-02T16:00:00Z",
            "2026-10-04T12:00:00Z",
            &["2026-10-04T02:30:00+11:00"],
        ),
        (
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2027-04-02T16:00:00Z",
            "2027-04-05T12:00:00Z",
            &["2027-04-04T01:45:00+11:00", "2027-04-05T01:45:00+10:30"],
        ),
        // A day that there was not: 2011-12-30 in Samoa.
        (
            "0 12 * * *",
            "Pacific/Apia",
            "2011-12-29T00:00:00Z",
            "2011-12-31T00:00:00Z",
            &[
                "2011-12-29T12:00:00-10:00",
                "2011-12-31T00:00:00+14:00",
                "2011-12-31T12:00:00+14:00",
            ],
        ),
    ] {
        assert_eq!(slots(cron, zone, from, until), expected, "{cron} in {zone}");
    }
}

#[test]
fn an_expression_for_every_hour_goes_by_the_time_that_passes() {
    for (cron, zone, from, until, expected) in [
        (
            "30 * * * *",
            "Europe/Zurich",
            "2027-03-28T00:00:00Z",
            "2027-03-28T02:00:00Z",
            &["2027-03-28T01:30:00+01:00", "2027-03-28T03:30:00+02:00"][..],
        ),
        (
            "30 * * * *",
            "Europe/Zurich",
            "2026-10-25T00:00:00Z",
            "2026-10-25T02:00:00Z",
            &["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"],
        ),
        (
            "0 0-23 * * *",
            "America/New_York",
            "2026-11-01T04:30:00Z",
            "2026-11-01T07:00:00Z",
            &[
                "2026-11-01T01:00:00-04:00",
                "2026-11-01T01:00:00-05:00",
                "2026-11-01T02:00:00-05:00",
            ],
        ),
        // The moment of the change itself.
        (
            "0 * * * *",
            "Europe/Zurich",
            "2027-03-28T00:30:00Z",
            "2027-03-28T02:00:00Z",
            &["2027-03-28T03:00:00+02:00", "2027-03-28T04:00:00+02:00"],
        ),
        (
            "*/30 * * * *",
            "Australia/Lord_Howe",
            "2027-04-03T14:15:00Z",
            "2027-04-03T16:00:00Z",
            &[
                "2027-04-04T01:30:00+11:00",
                "2027-04-04T01:30:00+10:30",
                "2027-04-04T02:00:00+10:30",
                "2027-04-04T02:30:00+10:30",
            ],
        ),
        (
            "*/20 * * * * *",
            "UTC",
            "2026-11-26T00:00:00.500Z",
            "2026-11-26T00:01:00Z",
            &[
                "2026-11-26T00:00:20+00:00",
                "2026-11-26T00:00:40+00:00",
                "2026-11-26T00:01:00+00:00",
            ],
        ),
    ] {
        assert_eq!(slots(cron, zone, from, until), expected, "{cron} in {zone}");
    }
}

#[test]
fn what_never_comes_has_no_slot_and_what_comes_seldom_has() {
    let from = at("2026-11-26T00:00:00Z");
    let first = |cron: &str| Slots::new(cron, "UTC").ok()?.after(from);
    assert_eq!(first("0 3 30 2 *"), None);
    assert_eq!(first("0 3 31 4 *"), None);
    assert_eq!(first("0 3 29 2 *"), Some(at("2028-02-29T03:00:00Z")));
    // A leap day that is seven years away and more.
    let slots = Slots::new("0 3 29 2 *", "UTC").unwrap();
    let after = slots.after(at("2097-01-01T00:00:00Z"));
    assert_eq!(after, Some(at("2104-02-29T03:00:00Z")));
}

#[test]
fn the_last_slot_of_a_span_is_found_and_those_before_it_are_counted() {
    let from = at("2026-11-20T00:00:00Z");
    let until = at("2026-11-26T12:00:30Z");
    for (cron, last, before) in [
        ("0 3 * * *", Some("2026-11-26T03:00:00Z"), 6),
        ("*/5 * * * * *", Some("2026-11-26T12:00:30Z"), 1000),
        ("0 3 1 * *", None, 0),
        ("0 12 20 11 *", Some("2026-11-20T12:00:00Z"), 0),
        ("0 0 20 11 *", None, 0),
    ] {
        let slots = Slots::new(cron, "UTC").unwrap();
        let found = slots.last_between(from, until);
        assert_eq!(found, last.map(at), "{cron}");
        let count = found.map_or(0, |last| slots.count_between(from, last, 1000));
        assert_eq!(count, before, "{cron}");
    }
    let yearly = Slots::new("0 3 1 1 *", "UTC").unwrap();
    let last = yearly.last_between(0, until);
    assert_eq!(last, Some(at("2026-01-01T03:00:00Z")));
}

#[test]
fn a_mistake_is_named_and_what_was_meant_is_guessed() {
    for (cron, said) in [
        ("", "empty"),
        ("3 * *", "malformed"),
        ("61 3 * * *", "malformed"),
        ("0 3 * * FOO", "malformed"),
        ("0 0 3 * * * 2027", "malformed"),
        ("@never", "malformed"),
        (&"1,".repeat(200), "longer than"),
    ] {
        let refused = Slots::new(cron, "UTC").unwrap_err();
        assert!(refused.message().contains(said), "{cron}: {refused}");
    }
    for (zone, meant) in [
        ("Europe/Zuerich", "Europe/Zurich"),
        ("zurich", "Europe/Zurich"),
        ("New York", "America/New_York"),
        ("+02:00", "IANA"),
        ("", "IANA"),
        ("../../etc/passwd", "IANA"),
    ] {
        let refused = Slots::new("0 3 * * *", zone).unwrap_err();
        let hint = refused.hint_text().unwrap();
        assert!(hint.contains(meant), "{zone}: {hint}");
    }
    assert!(Slots::new("@daily", "europe/zurich").is_ok());
}

/// Fields that were chosen, and so are known without reading an expression.
#[derive(Clone, Debug)]
struct Fields {
    minutes: BTreeSet<i8>,
    hours: Option<BTreeSet<i8>>,
    weekdays: Option<BTreeSet<i8>>,
}

impl Fields {
    fn cron(&self) -> String {
        let list = |set: &BTreeSet<i8>| {
            let numbers: Vec<String> = set.iter().map(ToString::to_string).collect();
            numbers.join(",")
        };
        let or_all = |set: &Option<BTreeSet<i8>>| set.as_ref().map_or("*".to_owned(), list);
        let minutes = list(&self.minutes);
        format!(
            "{minutes} {} * * {}",
            or_all(&self.hours),
            or_all(&self.weekdays)
        )
    }

    fn means(&self, local: DateTime) -> bool {
        let weekday = local.weekday().to_sunday_zero_offset();
        let in_or_all = |set: &Option<BTreeSet<i8>>, value: i8| {
            set.as_ref().is_none_or(|set| set.contains(&value))
        };
        local.second() == 0
            && self.minutes.contains(&local.minute())
            && in_or_all(&self.hours, local.hour())
            && in_or_all(&self.weekdays, weekday)
    }

    fn names_hours(&self) -> bool {
        self.hours.as_ref().is_some_and(|hours| hours.len() < 24)
    }
}

fn fields() -> impl Strategy<Value = Fields> {
    use proptest::collection::btree_set;
    let hours = prop_oneof![
        Just(None),
        btree_set(0..24_i8, 1..6).prop_map(Some),
        // Where the clocks change.
        btree_set(0..4_i8, 1..4).prop_map(Some),
    ];
    let weekdays = prop_oneof![
        3 => Just(None),
        1 => btree_set(0..7_i8, 1..4).prop_map(Some),
    ];
    let minutes = btree_set(0..60_i8, 1..5);
    (minutes, hours, weekdays).prop_map(|(minutes, hours, weekdays)| Fields {
        minutes,
        hours,
        weekdays,
    })
}

const ZONES: [&str; 10] = [
    "UTC",
    "Europe/Zurich",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "America/St_Johns",
    "Antarctica/Troll",
];

/// What the slots are by going through all minutes of the zone, one after the other.
fn minute_by_minute(fields: &Fields, zone: &TimeZone, from: Timestamp, minutes: i64) -> Vec<u64> {
    let minute = |n: i64| from + SignedDuration::from_mins(n);
    let shown: Vec<(Timestamp, DateTime)> = (0..=minutes)
        .map(|n| (minute(n), zone.to_datetime(minute(n))))
        .collect();
    let mut slots = BTreeSet::new();
    if fields.names_hours() {
        let first = shown.iter().map(|(_, local)| *local).min().unwrap();
        let last = shown.iter().map(|(_, local)| *local).max().unwrap();
        let locals = first.series(jiff::Span::new().minutes(1));
        for local in locals.take_while(|local| *local <= last) {
            if fields.means(local) {
                let exact = shown.iter().find(|(_, at)| *at == local);
                let later = || shown.iter().find(|(_, at)| *at > local);
                let (moment, _) = exact.or_else(later).unwrap();
                slots.insert(*moment);
            }
        }
    } else {
        let meant = shown.iter().filter(|(_, local)| fields.means(*local));
        slots.extend(meant.map(|(moment, _)| *moment));
    }
    slots
        .into_iter()
        .map(|slot| u64::try_from(slot.as_millisecond()).unwrap())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn slots_are_what_going_through_all_minutes_says_and_always_later_ones(
        fields in fields(),
        zone in 0..ZONES.len(),
        change in 0..8_usize,
        offset_minutes in 0..1440_i64,
    ) {
        let zone_name = ZONES[zone];
        let slots = Slots::new(&fields.cron(), zone_name).unwrap();
        let zone = TimeZone::get(zone_name).unwrap();
        // Around one of the zone's changes, whenever they were; anywhere where there is none.
        let epoch: Timestamp = "2009-06-01T00:00:00Z".parse().unwrap();
        let middle = zone.following(epoch).nth(change).map_or(epoch, |change| change.timestamp());
        let whole_minute = middle.as_second().div_euclid(60) * 60;
        let middle = Timestamp::from_second(whole_minute).unwrap();
        let from = middle - SignedDuration::from_mins(1440 + offset_minutes);
        let minutes = 4 * 1440;
        let expected = minute_by_minute(&fields, &zone, from, minutes);
        let first = u64::try_from(from.as_millisecond()).unwrap();
        let until = first + 60_000 * u64::try_from(minutes).unwrap();
        // What lies at the edges may have come from beyond them.
        let edge = 26 * 3600 * 1000;
        let inside = |slot: &u64| (first + edge..=until - edge).contains(slot);
        let found: Vec<u64> = slots
            .following(first)
            .take_while(|slot| *slot <= until)
            .filter(inside)
            .collect();
        let expected: Vec<u64> = expected.into_iter().filter(inside).collect();
        prop_assert_eq!(&found, &expected, "{} in {}", fields.cron(), zone_name);
        // From wherever one asks, the answer is the same.
        for slot in &found {
            prop_assert_eq!(slots.after(slot - 1), Some(*slot));
            prop_assert_eq!(slots.last_between(first, *slot), Some(*slot));
        }
    }
}
