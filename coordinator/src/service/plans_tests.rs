//! Dry runs: what they say, what they refuse, and that nothing changes by them.

use seawall_common::clock::now_unix_ms;
use seawall_proto::v1::{self, operations_server::Operations as _};
use tonic::{Code, Request, Status};

use super::operations::OperationsService;
use crate::{
    operation::testing::{Does, Stage, keep_in_store},
    state::{
        Command, catalogue,
        operations::{OperationState, Spec},
        testing::{Cluster, backup_of, removal_of, shard},
    },
};

fn operations(stage: &Stage) -> OperationsService {
    OperationsService {
        context: stage.context.clone(),
    }
}

fn code<T: std::fmt::Debug>(answer: Result<T, Status>) -> Code {
    answer.unwrap_err().code()
}

fn plan_request(alias: &str, backup: &str) -> Request<v1::PlanRestoreRequest> {
    Request::new(v1::PlanRestoreRequest {
        alias: alias.into(),
        backup: backup.into(),
        limit_ms: 7,
        allow_broken: false,
    })
}

#[tokio::test(start_paused = true)]
async fn a_restore_is_planned_as_it_would_be_carried_out_and_nothing_changes() {
    let mut cluster = Cluster::with_primary();
    let good = cluster.backed_up("zone1-101", "0-100-5");
    let diverged = cluster.backed_up("zone1-101", "0-100-9");
    cluster.promote("zone1-102", "0-100-6");
    let stage = Stage::new(cluster);
    keep_in_store(&stage);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let service = operations(&stage);
    let before = stage.context.group.look(Clone::clone);

    let plan = service.plan_restore(plan_request("zone1-101", "")).await;
    let plan = plan.unwrap().into_inner();
    assert_eq!(plan.tablet.unwrap().alias, "zone1-101");
    assert_eq!(plan.backup.unwrap().name, good.to_string());
    // The fake agent answers with the limit that it was given.
    assert_eq!(plan.fetch.unwrap().missing_bytes, 7);
    stage.tell("plan_fetch", Does::Fail);
    let plan = service.plan_restore(plan_request("zone1-101", "")).await;
    let plan = plan.unwrap().into_inner();
    assert_eq!(plan.backup.unwrap().name, good.to_string());
    assert_eq!(plan.fetch, None);
    assert!(
        plan.fetch_unknown.contains("is not there"),
        "{}",
        plan.fetch_unknown
    );
    let named = plan_request("zone1-101", &diverged.to_string());
    let off_the_line = service.plan_restore(named).await.unwrap_err();
    assert!(
        off_the_line.message().contains("line of epochs"),
        "{off_the_line:?}"
    );
    let primary = service.plan_restore(plan_request("zone1-102", "")).await;
    let primary = primary.unwrap_err();
    assert!(primary.message().contains("is the primary"), "{primary:?}");
    for (alias, backup, expected) in [
        ("zone1-199", "", Code::NotFound),
        ("zone1", "", Code::InvalidArgument),
        ("zone1-101", "../x", Code::InvalidArgument),
    ] {
        let answer = service.plan_restore(plan_request(alias, backup)).await;
        assert_eq!(code(answer), expected, "{alias} {backup}");
    }
    let after = stage.context.group.look(Clone::clone);
    assert_eq!(before.operations, after.operations);
    assert_eq!(before.locks, after.locks);
}

fn removal_request(backup: &str, force: bool) -> Request<v1::PlanRemovalRequest> {
    Request::new(v1::PlanRemovalRequest {
        shard: Some(shard().to_proto()),
        backup: backup.into(),
        force,
    })
}

#[tokio::test(start_paused = true)]
async fn a_removal_is_planned_as_it_would_be_carried_out_and_nothing_changes() {
    let mut cluster = Cluster::with_primary();
    let [first, pinned, last] =
        [1, 2, 3].map(|n| cluster.backed_up("zone1-101", &format!("0-100-{n}")));
    let pin = catalogue::Command::Pin {
        shard: shard(),
        name: pinned.clone(),
        pin: Some(catalogue::Pin {
            until_unix_ms: None,
        }),
        now_unix_ms: now_unix_ms(),
    };
    cluster.apply(Command::Catalogue(pin)).unwrap();
    let stage = Stage::new(cluster);
    keep_in_store(&stage);
    let service = operations(&stage);
    let before = stage.look(Clone::clone);
    let ask = |backup: &str, force| service.plan_removal(removal_request(backup, force));

    let plan = ask(first.as_str(), false).await.unwrap().into_inner();
    assert_eq!(plan.backup.unwrap().name, first.to_string());
    assert_eq!(plan.complete_left, 2);
    let refused = ask(pinned.as_str(), false).await.unwrap_err();
    assert!(refused.message().contains("is pinned"), "{refused:?}");
    ask(pinned.as_str(), true).await.unwrap();
    assert_eq!(
        code(ask("2026-01-01.000000.zone1-101", true).await),
        Code::NotFound
    );
    assert_eq!(code(ask("../x", true).await), Code::InvalidArgument);
    let after = stage.look(Clone::clone);
    assert_eq!(before, after, "a dry run has changed something");
    assert!(stage.store.done.lock().unwrap().is_empty());

    // Whoever reads or writes in the shard keeps it from being removed, and is named.
    stage.tell("copy", Does::Hang);
    let backup = stage.start(backup_of("zone1-101")).await;
    stage.called("copy").await;
    let refused = ask(first.as_str(), false).await.unwrap_err();
    assert!(
        refused.message().contains("backup of zone1-101"),
        "{refused:?}"
    );
    stage.cancel(backup).await;
    stage.ended(backup).await;

    for (name, left) in [(&first, 1), (&pinned, 0)] {
        let plan = ask(name.as_str(), true).await.unwrap().into_inner();
        assert_eq!(plan.complete_left, left + 1);
        let removal = stage.start(removal_of(name, true)).await;
        assert_eq!(stage.ended(removal).await.state, OperationState::Succeeded);
    }
    let gone = ask(first.as_str(), true).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    assert!(gone.message().contains("is removed"), "{gone:?}");
    let last_one = ask(last.as_str(), false).await.unwrap_err();
    assert!(
        last_one.message().contains("last complete backup"),
        "{last_one:?}"
    );
    let plan = ask(last.as_str(), true).await.unwrap().into_inner();
    assert_eq!(plan.complete_left, 0);
}

#[tokio::test(start_paused = true)]
async fn a_removal_of_a_recipient_is_planned_and_no_key_file_goes() {
    let recipient = "0123456789abcdef";
    let stage = Stage::new(Cluster::with_primary());
    let service = operations(&stage);
    let ask = |recipient: &str| {
        service.plan_recipient_removal(Request::new(v1::PlanRecipientRemovalRequest {
            recipient: recipient.into(),
        }))
    };
    assert_eq!(code(ask(recipient).await), Code::NotFound);
    assert_eq!(code(ask("nobody").await), Code::InvalidArgument);

    *stage.store.keys.lock().unwrap() = (3, 1);
    let before = stage.look(Clone::clone);
    let plan = ask(recipient).await.unwrap().into_inner();
    let of_shard = &plan.shards[0];
    let keys = &of_shard.backups[0];
    assert_eq!((keys.going, keys.staying), (3, 1));
    assert_eq!(of_shard.waits_for, "");
    assert_eq!(before, stage.look(Clone::clone));
    assert!(stage.store.done.lock().unwrap().is_empty());

    // What it would wait for, and what it would be refused for.
    stage.tell("copy", Does::Hang);
    let backup = stage.start(backup_of("zone1-101")).await;
    stage.called("copy").await;
    let plan = ask(recipient).await.unwrap().into_inner();
    let why = &plan.shards[0].waits_for;
    assert!(why.contains("backup of zone1-101"), "{why}");
    let other = Spec::RemoveRecipient {
        shard: shard(),
        recipient: "fedcba9876543210".into(),
    };
    let other = stage.start(other).await;
    let refused = ask(recipient).await.unwrap_err();
    assert!(
        refused.message().contains(&other.to_string()),
        "{refused:?}"
    );
    stage.cancel(other).await;
    stage.ended(other).await;
    stage.cancel(backup).await;
    stage.ended(backup).await;
    let plan = ask(recipient).await.unwrap().into_inner();
    let why = &plan.shards[0].waits_for;
    assert!(why.contains("last deletes of operation"), "{why}");
}
