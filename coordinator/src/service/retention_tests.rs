//! What is answered of scopes: those that are known, and those that are not.

use seawall_proto::v1::{
    self, operations_server::Operations as _, retention_server::Retention as _,
};
use tonic::{Code, Request};
use uuid::Uuid;

use super::{operations::OperationsService, retention::RetentionService};
use crate::{
    group::Group as _,
    operation::testing::{Stage, keep_in_store},
    state::{
        Command, retention,
        testing::{Cluster, shard},
    },
};

fn retention(stage: &Stage) -> RetentionService {
    RetentionService {
        context: stage.context.clone(),
    }
}

fn keep_one(shard: &str, dry_run: bool) -> Request<v1::SetRetentionRequest> {
    Request::new(v1::SetRetentionRequest {
        keyspace: "commerce".into(),
        shard: shard.into(),
        policy: Some(v1::RetentionPolicy {
            keep_count: Some(1),
            ..v1::RetentionPolicy::default()
        }),
        dry_run,
    })
}

/// Two complete backups.
fn stage() -> Stage {
    let mut cluster = Cluster::with_primary();
    for position in ["0-100-1", "0-100-2"] {
        cluster.backed_up("zone1-101", position);
    }
    let stage = Stage::new(cluster);
    keep_in_store(&stage);
    stage
}

#[tokio::test(start_paused = true)]
async fn a_preview_says_what_would_go_also_while_retention_is_stopped_and_what_is_unknown() {
    let stage = stage();
    let service = retention(&stage);
    let previewed = service.set_retention(keep_one("0", true)).await;
    let previewed = previewed.unwrap().into_inner();
    assert_eq!(previewed.expired.len(), 1, "{previewed:?}");
    assert_eq!((previewed.unknown, previewed.stopped.as_str()), (false, ""));
    assert!(stage.look(|state| state.retention.in_force(&shard()).is_none()));

    let why = "wall time jumped".to_owned();
    let stop = Command::Retention(retention::Command::Stop { why: why.clone() });
    stage.group.propose(stop).await.unwrap();
    let set = service.set_retention(keep_one("0", false)).await;
    let set = set.unwrap().into_inner();
    assert_eq!(set.expired.len(), 1);
    let told = format!("{why}. When the clock is right: SetRetention --resume");
    assert_eq!(set.stopped, told);
    assert!(stage.look(|state| state.retention.in_force(&shard()).is_some()));

    let unknown = service.set_retention(keep_one("80-", true)).await;
    assert!(unknown.unwrap().into_inner().unknown);
}

#[tokio::test(start_paused = true)]
async fn of_what_nobody_knows_nothing_is_shown_planned_or_collected() {
    let stage = stage();
    let service = retention(&stage);
    for (keyspace, shard) in [("commerce", "80-"), ("other", "")] {
        let (keyspace, shard) = (keyspace.to_owned(), shard.to_owned());
        let get = v1::GetRetentionRequest {
            keyspace: keyspace.clone(),
            shard: shard.clone(),
        };
        let got = service.get_retention(Request::new(get)).await;
        assert_eq!(got.unwrap_err().code(), Code::NotFound);
        let plan = v1::PlanCollectionRequest { keyspace, shard };
        let planned = service.plan_collection(Request::new(plan)).await;
        assert_eq!(planned.unwrap_err().code(), Code::NotFound);
    }
    let spec = v1::operation_spec::Spec::Collect(v1::CollectSpec {
        shard: Some(v1::ShardRef {
            keyspace: "commerce".into(),
            shard: "80-".into(),
        }),
    });
    let service = OperationsService {
        context: stage.context.clone(),
    };
    let collect = v1::StartOperationRequest {
        id: Uuid::new_v4().to_string(),
        spec: Some(v1::OperationSpec { spec: Some(spec) }),
        timeout_ms: 0,
    };
    let refused = service.start(Request::new(collect)).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(stage.store.requests.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_preview_that_goes_by_what_was_known_before_says_so_for_each_shard_at_once() {
    let stage = stage();
    // The keyspace has more shards than are read at once.
    for number in 0..20 {
        let shard = format!("commerce/{number:02x}-").parse().unwrap();
        let set = retention::Command::Set {
            scope: crate::state::locks::Scope::Shard(shard),
            policy: Some(retention::Policy::default()),
        };
        stage.group.propose(Command::Retention(set)).await.unwrap();
    }
    *stage.store.hang_scans.lock().unwrap() = true;
    let began = tokio::time::Instant::now();
    let service = retention(&stage);
    let previewed = service.set_retention(keep_one("", true)).await;
    assert!(began.elapsed() < std::time::Duration::from_secs(21));
    let previewed = previewed.unwrap().into_inner();
    assert_eq!(previewed.not_read.len(), 21, "{previewed:?}");
    let of_first = "commerce/0: it has not been read within 20 seconds";
    assert!(
        previewed.not_read.iter().any(|why| why == of_first),
        "{previewed:?}"
    );
}
