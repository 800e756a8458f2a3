use super::*;
use crate::state::{
    Command as Any,
    testing::{Cluster, alias, backup_of, registration, shard},
};

fn change(cluster: &mut Cluster, text: &str, to: TabletType) -> Result<(), String> {
    let command = Command::ChangeType {
        alias: alias(text),
        tablet_type: to,
    };
    cluster
        .apply(Any::Topology(command))
        .map(|_| ())
        .map_err(|r| r.message)
}

#[test]
fn a_second_instance_under_one_alias_is_refused_while_the_first_is_seen() {
    let mut cluster = Cluster::new();
    let mut second = registration("zone1-101");
    second.instance = "another directory".into();
    second.replace = true;
    second.other_seen = true;
    let refused = cluster.register(second.clone()).unwrap_err();
    assert!(refused.message.contains("another instance of zone1-101"));

    second.other_seen = false;
    second.replace = false;
    let refused = cluster.register(second.clone()).unwrap_err();
    assert!(refused.hint.unwrap().contains("--replace"));
    second.replace = true;
    cluster.register(second).unwrap();
    cluster.register(registration("zone1-102")).unwrap();
}

#[test]
fn an_alias_stays_in_its_shard_and_a_server_id_is_given_once() {
    let mut cluster = Cluster::new();
    let mut moved = registration("zone1-101");
    moved.shard = "commerce/1".parse().unwrap();
    assert!(cluster.register(moved).is_err());
    let mut twin = registration("zone1-103");
    twin.database.as_mut().unwrap().server_id = 101;
    let refused = cluster.register(twin).unwrap_err();
    assert_eq!(
        refused.message,
        "zone1-103 has server id 101, as zone1-101 has"
    );
}

#[test]
fn a_new_tablet_is_a_spare_until_it_has_caught_up_unless_it_was_asked_to_stay_one() {
    let mut cluster = Cluster::new();
    assert_eq!(cluster.type_of("zone1-101"), TabletType::Spare);
    let init = Command::Init {
        alias: alias("zone1-104"),
        shard: shard(),
        tablet_type: Some(TabletType::Spare),
    };
    cluster.apply(Any::Topology(init)).unwrap();
    cluster.register(registration("zone1-104")).unwrap();
    for text in ["zone1-101", "zone1-104"] {
        let alias = alias(text);
        cluster
            .apply(Any::Topology(Command::CaughtUp { alias }))
            .unwrap();
    }
    assert_eq!(cluster.type_of("zone1-101"), TabletType::Replica);
    assert_eq!(cluster.type_of("zone1-104"), TabletType::Spare);
}

#[test]
fn a_type_is_changed_neither_on_the_primary_nor_under_an_operation() {
    let mut cluster = Cluster::with_primary();
    assert!(change(&mut cluster, "zone1-100", TabletType::Spare).is_err());
    assert!(change(&mut cluster, "zone1-101", TabletType::Primary).is_err());
    assert!(change(&mut cluster, "zone1-101", TabletType::Backup).is_err());
    assert_eq!(
        change(&mut cluster, "zone1-199", TabletType::Spare),
        Err("no tablet zone1-199".into())
    );
    let operation = cluster.start(backup_of("zone1-101")).unwrap();
    let refused = change(&mut cluster, "zone1-101", TabletType::Spare).unwrap_err();
    assert!(refused.contains(&operation.id.to_string()));
    change(&mut cluster, "zone1-102", TabletType::Rdonly).unwrap();
    assert_eq!(cluster.type_of("zone1-102"), TabletType::Rdonly);
}

#[test]
fn a_tablet_is_removed_only_when_it_is_idle_gone_and_not_the_primary() {
    let mut cluster = Cluster::with_primary();
    let remove = |cluster: &mut Cluster, text: &str, seen| {
        let alias = alias(text);
        cluster.apply(Any::Topology(Command::Remove { alias, seen }))
    };
    assert!(remove(&mut cluster, "zone1-100", false).is_err());
    assert!(remove(&mut cluster, "zone1-101", true).is_err());
    cluster.start(backup_of("zone1-101")).unwrap();
    assert!(remove(&mut cluster, "zone1-101", false).is_err());
    remove(&mut cluster, "zone1-102", false).unwrap();
    assert!(cluster.state.topology.tablet(&alias("zone1-102")).is_err());
}
