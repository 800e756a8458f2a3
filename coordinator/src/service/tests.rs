use prost::Message as _;
use seawall_common::{ids::Alias, tablets};
use seawall_proto::v1::{
    self, agents_server::Agents as _, catalogue_server::Catalogue as _, locks_server::Locks as _,
    operations_server::Operations as _, topology_server::Topology as _,
};
use tokio_stream::StreamExt as _;
use tonic::{Code, Request, Status};
use uuid::Uuid;

use super::{
    agents::AgentsService, catalogue::CatalogueService, locks::LocksService,
    operations::OperationsService, topology::TopologyService,
};
use crate::{
    agents::heartbeats::Heard,
    group::Group as _,
    operation::testing::{Does, Stage, keep_in_store},
    state::{
        self, Command,
        operations::OperationState,
        testing::{Cluster, backup_of, shard},
    },
};

fn agents(stage: &Stage) -> AgentsService {
    AgentsService {
        context: stage.context.clone(),
    }
}

fn locks(stage: &Stage) -> LocksService {
    LocksService {
        context: stage.context.clone(),
    }
}

fn operations(stage: &Stage) -> OperationsService {
    OperationsService {
        context: stage.context.clone(),
    }
}

fn topology(stage: &Stage) -> TopologyService {
    TopologyService {
        context: stage.context.clone(),
    }
}

fn registration(alias: &str, instance: &str) -> Request<v1::RegisterRequest> {
    Request::new(v1::RegisterRequest {
        alias: alias.into(),
        shard: Some(shard().to_proto()),
        instance: instance.into(),
        agent_address: format!("http://{alias}:7611"),
        database: None,
        engine: "mariadb".into(),
        replace: false,
        writer_key: "0a".repeat(32),
    })
}

fn backup_request(alias: &str) -> v1::StartOperationRequest {
    v1::StartOperationRequest {
        id: Uuid::new_v4().to_string(),
        spec: Some(v1::OperationSpec {
            spec: Some(v1::operation_spec::Spec::Backup(v1::BackupSpec {
                alias: alias.into(),
                ..v1::BackupSpec::default()
            })),
        }),
        timeout_ms: 0,
    }
}

fn code<T: std::fmt::Debug>(answer: Result<T, Status>) -> Code {
    answer.unwrap_err().code()
}

#[tokio::test(start_paused = true)]
async fn a_second_agent_under_one_alias_is_refused_while_the_first_is_heard() {
    let stage = Stage::new(Cluster::with_primary());
    let service = agents(&stage);
    let second = service.register(registration("zone1-101", "another")).await;
    let refusal = second.unwrap_err();
    assert!(
        matches!(refusal.code(), Code::AlreadyExists | Code::Unavailable),
        "{refusal:?}"
    );
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let second = service.register(registration("zone1-101", "another")).await;
    assert_eq!(code(second), Code::AlreadyExists);
    let first = registration("zone1-101", "instance of zone1-101");
    let welcome = service.register(first).await.unwrap().into_inner();
    assert_eq!(welcome.group_id, "group");
    assert_eq!(welcome.repository_id, "repository");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_registers_as_it_was_adds_nothing_to_the_log() {
    let stage = Stage::new(Cluster::with_primary());
    let service = agents(&stage);
    let register = |port: u32| {
        let mut request = registration("zone1-201", "one").into_inner();
        request.database = Some(v1::DatabaseAddress {
            host: "db1".into(),
            port,
            server_id: 201,
        });
        service.register(Request::new(request))
    };
    register(3306).await.unwrap();
    let mut applied = stage.context.group.applied();
    register(3306).await.unwrap();
    assert!(!applied.has_changed().unwrap(), "it was written again");
    register(3307).await.unwrap();
    assert!(applied.has_changed().unwrap());
    applied.mark_unchanged();
    let known = |state: &state::State| {
        let tablet = state.topology.tablet(&"zone1-201".parse().unwrap());
        tablet.unwrap().database.clone().unwrap().port
    };
    assert_eq!(stage.look(known), 3307);
}

#[tokio::test(start_paused = true)]
async fn malformed_requests_are_refused_before_anything_is_asked() {
    let stage = Stage::new(Cluster::with_primary());
    let outside = v1::ShardRef {
        keyspace: "..".into(),
        shard: "0".into(),
    };
    let listed = CatalogueService {
        context: stage.context.clone(),
    }
    .list_backups(Request::new(v1::ListBackupsRequest {
        shard: Some(outside.clone()),
        all: false,
    }))
    .await;
    assert_eq!(code(listed), Code::InvalidArgument);
    let made = topology(&stage)
        .init_tablet(Request::new(v1::InitTabletRequest {
            alias: "zone1-1".into(),
            shard: Some(outside),
            r#type: 0,
        }))
        .await;
    assert_eq!(code(made), Code::InvalidArgument);
    let service = operations(&stage);
    for request in [
        backup_request("zone1"),
        v1::StartOperationRequest {
            id: "no uuid".into(),
            ..backup_request("zone1-101")
        },
        v1::StartOperationRequest {
            spec: None,
            ..backup_request("zone1-101")
        },
        v1::StartOperationRequest {
            timeout_ms: u64::MAX,
            ..backup_request("zone1-101")
        },
    ] {
        let answer = service.start(Request::new(request)).await;
        assert_eq!(code(answer), Code::InvalidArgument);
    }
    let unknown = service
        .start(Request::new(backup_request("zone1-199")))
        .await;
    assert_eq!(code(unknown), Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_sees_the_operation_at_once_and_last_when_it_has_ended() {
    let stage = Stage::new(Cluster::with_primary());
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let service = operations(&stage);
    let request = backup_request("zone1-101");
    let started = service.start(Request::new(request.clone())).await.unwrap();
    let id = started.into_inner().id;
    let again = service.start(Request::new(request)).await.unwrap();
    assert_eq!(again.into_inner().id, id, "a repeated call finds it");
    let watch = v1::WatchOperationRequest { id };
    let updates = service.watch(Request::new(watch)).await.unwrap();
    let seen: Vec<_> = updates.into_inner().map(Result::unwrap).collect().await;
    let last = seen.last().unwrap();
    assert_eq!(last.state(), v1::OperationState::Succeeded, "{last:?}");
    assert!(last.result.contains(&last.backup));
    assert_eq!(last.steps.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_keyspace_is_backed_up_shard_by_shard_and_told_what_was_refused() {
    let stage = Stage::new(Cluster::with_primary());
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    stage.tell("copy", Does::Hang);
    let service = operations(&stage);
    let request = v1::StartBackupsRequest {
        id: Uuid::new_v4().to_string(),
        keyspace: "commerce".into(),
        ..v1::StartBackupsRequest::default()
    };
    let answer = service.start_backups(Request::new(request.clone())).await;
    let answer = answer.unwrap().into_inner();
    assert_eq!((answer.operations.len(), answer.refused.len()), (1, 0));
    let again = service.start_backups(Request::new(request.clone())).await;
    let again = again.unwrap().into_inner();
    assert_eq!(again.operations[0].id, answer.operations[0].id);
    let other = v1::StartBackupsRequest {
        id: Uuid::new_v4().to_string(),
        ..request.clone()
    };
    let refused = service.start_backups(Request::new(other)).await;
    let refused = refused.unwrap().into_inner().refused;
    assert!(refused[0].error.contains(&answer.operations[0].id));
    let unknown = v1::StartBackupsRequest {
        keyspace: "nothing".into(),
        ..request
    };
    assert_eq!(
        code(service.start_backups(Request::new(unknown)).await),
        Code::NotFound
    );
}

#[tokio::test(start_paused = true)]
async fn the_backup_lock_is_taken_shown_and_let_go_of_by_hand() {
    let stage = Stage::new(Cluster::with_primary());
    let service = locks(&stage);
    let acquire = |id: &str| {
        Request::new(v1::AcquireHoldRequest {
            id: id.into(),
            scope: None,
            owner: "ana".into(),
            reason: "a copy by hand".into(),
            ..v1::AcquireHoldRequest::default()
        })
    };
    assert_eq!(
        code(service.acquire(acquire("1")).await),
        Code::InvalidArgument
    );
    let id = Uuid::new_v4().to_string();
    let hold = service.acquire(acquire(&id)).await.unwrap().into_inner();
    assert_eq!(
        hold.expires_unix_ms - hold.granted_unix_ms,
        24 * 3600 * 1000
    );
    let second = service.acquire(acquire(&Uuid::new_v4().to_string())).await;
    assert_eq!(code(second), Code::FailedPrecondition);
    let broken = service
        .r#break(Request::new(v1::BreakHoldRequest::default()))
        .await;
    assert_eq!(code(broken), Code::InvalidArgument, "without a reason");
    let listed = service.list(Request::new(v1::ListHoldsRequest {})).await;
    assert_eq!(listed.unwrap().into_inner().holds.first(), Some(&hold));
    let release = v1::ReleaseHoldRequest::default();
    let released = service.release(Request::new(release)).await.unwrap();
    assert_eq!(released.into_inner().released, Some(hold));
}

#[tokio::test(start_paused = true)]
async fn a_backup_is_not_started_on_an_agent_that_is_not_heard() {
    let stage = Stage::new(Cluster::with_primary());
    stage.tell("copy", Does::Vanish);
    stage.start(backup_of("zone1-102")).await;
    stage.called("copy").await;
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    let answer = operations(&stage)
        .start(Request::new(backup_request("zone1-101")))
        .await;
    let refusal = answer.unwrap_err();
    assert!(
        refusal.message().contains("has not been heard for"),
        "{refusal:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_backup_is_not_started_on_an_agent_that_has_ended_its_session() {
    let stage = Stage::silent(Cluster::with_primary());
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let alias = "zone1-101".parse().unwrap();
    let heartbeats = &stage.context.heartbeats;
    heartbeats.meet(&alias, "instance of zone1-101", 1);
    let session = heartbeats.begin_session(&alias, "instance of zone1-101");
    let service = operations(&stage);
    let start = || service.start(Request::new(backup_request("zone1-101")));
    heartbeats.leave(&alias, session).unwrap();
    let refusal = start().await.unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition);
    assert!(refusal.message().contains("has ended"), "{refusal:?}");
    heartbeats.meet(&alias, "instance of zone1-101", 1);
    start().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn two_agents_that_are_heard_share_neither_an_address_nor_a_database() {
    let stage = Stage::new(Cluster::with_primary());
    let service = agents(&stage);
    let database = |port| {
        Some(v1::DatabaseAddress {
            host: "db1".into(),
            port,
            server_id: port,
        })
    };
    let mut first = registration("zone1-201", "one").into_inner();
    first.database = database(3306);
    service.register(Request::new(first.clone())).await.unwrap();
    let mut second = registration("zone1-202", "two").into_inner();
    second.agent_address.clone_from(&first.agent_address);
    let refused = service.register(Request::new(second.clone())).await;
    assert_eq!(code(refused), Code::AlreadyExists);
    second.agent_address = "http://db2:7611".into();
    second.database = Some(v1::DatabaseAddress {
        server_id: 9,
        ..database(3306).unwrap()
    });
    let refused = service.register(Request::new(second.clone())).await;
    assert_eq!(code(refused), Code::AlreadyExists);
    // Once the first is not there any more, what it had may be had by another.
    tokio::time::advance(std::time::Duration::from_secs(60)).await;
    service.register(Request::new(second)).await.unwrap();
}

async fn page(
    stage: &Stage,
    page_size: u32,
    page_token: &str,
) -> Result<v1::ListTabletsResponse, Status> {
    let request = v1::ListTabletsRequest {
        page_size,
        page_token: page_token.into(),
        ..v1::ListTabletsRequest::default()
    };
    let listed = topology(stage).list_tablets(Request::new(request)).await;
    listed.map(tonic::Response::into_inner)
}

async fn add_tablet(stage: &Stage, alias: &str) {
    let register = state::topology::Command::Register(state::testing::registration(alias));
    stage.propose(Command::Topology(register)).await;
}

#[tokio::test(start_paused = true)]
async fn pages_have_every_tablet_that_stays_once_while_others_come_and_go() {
    let stage = Stage::silent(Cluster::with_primary());
    let stays: Vec<String> = (1000..2100)
        .map(|number| format!("zone1-{number}"))
        .collect();
    for alias in &stays {
        add_tablet(&stage, alias).await;
    }
    for page_size in [1, 7, 0, 4_000_000_000] {
        let mut listed = Vec::new();
        let mut token = String::new();
        for turn in 0_u32.. {
            let page = page(&stage, page_size, &token).await.unwrap();
            let most = match page_size {
                0 => 500,
                size => size.min(1000) as usize,
            };
            assert!(page.tablets.len() <= most, "{}", page.tablets.len());
            listed.extend(page.tablets.into_iter().map(|tablet| tablet.alias));
            // Before, in, and behind what has been listed; one that a token names, too.
            for alias in [
                format!("zone1-{}", 200 + turn % 90),
                format!("zone1-3{turn:04}"),
            ] {
                add_tablet(&stage, &alias).await;
            }
            if let Some(last) = listed.last().filter(|last| !stays.contains(last)) {
                let remove = state::topology::Command::Remove {
                    alias: last.parse().unwrap(),
                    seen: false,
                };
                // The primary stays.
                let _ = stage.group.propose(Command::Topology(remove)).await;
            }
            token = page.next_page_token;
            if token.is_empty() || turn > 2000 {
                break;
            }
        }
        let mut once = listed.clone();
        once.dedup();
        assert_eq!(once, listed, "pages of {page_size}: one comes twice");
        assert!(listed.is_sorted_by_key(|alias| alias.parse::<Alias>().unwrap()));
        let missing = stays.iter().find(|alias| !listed.contains(alias));
        assert_eq!(missing, None, "pages of {page_size}");
    }
    for token in ["zone1", "../../etc", "zone1-100\n", &"x".repeat(10_000)] {
        let refusal = page(&stage, 0, token).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument);
        assert!(refusal.message().contains("page_token"), "{refusal}");
    }
    // It need not be there any more.
    page(&stage, 0, "zone1-4000000000").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_page_ends_before_it_is_more_than_a_client_takes() {
    let stage = Stage::silent(Cluster::with_primary());
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    for number in 1000..1100 {
        let alias = format!("zone1-{number}");
        add_tablet(&stage, &alias).await;
        let heard = Heard {
            instance: format!("instance of {alias}"),
            at: tokio::time::Instant::now(),
            at_unix_ms: 0,
            status: v1::TabletStatus {
                message: "x".repeat(60_000),
                ..v1::TabletStatus::default()
            },
        };
        stage
            .context
            .heartbeats
            .record(&alias.parse().unwrap(), heard);
    }
    let first = page(&stage, 1000, "").await.unwrap();
    assert!(
        first.encoded_len() < 2 * 1024 * 1024,
        "{}",
        first.encoded_len()
    );
    assert!(!first.next_page_token.is_empty());
    let list = async |request: v1::ListTabletsRequest| {
        page(&stage, request.page_size, &request.page_token).await
    };
    assert_eq!(tablets::all("", "", list).await.unwrap().len(), 103);
}

#[tokio::test(start_paused = true)]
async fn a_silent_agent_is_marked_and_a_young_leader_marks_nobody() {
    let stage = Stage::silent(Cluster::with_primary());
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    add_tablet(&stage, "zone1-103").await;
    let declared = state::topology::Command::Init {
        alias: "zone1-104".parse().unwrap(),
        shard: shard(),
        tablet_type: None,
    };
    stage.propose(Command::Topology(declared)).await;
    let heartbeats = &stage.context.heartbeats;
    let met = "zone1-103".parse().unwrap();
    heartbeats.meet(&met, "instance of zone1-103", 1);
    let silent = async || {
        let tablets = page(&stage, 0, "").await.unwrap().tablets;
        let silent = tablets.into_iter().filter(|tablet| tablet.silent);
        silent.map(|tablet| tablet.alias).collect::<Vec<_>>()
    };
    assert!(silent().await.is_empty());
    tokio::time::sleep(std::time::Duration::from_millis(10_100)).await;
    let all = ["zone1-100", "zone1-101", "zone1-102", "zone1-103"];
    assert_eq!(silent().await, all, "the one without an agent is not");
    heartbeats.meet(&met, "instance of zone1-103", 1);
    assert_eq!(silent().await, all[..3]);
    // A member that does not lead hears nobody, and does not say that they are silent.
    stage.resign(2);
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert!(silent().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_restore_leaves_an_unset_concurrency_to_the_agent() {
    let mut cluster = Cluster::with_primary();
    cluster.backed_up("zone1-101", "0-100-5");
    let stage = Stage::new(cluster);
    keep_in_store(&stage);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let restore = v1::RestoreSpec {
        alias: "zone1-101".into(),
        ..v1::RestoreSpec::default()
    };
    let request = v1::StartOperationRequest {
        spec: Some(v1::OperationSpec {
            spec: Some(v1::operation_spec::Spec::Restore(restore.clone())),
        }),
        ..backup_request("zone1-101")
    };
    let started = operations(&stage).start(Request::new(request)).await;
    let spec = started.unwrap().into_inner().spec.unwrap().spec.unwrap();
    assert_eq!(spec, v1::operation_spec::Spec::Restore(restore));
}

#[tokio::test(start_paused = true)]
async fn a_recipient_that_nobody_knows_is_not_removed_and_one_that_goes_is_asked_for_once() {
    let stage = Stage::new(Cluster::with_primary());
    let service = operations(&stage);
    let request = v1::StartRemoveRecipientRequest {
        id: Uuid::new_v4().to_string(),
        recipient: "0123456789abcdef".into(),
        timeout_ms: 0,
    };
    let start = |request: &v1::StartRemoveRecipientRequest| {
        service.start_remove_recipient(Request::new(request.clone()))
    };
    let unknown = start(&request).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(unknown.message().contains("has no key file"), "{unknown:?}");
    assert_eq!(stage.look(|state| state.operations.open().count()), 0);

    stage.store.keys.lock().unwrap().0 = 1;
    let started = start(&request).await.unwrap().into_inner().operations;
    let id = started[0].id.parse().unwrap();
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    // Its answer was lost: the same request is answered by what it had begun.
    let again = start(&request).await.unwrap().into_inner().operations;
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].id, started[0].id);
    let malformed = v1::StartRemoveRecipientRequest {
        recipient: "../x".into(),
        ..request
    };
    assert_eq!(code(start(&malformed).await), Code::InvalidArgument);
}

/// A start of `InitShardPrimary`, while the agent says each second, for so many seconds, that its
/// database does not run, and that it does afterwards.
async fn init_with_database_after(seconds: u64) -> Result<v1::Operation, Status> {
    let stage = Stage::new(Cluster::new());
    let operations = operations(&stage);
    // One that comes later, whose heartbeats the stage does not send.
    let late = state::testing::registration("zone1-103");
    let register = Command::Topology(state::topology::Command::Register(late));
    stage.group.propose(register).await.unwrap();
    let request = v1::StartOperationRequest {
        id: Uuid::new_v4().to_string(),
        spec: Some(v1::OperationSpec {
            spec: Some(v1::operation_spec::Spec::InitShardPrimary(
                v1::InitShardPrimarySpec {
                    shard: Some(shard().to_proto()),
                    alias: "zone1-103".into(),
                },
            )),
        }),
        timeout_ms: 0,
    };
    let beat = |running: bool| {
        let heard = Heard {
            instance: "instance of zone1-103".into(),
            at: tokio::time::Instant::now(),
            at_unix_ms: 0,
            status: v1::TabletStatus {
                database_running: running,
                message: "no user data: making a database".into(),
                ..v1::TabletStatus::default()
            },
        };
        let alias = "zone1-103".parse().unwrap();
        stage.context.heartbeats.record(&alias, heard);
    };
    // In office by then: a leader that takes it forgets what was heard before.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    beat(seconds == 0);
    let beats = async {
        for second in 1.. {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            beat(second >= seconds);
        }
    };
    tokio::select! {
        started = operations.start(Request::new(request)) => started.map(|answer| answer.into_inner()),
        () = beats => unreachable!(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_primary_waits_for_the_database_before_it_keeps_anybody_from_making_it() {
    for seconds in [0, 20] {
        let began = tokio::time::Instant::now();
        init_with_database_after(seconds).await.unwrap();
        let waited = began.elapsed().as_secs() - 3;
        assert!((seconds..seconds + 2).contains(&waited), "{waited} s");
    }
    let refusal = init_with_database_after(60).await.unwrap_err();
    let said = "the database of zone1-103 does not run: no user data: making a database";
    assert!(refusal.message().contains(said), "{refusal:?}");
}
