use std::collections::{BTreeMap, BTreeSet};

use prost_types::FileDescriptorSet;

use super::*;
use crate::tls::Role;

/// `Service/Call` of all that the protocol knows, and whether its answer is a stream.
fn calls() -> BTreeMap<String, bool> {
    let all = FileDescriptorSet::decode(seawall_proto::DESCRIPTORS).unwrap();
    let services = all.file.iter().flat_map(|file| &file.service);
    let calls = services.flat_map(|service| {
        service.method.iter().map(|method| {
            let name = format!("{}/{}", service.name(), method.name());
            (name, method.server_streaming())
        })
    });
    calls.collect()
}

#[test]
fn every_call_has_its_least_role_and_is_reading_or_noted_or_says_why_not() {
    let known: BTreeSet<String> = METHODS.iter().map(|m| m.name.to_owned()).collect();
    assert_eq!(known.len(), METHODS.len(), "a call stands there twice");
    let calls: BTreeSet<String> = calls().into_keys().collect();
    assert!(!calls.is_empty());
    assert_eq!(
        calls, known,
        "each call of the protocol needs its line in common/src/access/table.rs, and no other"
    );
    for method in METHODS {
        if let Record::Unnoted(why) = method.record {
            assert!(why.len() > 20, "{} does not say why", method.name);
        }
    }
}

#[test]
fn what_changes_something_is_not_for_viewers() {
    for method in METHODS {
        if matches!(method.record, Record::Changes(_)) {
            assert!(!method.least.takes(Role::Viewer), "{}", method.name);
        }
    }
}

/// The line is written when the answer is there, which of a stream it never is.
#[test]
fn streams_of_the_coordinator_are_watches_or_sessions_and_no_changes() {
    for (name, is_stream) in calls() {
        let method = method(&name).unwrap();
        // These are not among what the limits of the coordinator are for.
        let is_counted = !name.starts_with("Agent/") && !name.starts_with("Raft/");
        let lasts = method.lasts != Lasts::ACall;
        assert_eq!(lasts, is_stream && is_counted, "{name}");
        if is_stream {
            assert!(!matches!(method.record, Record::Changes(_)), "{name}");
        }
    }
}

#[test]
fn a_request_is_named_by_what_it_is_about_and_by_no_secret() {
    let said = |name: &str, bytes: Vec<u8>| match method(name).unwrap().record {
        Record::Changes(object) => object(&bytes),
        _ => panic!("{name} is not noted"),
    };
    let shard = Some(v1::ShardRef {
        keyspace: "commerce".into(),
        shard: "0".into(),
    });
    let removal = v1::RemoveBackupSpec {
        shard: shard.clone(),
        backup: "b1".into(),
        ..Default::default()
    };
    let start = v1::StartOperationRequest {
        id: "some-id".into(),
        spec: Some(v1::OperationSpec {
            spec: Some(v1::operation_spec::Spec::RemoveBackup(removal)),
        }),
        timeout_ms: 0,
    };
    assert_eq!(
        said("Operations/Start", start.encode_to_vec()).unwrap(),
        "removal of commerce/0 b1 (some-id)"
    );
    let pin = v1::PinBackupRequest {
        shard,
        name: "b1".into(),
        until_unix_ms: 0,
    };
    assert_eq!(
        said("Catalogue/PinBackup", pin.encode_to_vec()).unwrap(),
        "commerce/0 b1"
    );
    assert_eq!(said("Catalogue/PinBackup", vec![0xff; 9]), None);
    let long = v1::RemoveTabletRequest {
        alias: "x".repeat(100_000),
    };
    let text = said("Topology/RemoveTablet", long.encode_to_vec()).unwrap();
    assert!(text.len() < 1000);
}
