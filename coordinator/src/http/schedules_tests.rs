use prometheus_client::encoding::text::encode;

use super::*;
use crate::{
    group::Group as _,
    operation::testing::Stage,
    state::{
        Command,
        locks::Scope,
        schedules::{Command as Do, Spec, tests as schedules},
        testing::Cluster,
    },
};

/// The numbers as a scraper reads them.
fn scraped(stage: &Stage, is_leader: bool) -> String {
    let mut registry = Registry::with_prefix("seawall_schedule");
    let numbers = ScheduleNumbers::new(&mut registry);
    numbers.set(&stage.context, is_leader);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    text
}

#[tokio::test(start_paused = true)]
async fn a_try_that_failed_raises_the_alarm_and_one_series_stands_for_each_schedule() {
    let yearly = Spec {
        cron: "0 3 1 1 *".into(),
        ..schedules::spec()
    };
    let mut cluster = schedules::cluster(yearly);
    cluster.now_unix_ms += 3_600_000;
    schedules::slot(&mut cluster, 2).unwrap();
    let stage = Stage::new(cluster.clone());
    let said = |text: &str, line: &str| {
        assert!(text.contains(line), "no {line} in {text}");
    };
    let text = scraped(&stage, true);
    for line in [
        "seawall_schedule_consecutive_failures{schedule=\"nightly\"} 0\n",
        "seawall_schedule_last_success_timestamp_seconds{schedule=\"nightly\"} 0\n",
        "seawall_schedule_missed_slots{schedule=\"nightly\"} 2\n",
        "seawall_schedule_paused{schedule=\"nightly\"} 0\n",
        "seawall_schedule_short_logs{schedule=\"nightly\"} 0\n",
        "seawall_schedule_next_slot_seconds{schedule=\"nightly\"} ",
    ] {
        said(&text, line);
    }
    assert!(!scraped(&stage, false).contains("short_logs{"));

    schedules::fail_to_begin(&mut cluster, "commerce/0").unwrap();
    let id = schedules::begin(&mut cluster, "commerce/1").unwrap();
    let stage = Stage::new(cluster.clone());
    let text = scraped(&stage, true);
    said(
        &text,
        "seawall_schedule_consecutive_failures{schedule=\"nightly\"} 1\n",
    );
    said(&text, "seawall_schedule_running{schedule=\"nightly\"} 1\n");
    assert!(cluster.state.operations.get(&id).is_ok());

    let pause = Do::Pause {
        name: "nightly".into(),
        until_unix_ms: None,
        now_unix_ms: cluster.now_unix_ms,
    };
    stage
        .group
        .propose(Command::Schedules(pause))
        .await
        .unwrap();
    let text = scraped(&stage, true);
    said(&text, "seawall_schedule_paused{schedule=\"nightly\"} 1\n");
    assert!(!text.contains("next_slot_seconds{"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn times_are_in_seconds_and_nothing_is_left_of_a_schedule_that_was_removed() {
    let yearly = Spec {
        cron: "0 3 1 1 *".into(),
        scope: Scope::Shard("commerce/0".parse().unwrap()),
        ..schedules::spec()
    };
    let mut cluster = schedules::cluster(yearly);
    cluster.now_unix_ms += 3_600_000;
    schedules::slot(&mut cluster, 0).unwrap();
    let id = schedules::begin(&mut cluster, "commerce/0").unwrap();
    schedules::succeed(&mut cluster, id);
    let succeeded_unix_s = cluster.now_unix_ms / 1000;
    let stage = Stage::new(cluster.clone());
    let mut registry = Registry::with_prefix("seawall_schedule");
    let numbers = ScheduleNumbers::new(&mut registry);
    let scrape = || {
        numbers.set(&stage.context, true);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    };
    let text = scrape();
    let read = |name: &str| -> f64 {
        let line = format!("seawall_schedule_{name}{{schedule=\"nightly\"}} ");
        let value = text.lines().find_map(|text| text.strip_prefix(&line));
        value
            .unwrap_or_else(|| panic!("no {line} in {text}"))
            .parse()
            .unwrap()
    };
    assert_eq!(
        read("last_success_timestamp_seconds"),
        succeeded_unix_s as f64
    );
    let next = read("next_slot_seconds");
    let due = read("due_timestamp_seconds");
    assert!(due > succeeded_unix_s as f64, "{due}");
    assert!((1.0..367.0 * 86_400.0).contains(&next), "{next}");
    let remove = Do::Remove {
        name: "nightly".into(),
        now_unix_ms: cluster.now_unix_ms,
    };
    stage
        .group
        .propose(Command::Schedules(remove))
        .await
        .unwrap();
    let text = scrape();
    assert!(!text.contains("nightly"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_due_until_its_run_has_ended_and_then_the_next_one_is() {
    let daily = Spec {
        cron: "0 3 * * *".into(),
        zone: "UTC".into(),
        scope: Scope::Shard("commerce/0".parse().unwrap()),
        ..schedules::spec()
    };
    let mut cluster = schedules::cluster(daily);
    let due = |cluster: &Cluster| -> Option<u64> {
        let text = scraped(&Stage::new(cluster.clone()), true);
        let line = "seawall_schedule_due_timestamp_seconds{schedule=\"nightly\"} ";
        let value = text.lines().find_map(|text| text.strip_prefix(line));
        value.map(|value| value.parse().unwrap())
    };
    const DAY_S: u64 = 24 * 3600;
    let first = due(&cluster).unwrap();
    let now_unix_s = cluster.now_unix_ms / 1000;
    assert_eq!(first % DAY_S, 3 * 3600);
    assert!(
        (now_unix_s..=now_unix_s + DAY_S).contains(&first),
        "{first}"
    );

    cluster.now_unix_ms = first * 1000;
    schedules::slot(&mut cluster, 0).unwrap();
    let id = schedules::begin(&mut cluster, "commerce/0").unwrap();
    // Whatever comes meanwhile, and though it is paused: it has not been done with.
    cluster.now_unix_ms += 3 * DAY_S * 1000;
    let pause = Do::Pause {
        name: "nightly".into(),
        until_unix_ms: None,
        now_unix_ms: cluster.now_unix_ms,
    };
    cluster.apply(Command::Schedules(pause)).unwrap();
    assert_eq!(due(&cluster), Some(first));
    schedules::succeed(&mut cluster, id);
    assert_eq!(due(&cluster), None);

    let resume = Do::Resume {
        name: "nightly".into(),
        now_unix_ms: cluster.now_unix_ms,
    };
    cluster.apply(Command::Schedules(resume)).unwrap();
    assert_eq!(due(&cluster), Some(first + 4 * DAY_S));
}
