//! Late and repeated commands. The test itself plays two coordinators, the leaders of term 5 and
//! of term 6, that speak to one agent.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use seawall_proto::v1::{self, execute_request::Step, execute_update::Update};
use seawall_tests::harness::{Cluster, ClusterPlan, TabletPlan};
use tonic::Code;

const REPLICA: &str = "zone1-102";

/// One operation as a leader of `term` would carry it out.
struct Leader<'a> {
    cluster: &'a Cluster,
    operation: String,
    attempt: u32,
    term: u64,
    shard: Known,
}

/// What the real coordinator would say of the shard, and a hold that it knows: work under one that
/// it does not know would be given up.
#[derive(Clone)]
struct Known {
    view: v1::ShardView,
    hold: v1::Hold,
}

impl Leader<'_> {
    async fn send(&self, step: Step) -> Result<v1::StepDone> {
        let request = v1::ExecuteRequest {
            alias: REPLICA.to_owned(),
            operation_id: self.operation.clone(),
            attempt: self.attempt,
            term: self.term,
            token: self.shard.hold.token,
            hold_id: self.shard.hold.id.clone(),
            view: Some(self.shard.view.clone()),
            step: Some(step),
        };
        let mut agent = self.cluster.tablet(REPLICA)?.agent().await?;
        let mut updates = agent.execute(request).await?.into_inner();
        while let Some(update) = updates.message().await? {
            match update.update {
                Some(Update::Done(done)) => return Ok(done),
                Some(Update::Failed(failed)) => bail!(StepRefused(failed)),
                Some(Update::Progress(_)) | None => {}
            }
        }
        bail!("the stream ended without a result")
    }

    /// The step is refused by status or by result: the kind's name and the message.
    async fn refused(&self, step: Step) -> Result<String> {
        let Err(error) = self.send(step).await else {
            bail!("the agent took it");
        };
        if let Some(status) = error.downcast_ref::<tonic::Status>() {
            let kind = if status.code() == Code::Aborted {
                "fenced"
            } else {
                ""
            };
            return Ok(format!("{kind} {status}"));
        }
        match error.downcast_ref::<StepRefused>() {
            Some(StepRefused(failed)) => Ok(format!("{} undone={}", failed.kind, failed.undone)),
            None => Err(error),
        }
    }
}

#[derive(Debug)]
struct StepRefused(v1::StepFailed);

impl std::fmt::Display for StepRefused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} ({})", self.0.kind, self.0.message, self.0.hint)
    }
}

impl std::error::Error for StepRefused {}

async fn known(cluster: &Cluster) -> Result<Known> {
    let primary = cluster
        .known_tablet("zone1-101")
        .await?
        .context("no primary")?;
    let mut topology = v1::topology_client::TopologyClient::new(cluster.channel().await?);
    let request = v1::GetHistoryRequest {
        shard: primary.shard.clone(),
    };
    let history = topology.get_history(request).await?.into_inner();
    let acquire = v1::AcquireHoldRequest {
        id: uuid::Uuid::now_v7().to_string(),
        scope: Some(v1::LockScope {
            keyspace: "commerce".to_owned(),
            shard: "0".to_owned(),
        }),
        owner: "a test".to_owned(),
        reason: "it plays coordinator".to_owned(),
        ..v1::AcquireHoldRequest::default()
    };
    Ok(Known {
        view: v1::ShardView {
            epoch: history.epochs.last().cloned(),
            primary: primary.database,
        },
        hold: cluster.locks().await?.acquire(acquire).await?.into_inner(),
    })
}

fn leader<'a>(cluster: &'a Cluster, shard: &Known, operation: &str, term: u64) -> Leader<'a> {
    Leader {
        cluster,
        operation: operation.to_owned(),
        attempt: 1,
        term,
        shard: shard.clone(),
    }
}

fn prepare() -> Step {
    Step::Prepare(v1::PrepareStep {
        backup: format!("2026-11-21.031500.{REPLICA}"),
        may_refer_to: Vec::new(),
    })
}

fn drain() -> Step {
    Step::Drain(v1::DrainStep {
        r#type: v1::TabletType::Backup.into(),
        drain_ms: Some(0),
    })
}

fn note() -> Step {
    Step::Note(v1::NoteStep {})
}

fn stop() -> Step {
    Step::Stop(v1::StopStep {})
}

fn put_back() -> Step {
    Step::PutBack(v1::PutBackStep {
        abandon_backup: String::new(),
        reason: "a test".to_owned(),
        r#type: v1::TabletType::Replica.into(),
        discard: false,
    })
}

async fn small_shard(name: &str) -> Result<(Cluster, Known)> {
    let mut cluster = ClusterPlan::new(name).start().await?;
    cluster.start_small_shard(2).await?;
    let shard = known(&cluster).await?;
    Ok((cluster, shard))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_a_leader_of_an_older_term_that_says_stop_after_its_successor_has_undone_is_refused()
-> Result<()> {
    let (cluster, shard) = small_shard("fenced").await?;
    let operation = uuid::Uuid::now_v7().to_string();
    let old = leader(&cluster, &shard, &operation, 5);
    old.send(prepare()).await?;
    old.send(drain()).await?;
    old.send(note()).await?;

    let new = leader(&cluster, &shard, &operation, 6);
    new.send(put_back()).await?;
    cluster.wait_serving(REPLICA).await?;
    let server = cluster.tablet(REPLICA)?.server.process();

    let refusal = old.refused(stop()).await?;
    ensure!(refusal.starts_with("fenced"), "{refusal}");
    // The present leader may not go on with an undone attempt either.
    let refusal = new.refused(stop()).await?;
    ensure!(
        refusal.contains("undone=true") || refusal.starts_with("fenced"),
        "{refusal}"
    );
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(server.is_some() && server == cluster.tablet(REPLICA)?.server.process());
    ensure!(cluster.tablet(REPLICA)?.is_serving().await?);
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_the_highest_term_is_remembered_over_a_restart_of_the_agent() -> Result<()> {
    let (mut cluster, shard) = small_shard("remembered").await?;
    let operation = uuid::Uuid::now_v7().to_string();
    let new = leader(&cluster, &shard, &operation, 6);
    new.send(prepare()).await?;
    new.send(drain()).await?;
    new.send(put_back()).await?;
    cluster.tablet_mut(REPLICA)?.kill()?;
    cluster.tablet_mut(REPLICA)?.start()?;
    cluster.wait_serving(REPLICA).await?;

    let other = uuid::Uuid::now_v7().to_string();
    let old = leader(&cluster, &shard, &other, 5);
    let refusal = old.refused(drain()).await?;
    ensure!(refusal.starts_with("fenced"), "{refusal}");
    ensure!(cluster.tablet(REPLICA)?.is_serving().await?);
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_a_step_that_is_sent_twice_is_done_once() -> Result<()> {
    let (cluster, shard) = small_shard("twice").await?;
    let operation = uuid::Uuid::now_v7().to_string();
    let leader = leader(&cluster, &shard, &operation, 6);
    leader.send(prepare()).await?;
    leader.send(drain()).await?;
    leader.send(note()).await?;
    let stopped = leader.send(stop()).await?;
    ensure!(cluster.tablet(REPLICA)?.server.process().is_none());
    leader.send(put_back()).await?;
    cluster.wait_serving(REPLICA).await?;

    // A second operation: its stop is repeated when the database runs again.
    let operation = uuid::Uuid::now_v7().to_string();
    let again = Leader {
        operation,
        ..leader
    };
    again.send(prepare()).await?;
    again.send(drain()).await?;
    again.send(note()).await?;
    let first = again.send(stop()).await?;
    let second = again.send(stop()).await?;
    ensure!(first == second, "{first:?} / {second:?}");
    ensure!(!first.position.is_empty() || stopped.position.is_empty());
    again.send(put_back()).await?;
    cluster.wait_serving(REPLICA).await?;
    let server = cluster.tablet(REPLICA)?.server.process();
    let repeated = again.refused(stop()).await?;
    ensure!(repeated.contains("undone=true"), "{repeated}");
    ensure!(
        server == cluster.tablet(REPLICA)?.server.process(),
        "it was stopped again"
    );
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_out_of_order_is_refused() -> Result<()> {
    let mut cluster = ClusterPlan::new("order").start().await?;
    let plans = ["zone1-101", REPLICA].map(TabletPlan::new);
    cluster.start_shard(&plans).await?;
    let shard = known(&cluster).await?;
    let operation = uuid::Uuid::now_v7().to_string();
    let leader = leader(&cluster, &shard, &operation, 6);
    let refusal = leader.refused(stop()).await?;
    ensure!(!refusal.starts_with("fenced"), "{refusal}");
    ensure!(cluster.tablet(REPLICA)?.server.process().is_some());
    leader.send(prepare()).await?;
    leader.send(drain()).await?;
    leader.send(put_back()).await?;
    cluster.wait_serving(REPLICA).await?;
    cluster.finish().await
}
