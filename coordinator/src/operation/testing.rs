//! Sagas without Raft, network or disk: a state in memory, agents that do as a test tells them, and
//! a store that notes what was done in it. Time is the runtime's, which tests stop.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _, stream};
use seawall_common::{
    Error, Result,
    ids::{BackupName, OperationId, ShardId},
    repository::{
        BatchLimits, Collected, CollectionRequest, EpochRecord, LeftOf, ManifestHeader,
        RemovedKeys, StoredBackup, StoredState,
    },
};
use seawall_proto::v1::{
    self, execute_request::Step, execute_update::Update, set_throttle_request::Limit,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Coordination, Patience, runner, store::Store};
use crate::{
    agents::{
        client::{AgentCalls, Updates},
        heartbeats::Heard,
    },
    group::Group,
    raft::Leadership,
    state::{
        Command, Response, State, catalogue,
        locks::Side,
        operations::{self, Operation, Spec, Start},
        retention,
        testing::{Cluster, alias, shard},
    },
};

/// About what the log takes.
const COMMAND_BYTES_MAX: usize = 64_000;

pub struct MemoryGroup {
    state: Mutex<State>,
    applied: watch::Sender<u64>,
    leadership: watch::Sender<Leadership>,
    /// So many times it cannot be recorded that retention stops.
    pub fail_stops: AtomicU32,
}

#[async_trait]
impl Group for MemoryGroup {
    async fn propose(&self, command: Command) -> Result<Response> {
        let bytes = serde_json::to_vec(&command).unwrap().len();
        assert!(bytes < COMMAND_BYTES_MAX, "a command of {bytes} bytes");
        if matches!(command, Command::Retention(retention::Command::Stop { .. })) {
            let less = |left: u32| left.checked_sub(1);
            let fails = &self.fail_stops;
            if fails.fetch_update(Relaxed, Relaxed, less).is_ok() {
                return Err(Error::unavailable("no quorum"));
            }
        }
        let response = self.state.lock().unwrap().apply(&command);
        self.applied.send_modify(|count| *count += 1);
        response.into_result()
    }

    async fn prove_leadership(&self) -> Result<u64> {
        Ok(self.leadership.borrow().term)
    }

    fn look_with(&self, look: &mut dyn FnMut(&State)) {
        look(&self.state.lock().unwrap());
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }
}

/// What a fake agent does with a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Does {
    /// Never answers, but is heard.
    Hang,
    /// Answers nothing and is not heard any more.
    Vanish,
    Fail,
    FailTimes(u32),
    Undone,
    /// Has the driver that calls it panic.
    PanicTimes(u32),
    /// Says how far it is for this long, and then the connection breaks.
    BreakTimes(u32, Duration),
}

/// A call that an agent received.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub tablet: String,
    pub step: String,
    pub term: u64,
    pub attempt: u32,
}

/// Damaged packs that a verification names.
pub const DAMAGED_TOLD: usize = 500;

#[derive(Default)]
pub struct FakeAgents {
    does: Mutex<BTreeMap<String, Does>>,
    calls: Mutex<Vec<Call>>,
    group: Mutex<Option<Arc<MemoryGroup>>>,
    /// Of each putting back: whether what was fetched is to go.
    discards: Mutex<Vec<bool>>,
    /// Where a database is when it is stopped.
    stops_at: Mutex<String>,
    /// Kind and message of steps that fail.
    failures: Mutex<BTreeMap<String, (String, String)>>,
    /// What a verification finds.
    damaged_packs: Mutex<Vec<String>>,
    throttle: Mutex<Option<u64>>,
}

pub fn step_name(step: &Step) -> &'static str {
    match step {
        Step::Prepare(_) => "prepare",
        Step::Drain(_) => "drain",
        Step::Note(_) => "note",
        Step::Stop(_) => "stop",
        Step::Copy(_) => "copy",
        Step::Start(_) => "start",
        Step::Reinstate(_) => "reinstate",
        Step::CatchUp(_) => "catch_up",
        Step::Serve(_) => "serve",
        Step::PutBack(_) => "put_back",
        Step::Fetch(_) => "fetch",
        Step::Install(_) => "install",
        Step::ReadPosition(_) => "read_position",
        Step::Demote(_) => "demote",
        Step::Reopen(_) => "reopen",
        Step::ReachPosition(_) => "reach_position",
        Step::Promote(_) => "promote",
        Step::Verify(_) => "verify",
        Step::TestRestore(_) => "test_restore",
    }
}

impl FakeAgents {
    async fn answer(&self, request: v1::ExecuteRequest) -> Result<Update> {
        let step = request.step.clone().unwrap();
        let name = step_name(&step);
        let does = self.does.lock().unwrap().get(name).copied();
        let failed = |undone| {
            Ok(Update::Failed(v1::StepFailed {
                kind: "internal".into(),
                message: format!("{name} went wrong"),
                undone,
                ..v1::StepFailed::default()
            }))
        };
        match does {
            Some(Does::Hang | Does::Vanish) => std::future::pending().await,
            Some(Does::Fail) => return failed(false),
            Some(Does::Undone) => return failed(true),
            Some(Does::FailTimes(left)) if left > 0 => {
                let left = Does::FailTimes(left - 1);
                self.does.lock().unwrap().insert(name.into(), left);
                return failed(false);
            }
            Some(Does::PanicTimes(left)) if left > 0 => {
                let left = Does::PanicTimes(left - 1);
                self.does.lock().unwrap().insert(name.into(), left);
                panic!("{name} was told to panic");
            }
            Some(Does::FailTimes(_) | Does::PanicTimes(_) | Does::BreakTimes(..)) | None => {}
        }
        if let Some((kind, message)) = self.failures.lock().unwrap().get(name).cloned() {
            return Ok(Update::Failed(v1::StepFailed {
                kind,
                message,
                ..v1::StepFailed::default()
            }));
        }
        let mut done = v1::StepDone::default();
        if matches!(step, Step::Demote(_) | Step::ReadPosition(_)) {
            done.position = "0-100-7".into();
        }
        if matches!(step, Step::Stop(_)) {
            done.position.clone_from(&self.stops_at.lock().unwrap());
        }
        if matches!(step, Step::Verify(_) | Step::TestRestore(_)) {
            let damaged = self.damaged_packs.lock().unwrap().clone();
            done.verification = Some(v1::Verification {
                passed: damaged.is_empty(),
                percent: match &step {
                    Step::Verify(verify) => verify.percent,
                    _ => 100,
                },
                message: damaged.first().map_or("all is well".to_owned(), |pack| {
                    format!("object packs/{pack} is missing")
                }),
                ..v1::Verification::default()
            });
            done.more_damaged = damaged.len() > DAMAGED_TOLD;
            done.damaged_packs = damaged.into_iter().take(DAMAGED_TOLD).collect();
        }
        if let Step::Copy(copy) = step {
            done.backup = Some(self.announce(&request, &copy).await?);
        }
        Ok(Update::Done(done))
    }

    /// Whether the connection of this call breaks, and after how long.
    fn breaks(&self, name: &str) -> Option<Duration> {
        let mut all = self.does.lock().unwrap();
        match all.get_mut(name) {
            Some(Does::BreakTimes(left, after)) if *left > 0 => {
                *left -= 1;
                Some(*after)
            }
            _ => None,
        }
    }

    async fn announce(
        &self,
        request: &v1::ExecuteRequest,
        copy: &v1::CopyStep,
    ) -> Result<v1::Backup> {
        let group = self.group.lock().unwrap().clone().unwrap();
        let backup = v1::Backup {
            name: copy.backup.clone(),
            engine: "mariadb".into(),
            epoch: copy.epoch,
            position: "0-100-7".into(),
            manifest_hash: "ab".repeat(32),
            ..v1::Backup::default()
        };
        let announce = catalogue::Command::Announce {
            operation: request.operation_id.parse()?,
            attempt: request.attempt,
            token: request.token,
            name: copy.backup.parse()?,
            facts: Box::new(crate::service::convert::facts(&backup)?),
        };
        group.propose(Command::Catalogue(announce)).await?;
        Ok(backup)
    }
}

fn progress() -> v1::ExecuteUpdate {
    v1::ExecuteUpdate {
        update: Some(Update::Progress(v1::Progress::default())),
    }
}

#[derive(Clone)]
struct Agents(Arc<FakeAgents>);

#[async_trait]
impl AgentCalls for Agents {
    async fn execute(&self, address: &str, request: v1::ExecuteRequest) -> Result<Updates> {
        let tablet = address.trim_start_matches("http://").replace(":7611", "");
        self.0.calls.lock().unwrap().push(Call {
            tablet,
            step: step_name(request.step.as_ref().unwrap()).into(),
            term: request.term,
            attempt: request.attempt,
        });
        if let Some(Step::PutBack(put_back)) = &request.step {
            self.0.discards.lock().unwrap().push(put_back.discard);
        }
        let agents = self.0.clone();
        if let Some(after) = agents.breaks(step_name(request.step.as_ref().unwrap())) {
            let progress = stream::once(async { Ok(progress()) });
            let broken = stream::once(async move {
                tokio::time::sleep(after).await;
                Err(Error::unavailable("the connection broke"))
            });
            return Ok(progress.chain(broken).boxed());
        }
        let answer = async move {
            let update = agents.answer(request).await?;
            Ok(v1::ExecuteUpdate {
                update: Some(update),
            })
        };
        Ok(stream::once(answer.boxed()).boxed())
    }

    async fn plan_fetch(
        &self,
        address: &str,
        request: v1::PlanFetchRequest,
    ) -> Result<v1::FetchPlan> {
        if self.0.does.lock().unwrap().contains_key("plan_fetch") {
            return Err(Error::unavailable(format!("{address} is not there")));
        }
        Ok(v1::FetchPlan {
            missing_bytes: request.limit_ms,
            ..Default::default()
        })
    }

    async fn transfer_status(
        &self,
        address: &str,
        request: v1::TransferStatusRequest,
    ) -> Result<v1::TransferReport> {
        if self.0.does.lock().unwrap().contains_key("transfer_status") {
            return Err(Error::unavailable(format!("{address} is not there")));
        }
        Ok(v1::TransferReport {
            alias: request.alias,
            limit_bytes_per_second: *self.0.throttle.lock().unwrap(),
            ..Default::default()
        })
    }

    async fn set_throttle(
        &self,
        address: &str,
        request: v1::SetThrottleRequest,
    ) -> Result<v1::TransferReport> {
        if let Some(Limit::BytesPerSecond(bytes)) = request.limit {
            *self.0.throttle.lock().unwrap() = Some(bytes);
        }
        let alias = request.alias;
        self.transfer_status(address, v1::TransferStatusRequest { alias })
            .await
    }
}

/// Notes what was done, and whether the backup's hold still stood at that moment.
pub struct FakeStore {
    group: Arc<MemoryGroup>,
    pub done: Mutex<Vec<String>>,
    pub backups: Mutex<Vec<StoredBackup>>,
    pub failures: Mutex<u32>,
    /// What the next batches of collections come to; then nothing is left.
    pub batches: Mutex<VecDeque<Result<Collected>>>,
    pub requests: Mutex<Vec<CollectionRequest>>,
    pub hang_collecting: Mutex<bool>,
    pub owner: Mutex<Option<Error>>,
    /// The packs that each backup needs.
    pub packs: Mutex<BTreeMap<BackupName, BTreeSet<String>>>,
    /// Reading them never ends.
    pub hang_packs: Mutex<bool>,
    /// How often they cannot be read.
    pub packs_failures: Mutex<u32>,
    /// Key files of a recipient that can be deleted, one in a batch, and that have to stay.
    pub keys: Mutex<(usize, u64)>,
}

impl FakeStore {
    fn note(&self, what: String) -> Result<()> {
        let mut failures = self.failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Err(Error::unavailable("the store is away"));
        }
        self.done.lock().unwrap().push(what);
        Ok(())
    }
}

#[async_trait]
impl Store for FakeStore {
    fn id(&self) -> &'static str {
        "repository"
    }

    async fn check_owner(&self, _group_id: &str) -> Result<()> {
        self.owner.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    async fn put_epoch(&self, _shard: &ShardId, record: &EpochRecord) -> Result<()> {
        self.note(format!("epoch {} of {}", record.number, record.alias))
    }

    async fn newest_epoch(&self, _shard: &ShardId) -> Result<u64> {
        Ok(0)
    }

    async fn scan(&self, _shard: &ShardId) -> Result<Vec<StoredBackup>> {
        Ok(self.backups.lock().unwrap().clone())
    }

    async fn shards_of_recipient(&self, _recipient: &str) -> Result<Vec<ShardId>> {
        let (deletable, kept) = *self.keys.lock().unwrap();
        Ok(match (deletable, kept) {
            (0, 0) => Vec::new(),
            _ => vec![shard()],
        })
    }

    async fn remove_recipient(
        &self,
        shard: &ShardId,
        recipient: &str,
        batch: usize,
    ) -> Result<RemovedKeys> {
        let group: &dyn Group = &*self.group;
        let held = group.look(|state| {
            let holds = state.locks.holds();
            holds.filter(|hold| hold.side == Side::Delete).count()
        });
        self.note(format!("remove {recipient} of {shard}: {held} held"))?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut keys = self.keys.lock().unwrap();
        let deleted = batch.min(1).min(keys.0);
        keys.0 -= deleted;
        Ok(RemovedKeys {
            deleted: deleted as u64,
            kept: keys.1,
            left: keys.0 as u64,
        })
    }

    async fn packs_of(
        &self,
        _shard: &ShardId,
        name: &BackupName,
        _manifest_hash: &str,
    ) -> Result<BTreeSet<String>> {
        let hang = *self.hang_packs.lock().unwrap();
        if hang {
            std::future::pending::<()>().await;
        }
        let mut failures = self.packs_failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Err(Error::unavailable("the store is away"));
        }
        let packs = self.packs.lock().unwrap().get(name).cloned();
        Ok(packs.unwrap_or_default())
    }

    async fn abandon(&self, _shard: &ShardId, _name: &BackupName, _reason: &str) -> Result<()> {
        let group: &dyn Group = &*self.group;
        let holds = group.look(|state| state.locks.holds().count());
        self.note(format!("removed while {holds} held"))
    }

    async fn plan_collection(
        &self,
        _shard: &ShardId,
        _request: &CollectionRequest,
    ) -> Result<BTreeMap<BackupName, LeftOf>> {
        Ok(BTreeMap::new())
    }

    async fn collect(
        &self,
        _shard: &ShardId,
        request: &CollectionRequest,
        _limits: BatchLimits,
    ) -> Result<Collected> {
        self.requests.lock().unwrap().push(request.clone());
        let group: &dyn Group = &*self.group;
        let holds = group.look(|state| state.locks.holds().count());
        let hang = *self.hang_collecting.lock().unwrap();
        if hang {
            std::future::pending::<()>().await;
        }
        self.note(format!("swept while {holds} held"))?;
        let next = self.batches.lock().unwrap().pop_front();
        next.unwrap_or_else(|| Ok(Collected::default()))
    }
}

/// A coordinator in office over the cluster of the state's tests.
pub struct Stage {
    pub context: Arc<Coordination>,
    pub group: Arc<MemoryGroup>,
    pub store: Arc<FakeStore>,
    agents: Arc<FakeAgents>,
    stop: CancellationToken,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Stage {
    pub fn new(cluster: Cluster) -> Self {
        Self::with(cluster, |_| {})
    }

    /// One in which something is other than usual.
    pub fn with(cluster: Cluster, change: impl FnOnce(&mut Coordination)) -> Self {
        let mut state = cluster.state;
        state.group_id = Some("group".into());
        let group = Arc::new(MemoryGroup {
            state: Mutex::new(state),
            applied: watch::Sender::new(0),
            leadership: watch::Sender::new(Leadership::default()),
            fail_stops: AtomicU32::new(0),
        });
        let store = Arc::new(FakeStore {
            group: group.clone(),
            done: Mutex::default(),
            backups: Mutex::default(),
            failures: Mutex::default(),
            batches: Mutex::default(),
            requests: Mutex::default(),
            hang_collecting: Mutex::default(),
            owner: Mutex::default(),
            packs: Mutex::default(),
            hang_packs: Mutex::default(),
            packs_failures: Mutex::default(),
            keys: Mutex::default(),
        });
        let agents = Arc::new(FakeAgents::default());
        *agents.group.lock().unwrap() = Some(group.clone());
        let patience = Patience {
            removal_grace: Duration::ZERO,
            // Tests that want it have it by hand.
            retention: Duration::from_secs(10 * 365 * 24 * 3600),
            ..Patience::default()
        };
        let mut context = Coordination::new(
            group.clone(),
            store.clone(),
            Arc::new(Agents(agents.clone())),
            patience,
        );
        change(Arc::get_mut(&mut context).unwrap());
        let stage = Self {
            context,
            group,
            store,
            agents,
            stop: CancellationToken::new(),
        };
        tokio::spawn(runner::run(stage.context.clone(), stage.stop.clone()));
        tokio::spawn(beat(
            stage.context.clone(),
            stage.agents.clone(),
            stage.stop.clone(),
        ));
        stage.lead(1);
        stage
    }

    /// Another leader takes office; it is this one again, with nothing in its memory.
    pub fn lead(&self, term: u64) {
        self.group.leadership.send_replace(Leadership {
            term,
            leader: Some(1),
            is_ours: true,
        });
    }

    /// Another member leads from now on.
    pub fn resign(&self, term: u64) {
        self.group.leadership.send_replace(Leadership {
            term,
            leader: Some(2),
            is_ours: false,
        });
    }

    pub fn tell(&self, step: &str, does: Does) {
        self.agents.does.lock().unwrap().insert(step.into(), does);
    }

    pub fn stop_at(&self, position: &str) {
        position.clone_into(&mut self.agents.stops_at.lock().unwrap());
    }

    /// What verifications find from now on.
    pub fn find_damaged(&self, packs: &[String]) {
        *self.agents.damaged_packs.lock().unwrap() = packs.to_vec();
    }

    /// A step fails with an error of this kind.
    pub fn fail_as(&self, step: &str, kind: &str, message: &str) {
        let failure = (kind.to_owned(), message.to_owned());
        self.agents
            .failures
            .lock()
            .unwrap()
            .insert(step.to_owned(), failure);
    }

    pub fn untell(&self, step: &str) {
        self.agents.does.lock().unwrap().remove(step);
    }

    pub fn calls(&self) -> Vec<Call> {
        self.agents.calls.lock().unwrap().clone()
    }

    pub fn discards(&self) -> Vec<bool> {
        self.agents.discards.lock().unwrap().clone()
    }

    pub fn steps_called(&self) -> Vec<String> {
        self.calls().into_iter().map(|call| call.step).collect()
    }

    pub async fn start(&self, spec: Spec) -> OperationId {
        self.start_within(spec, Duration::from_secs(24 * 3600))
            .await
    }

    pub async fn start_within(&self, spec: Spec, time: Duration) -> OperationId {
        let now_unix_ms = seawall_common::clock::now_unix_ms();
        let id = OperationId::generate();
        let start = Start {
            id,
            spec,
            now_unix_ms,
            deadline_unix_ms: now_unix_ms + super::driver::millis(time),
        };
        let start = Command::Operations(operations::Command::Start(start));
        self.group.propose(start).await.unwrap();
        id
    }

    pub async fn cancel(&self, id: OperationId) {
        let reason = "test".into();
        let cancel = operations::Command::Cancel { id, reason };
        self.group
            .propose(Command::Operations(cancel))
            .await
            .unwrap();
    }

    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        let group: &dyn Group = &*self.group;
        group.look(look)
    }

    pub fn operation(&self, id: OperationId) -> Operation {
        self.look(|state| state.operations.get(&id).unwrap().clone())
    }

    pub async fn called(&self, step: &str) {
        self.until(|| self.steps_called().iter().any(|called| called == step))
            .await;
    }

    pub async fn ended(&self, id: OperationId) -> Operation {
        self.until(|| !self.operation(id).state.is_open()).await;
        self.operation(id)
    }

    pub async fn until(&self, is_so: impl Fn() -> bool) {
        self.until_within(Duration::from_secs(3 * 24 * 3600), is_so)
            .await;
    }

    /// For what is waited for while something is tried again all the time.
    pub async fn until_within(&self, limit: Duration, is_so: impl Fn() -> bool) {
        let waited = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(limit, waited)
            .await
            .expect("it never came to that");
    }
}

/// All agents are heard each second, until one is told to vanish.
async fn beat(context: Arc<Coordination>, agents: Arc<FakeAgents>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let called: Vec<String> = {
            let calls = agents.calls.lock().unwrap();
            calls.iter().map(|call| call.step.clone()).collect()
        };
        let has_vanished = {
            let does = agents.does.lock().unwrap();
            does.iter()
                .any(|(step, does)| *does == Does::Vanish && called.contains(step))
        };
        if !has_vanished {
            for text in ["zone1-100", "zone1-101", "zone1-102"] {
                let heard = Heard {
                    instance: format!("instance of {text}"),
                    at: tokio::time::Instant::now(),
                    at_unix_ms: 0,
                    status: v1::TabletStatus {
                        database_running: true,
                        lag_ms: Some(0),
                        serving: true,
                        can_read_repository: true,
                        can_test_restore: true,
                        ..v1::TabletStatus::default()
                    },
                };
                context.heartbeats.record(&alias(text), heard);
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Has the store show what the catalogue says is complete.
pub fn keep_in_store(stage: &Stage) {
    let shard = shard();
    let stored = stage.look(|state| {
        let entries = state.catalogue.complete_ones(&shard);
        entries
            .map(|entry| StoredBackup {
                name: entry.name.clone(),
                state: StoredState::Complete {
                    header: Box::new(header(entry)),
                    manifest_hash: entry.facts.manifest_hash.clone(),
                },
            })
            .collect()
    });
    *stage.store.backups.lock().unwrap() = stored;
}

fn header(entry: &catalogue::Entry) -> ManifestHeader {
    ManifestHeader {
        version: 1,
        name: entry.name.clone(),
        shard: entry.shard.clone(),
        alias: entry.alias.parse().unwrap(),
        engine: entry.facts.engine.clone(),
        epoch: entry.facts.epoch,
        position: entry.facts.position.clone(),
        started_unix_ms: 0,
        ended_unix_ms: 0,
        logical_bytes: 0,
        stored_bytes: 0,
        files: 0,
        encrypted: false,
        chunk_bytes: 1 << 20,
        lists: Vec::new(),
        pack_lists: Vec::new(),
        refers_to: Vec::new(),
        damaged_pages: 0,
        writer_key: entry.facts.writer_key.clone(),
    }
}
