use std::time::Duration;

use seawall_proto::v1;
use tokio::time::Instant;

use super::*;
use crate::{
    agents::heartbeats::{Heard, SEEN_WITHIN},
    state::testing::{Cluster, alias, backup_of, removal_of, shard},
};

const MARIADB: Target<'static> = Target {
    engine: "mariadb",
    version: "",
};
const FILES: Target<'static> = Target {
    engine: "files",
    version: "",
};

fn chosen(cluster: &Cluster) -> Option<BackupName> {
    let choice = backup_to_restore(&cluster.state, &shard(), MARIADB).unwrap();
    choice.chosen.map(|entry| entry.name)
}

#[test]
fn the_newest_backup_has_the_highest_epoch_then_position_whatever_its_name() {
    let mut cluster = Cluster::with_primary();
    assert_eq!(chosen(&cluster), None);
    let high = cluster.backed_up("zone1-101", "0-100-9");
    cluster.backed_up("zone1-101", "0-100-5");
    assert_eq!(chosen(&cluster), Some(high));
    cluster.promote("zone1-102", "0-100-9");
    let next_epoch = cluster.backed_up("zone1-101", "0-100-9");
    assert_eq!(chosen(&cluster), Some(next_epoch));
}

#[test]
fn a_backup_that_is_being_removed_is_passed_over_and_refused_when_it_is_named() {
    let mut cluster = Cluster::with_primary();
    let older = cluster.backed_up("zone1-101", "0-100-5");
    let going = cluster.backed_up("zone1-101", "0-100-9");
    cluster.start(removal_of(&going, false)).unwrap();
    let choice = backup_to_restore(&cluster.state, &shard(), MARIADB).unwrap();
    assert_eq!(choice.chosen.unwrap().name, older);
    assert_eq!(choice.skipped, [format!("{going} is being removed")]);
    let named = named_backup(&cluster.state, &shard(), &going, MARIADB, true);
    let refused = named.unwrap_err();
    assert_eq!(
        refused.message(),
        format!("backup {going} is being removed")
    );
}

#[test]
fn i4_a_backup_off_the_line_of_epochs_or_of_another_engine_is_passed_over() {
    let mut cluster = Cluster::with_primary();
    let good = cluster.backed_up("zone1-101", "0-100-5");
    let diverged = cluster.backed_up("zone1-101", "0-100-9");
    cluster.promote("zone1-102", "0-100-6");
    let choice = backup_to_restore(&cluster.state, &shard(), MARIADB).unwrap();
    assert_eq!(choice.chosen.unwrap().name, good);
    assert!(choice.skipped[0].contains("line of epochs"));
    assert!(named_backup(&cluster.state, &shard(), &diverged, MARIADB, false).is_err());
    assert!(named_backup(&cluster.state, &shard(), &good, FILES, false).is_err());
    let refused = backup_to_restore(&cluster.state, &shard(), FILES).unwrap_err();
    assert!(refused.message().contains("of engine mariadb, not files"));
}

#[test]
fn a_backup_of_another_series_of_servers_is_passed_over() {
    let mut cluster = Cluster::with_primary();
    let name = cluster.backed_up("zone1-101", "0-100-5");
    let theirs = cluster
        .state
        .catalogue
        .entry(&shard(), &name)
        .unwrap()
        .facts
        .engine_version
        .clone();
    assert!(theirs.starts_with("10.11."), "{theirs}");
    let on = |version| {
        let target = Target { version, ..MARIADB };
        backup_to_restore(&cluster.state, &shard(), target)
    };
    assert_eq!(on("10.11.2-MariaDB").unwrap().chosen.unwrap().name, name);
    let refused = on("11.4.2-MariaDB").unwrap_err();
    assert!(refused.message().contains("of version 10.11."), "{refused}");
}

#[test]
fn i10_backups_of_which_none_is_complete_are_an_error_and_not_an_empty_start() {
    let mut cluster = Cluster::with_primary();
    cluster.start(backup_of("zone1-101")).unwrap();
    let refused = backup_to_restore(&cluster.state, &shard(), MARIADB).unwrap_err();
    assert!(refused.message().contains("being written by operation"));
}

fn hear(heartbeats: &Heartbeats, text: &str, lag_ms: Option<u64>) {
    let status = v1::TabletStatus {
        database_running: true,
        lag_ms,
        ..v1::TabletStatus::default()
    };
    let heard = Heard {
        instance: String::new(),
        at: Instant::now(),
        at_unix_ms: 0,
        status,
    };
    heartbeats.record(&alias(text), heard);
}

#[tokio::test(start_paused = true)]
async fn a_shards_backup_is_taken_of_the_replica_with_the_least_known_lag() {
    let cluster = Cluster::with_primary();
    let heartbeats = Heartbeats::new();
    heartbeats.take_office();
    let pick = |heartbeats: &Heartbeats, allow_primary| {
        tablet_to_back_up(&cluster.state, heartbeats, &shard(), allow_primary)
    };
    // Replicas may be there that this leader has not heard yet: the primary is not taken for want.
    hear(&heartbeats, "zone1-100", None);
    let refused = pick(&heartbeats, true).unwrap_err();
    assert!(refused.is_retryable(), "{refused}");
    tokio::time::advance(SEEN_WITHIN + Duration::from_secs(1)).await;
    let refused = pick(&heartbeats, true).unwrap_err();
    assert!(
        refused
            .message()
            .starts_with("no tablet available for backup"),
        "{refused}"
    );
    hear(&heartbeats, "zone1-100", None);
    hear(&heartbeats, "zone1-101", None);
    let refused = pick(&heartbeats, false).unwrap_err();
    for reason in [
        "zone1-100 is the primary",
        "zone1-101 has no known lag",
        "zone1-102 is not heard",
    ] {
        assert!(refused.message().contains(reason), "{refused}");
    }
    assert_eq!(pick(&heartbeats, true).unwrap(), alias("zone1-100"));
    hear(&heartbeats, "zone1-101", Some(500));
    hear(&heartbeats, "zone1-102", Some(20));
    assert_eq!(pick(&heartbeats, true).unwrap(), alias("zone1-102"));
}
