use seawall_common::ErrorKind;

use super::*;
use crate::state::testing::{Cluster, alias};

const ALIAS: &str = "zone1-101";

fn heard(instance: &str) -> Heard {
    Heard {
        instance: instance.into(),
        at: Instant::now(),
        at_unix_ms: 1,
        status: v1::TabletStatus::default(),
    }
}

fn serving(instance: &str) -> Heard {
    let mut heard = heard(instance);
    heard.status.serving = true;
    heard
}

fn in_office() -> Heartbeats {
    let heartbeats = Heartbeats::new();
    heartbeats.take_office();
    heartbeats
}

/// Whether the tablet serves, by all that can be asked.
fn serves(heartbeats: &Heartbeats) -> bool {
    let cluster = Cluster::with_primary();
    let tablet = cluster.state.topology.tablet(&alias(ALIAS)).unwrap();
    let says = heartbeats.seen_status(&alias(ALIAS));
    let serves = says.is_some_and(|status| status.serving);
    assert_eq!(heartbeats.presence(tablet).serves, serves);
    let until = heartbeats.look(|heard| heard.serves_until(&alias(ALIAS)));
    assert_eq!(until.is_some(), serves);
    serves
}

fn has_changed(changes: &mut watch::Receiver<u64>) -> bool {
    let has_changed = changes.has_changed().unwrap();
    changes.mark_unchanged();
    has_changed
}

#[tokio::test(start_paused = true)]
async fn of_two_sessions_the_later_one_is_heard_and_a_farewell_counts_at_once() {
    let heartbeats = in_office();
    let alias = alias(ALIAS);
    let mut changes = heartbeats.changes();
    let first = heartbeats.begin_session(&alias, "a");
    heartbeats.hear(&alias, first, serving("a")).unwrap();
    assert!(has_changed(&mut changes));
    heartbeats.hear(&alias, first, serving("a")).unwrap();
    assert!(!has_changed(&mut changes), "nothing new was said");

    let second = heartbeats.begin_session(&alias, "a");
    heartbeats.hear(&alias, second, serving("a")).unwrap();
    let late = heartbeats.hear(&alias, first, heard("a")).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Cancelled);
    heartbeats.leave(&alias, first).unwrap_err();
    assert!(heartbeats.is_there(&alias) && heartbeats.may_be_there(&alias));

    heartbeats.leave(&alias, second).unwrap();
    assert!(has_changed(&mut changes));
    assert!(!heartbeats.is_there(&alias) && !heartbeats.may_be_there(&alias));
    assert!(!serves(&heartbeats));
    // Another one may have the alias at once, although this leader is young.
    assert_eq!(heartbeats.seen(&alias, "a"), Seen::No);
    assert_eq!(heartbeats.silence(&alias), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_back_after_silence_is_a_change_although_it_says_the_same() {
    let heartbeats = in_office();
    let alias = alias(ALIAS);
    let session = heartbeats.begin_session(&alias, "a");
    heartbeats.hear(&alias, session, serving("a")).unwrap();
    tokio::time::advance(SEEN_WITHIN + Duration::from_millis(1)).await;
    assert!(!serves(&heartbeats));
    let mut changes = heartbeats.changes();
    heartbeats.hear(&alias, session, serving("a")).unwrap();
    assert!(has_changed(&mut changes));
    assert!(serves(&heartbeats));
}

#[tokio::test(start_paused = true)]
async fn a_tablet_of_which_no_heartbeat_has_told_does_not_serve_however_often_its_agent_is_met() {
    let heartbeats = in_office();
    heartbeats.meet(&alias(ALIAS), "a", 1);
    heartbeats.begin_session(&alias(ALIAS), "a");
    heartbeats.touch(&alias(ALIAS));
    assert!(heartbeats.is_there(&alias(ALIAS)));
    assert!(heartbeats.seen_status(&alias(ALIAS)).is_none());
    assert!(!serves(&heartbeats));
    // It is still to say so itself.
    assert!(heartbeats.look(|heard| heard.is_awaited(&alias(ALIAS))));
    heartbeats.record(&alias(ALIAS), serving("a"));
    assert!(serves(&heartbeats));
    assert!(!heartbeats.look(|heard| heard.is_awaited(&alias(ALIAS))));
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_said_gets_no_new_time_by_its_registering_or_answering_a_call() {
    let heartbeats = in_office();
    let alias = alias(ALIAS);
    heartbeats.record(&alias, serving("a"));
    let until = Instant::now() + SEEN_WITHIN;
    tokio::time::advance(Duration::from_secs(6)).await;
    heartbeats.meet(&alias, "a", 1);
    heartbeats.touch(&alias);
    assert!(serves(&heartbeats), "what it said still counts");
    let known = heartbeats.look(|heard| heard.serves_until(&alias));
    assert_eq!(known, Some(until));
    tokio::time::advance(Duration::from_secs(5)).await;
    assert!(!serves(&heartbeats), "it said so 11 s ago");
    assert!(heartbeats.is_there(&alias), "it was met 5 s ago");
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_said_before_it_was_silent_or_left_is_nothing_when_it_registers_again() {
    let heartbeats = in_office();
    let alias = alias(ALIAS);
    let session = heartbeats.begin_session(&alias, "a");
    heartbeats.hear(&alias, session, serving("a")).unwrap();
    heartbeats.leave(&alias, session).unwrap();
    heartbeats.meet(&alias, "a", 1);
    assert!(heartbeats.is_there(&alias) && !serves(&heartbeats));

    heartbeats.record(&alias, serving("a"));
    tokio::time::advance(SEEN_WITHIN + Duration::from_millis(1)).await;
    heartbeats.meet(&alias, "a", 1);
    let cluster = Cluster::with_primary();
    let presence = heartbeats.presence(cluster.state.topology.tablet(&alias).unwrap());
    assert!(presence.status.is_none() && !presence.serves && !presence.is_silent);
}

#[tokio::test(start_paused = true)]
async fn another_instance_that_registers_has_said_nothing_and_ends_the_talk_of_the_one_before() {
    let heartbeats = in_office();
    let alias = alias(ALIAS);
    let earlier = heartbeats.begin_session(&alias, "a");
    heartbeats.hear(&alias, earlier, serving("a")).unwrap();
    // The same one registers anew, and its session goes on.
    heartbeats.meet(&alias, "a", 1);
    heartbeats.hear(&alias, earlier, serving("a")).unwrap();
    assert!(serves(&heartbeats));

    heartbeats.meet(&alias, "b", 1);
    assert!(!serves(&heartbeats));
    let late = heartbeats.hear(&alias, earlier, serving("a")).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Cancelled);
    heartbeats.leave(&alias, earlier).unwrap_err();
    assert_eq!(heartbeats.seen(&alias, "b"), Seen::Yes);
    assert!(!serves(&heartbeats));
}

#[tokio::test(start_paused = true)]
async fn a_young_leader_does_not_take_an_agent_for_gone() {
    let heartbeats = in_office();
    let alias = alias(ALIAS);
    assert_eq!(heartbeats.seen(&alias, "a"), Seen::Unknown);
    assert!(heartbeats.may_be_there(&alias));
    heartbeats.record(&alias, heard("a"));
    assert_eq!(heartbeats.seen(&alias, "a"), Seen::Yes);
    tokio::time::advance(SEEN_WITHIN + Duration::from_secs(1)).await;
    assert_eq!(heartbeats.seen(&alias, "a"), Seen::No);
    assert!(!heartbeats.may_be_there(&alias));
    assert!(heartbeats.seen_status(&alias).is_none());
    heartbeats.take_office();
    assert_eq!(heartbeats.seen(&alias, "a"), Seen::Unknown);
    assert!(heartbeats.may_be_there(&alias));
    assert_eq!(heartbeats.silence(&alias), Duration::ZERO);
    tokio::time::advance(Duration::from_secs(7)).await;
    assert_eq!(heartbeats.silence(&alias), Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn only_what_changes_is_to_be_looked_at_and_once() {
    let heartbeats = in_office();
    let (one, other) = (alias("zone1-101"), alias("zone1-102"));
    let changed = || heartbeats.look_at_changes(|_, changed| changed);
    heartbeats.record(&one, serving("a"));
    heartbeats.record(&other, heard("b"));
    assert_eq!(changed(), [one.clone(), other.clone()].into());
    for _ in 0..5 {
        heartbeats.record(&one, serving("a"));
        heartbeats.record(&other, heard("b"));
    }
    assert!(changed().is_empty());
    heartbeats.record(&one, heard("a"));
    assert_eq!(changed(), [one].into());
    heartbeats.forget(&other);
    assert_eq!(changed(), [other].into());
}
