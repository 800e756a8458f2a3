//! What stands in the journal.

use std::path::PathBuf;

use seawall_common::{
    Error, ErrorKind, Result,
    clock::now_unix_ms,
    ids::{BackupName, OperationId, ShardId},
    position::Position,
};
use seawall_proto::v1;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::engine::{CopySet, Flags, Replication, Source};

/// Operations that are over and still remembered, so that a late command finds its answer.
pub(super) const FINISHED_MAX: usize = 64;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// The highest Raft term that a command came with.
    pub term: u64,
    /// What was last known of the shard: for a start while no coordinator can be reached.
    pub shard: KnownShard,
    /// The server has been started and not yet given its place in the shard.
    pub awaits_reinstatement: bool,
    /// The run of the server that was last given its place in the shard; empty: none yet.
    pub incarnation: String,
    /// The restore that this agent asked for because it found no user data.
    pub asked_restore: Option<OperationId>,
    /// Backups given up whose `removed` mark could not be put yet.
    pub pending_marks: Vec<PendingMark>,
    /// Set by hand; absent: the agent's own setting holds.
    #[serde(default)]
    pub transfer_limit: Option<TransferLimit>,
    /// Oldest first.
    pub operations: Vec<Operation>,
}

impl Contents {
    pub fn operation(&self, id: OperationId) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.id == id)
    }

    pub fn operation_mut(&mut self, id: OperationId) -> Result<&mut Operation> {
        self.operations
            .iter_mut()
            .find(|operation| operation.id == id)
            .ok_or_else(|| Error::internal(format!("operation {id} is not in the journal")))
    }

    /// The operation that has the database now. There is never more than one.
    pub fn owner(&self) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.is_open())
    }

    /// The change of primary for which this tablet has been closed, beside whatever else is open.
    pub fn open_demotion(&self) -> Option<&Operation> {
        self.operations
            .iter()
            .find(|operation| operation.is_open() && operation.has_demoted())
    }

    pub(super) fn forget_old(&mut self) {
        let is_kept = |o: &Operation| o.is_open() || o.is_at_work_aside();
        let finished = self.operations.iter().filter(|o| !is_kept(o)).count();
        for operation in self.operations.iter_mut().filter(|o| !o.is_open()) {
            operation.facts.checksums = Vec::new();
        }
        let mut surplus = finished.saturating_sub(FINISHED_MAX);
        self.operations.retain(|operation| {
            let forgotten = surplus > 0 && !is_kept(operation);
            surplus -= usize::from(forgotten);
            !forgotten
        });
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferLimit {
    Unlimited,
    /// 0: paused.
    BytesPerSecond(u64),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownShard {
    /// The coordinator group that said so. Another group counts epochs and terms of its own.
    pub group_id: String,
    /// 0: no primary yet, or nothing known.
    pub epoch: u64,
    pub alias: String,
    pub primary: Option<Source>,
    /// This tablet's type, as the coordinator numbers them; 0: not told yet.
    pub tablet_type: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingMark {
    pub backup: BackupName,
    pub reason: String,
    pub hold_id: String,
    pub token: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    Backup,
    Restore,
    Reparent,
    /// Beside the database: never has it, and is never open.
    Aside,
}

impl OperationKind {
    pub fn name(self) -> &'static str {
        match self {
            OperationKind::Backup => "backup",
            OperationKind::Restore => "restore",
            OperationKind::Reparent => "reparent",
            OperationKind::Aside => "aside",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum OperationState {
    Open,
    /// It has failed here or was called off: `removed` is put, then the database is put back.
    GivingUp {
        reason: String,
        abandon: Option<BackupName>,
        /// Somebody called it off: nobody will go on with what was fetched.
        #[serde(default)]
        discard: bool,
    },
    Done,
    Undone {
        reason: String,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    pub id: OperationId,
    pub attempt: u32,
    pub kind: OperationKind,
    /// The agent's own: no coordinator drives it.
    pub local: bool,
    pub state: OperationState,
    pub hold_id: String,
    pub token: u64,
    pub began_unix_ms: u64,
    /// In the order in which they began.
    pub steps: Vec<StepRecord>,
    pub facts: Facts,
}

impl Operation {
    pub fn new(id: OperationId, attempt: u32, kind: OperationKind) -> Self {
        Self {
            id,
            attempt,
            kind,
            local: false,
            state: OperationState::Open,
            hold_id: String::new(),
            token: 0,
            began_unix_ms: now_unix_ms(),
            steps: Vec::new(),
            facts: Facts::default(),
        }
    }

    /// A step beside the database has begun and not ended.
    pub fn is_at_work_aside(&self) -> bool {
        self.kind == OperationKind::Aside
            && self.state == OperationState::Done
            && self.last_step().is_some_and(|step| step.ended.is_none())
    }

    pub fn is_open(&self) -> bool {
        matches!(
            self.state,
            OperationState::Open | OperationState::GivingUp { .. }
        )
    }

    pub fn record(&self, step: Step) -> Option<&StepRecord> {
        self.steps.iter().find(|record| record.step == step)
    }

    pub fn outcome(&self, step: Step) -> Option<&Outcome> {
        match self.record(step)?.ended.as_ref()? {
            Ended::Done(outcome) => Some(outcome),
            Ended::Failed(_) => None,
        }
    }

    pub fn failure(&self, step: Step) -> Option<Error> {
        match self.record(step)?.ended.as_ref()? {
            Ended::Done(_) => None,
            Ended::Failed(failure) => Some(failure.error()),
        }
    }

    pub fn has_done(&self, step: Step) -> bool {
        self.outcome(step).is_some()
    }

    /// It has closed the database for writes, or begun to, and not opened it again.
    pub fn has_demoted(&self) -> bool {
        self.record(Step::Demote).is_some() && !self.has_done(Step::Reopen)
    }

    /// The step that was begun last.
    pub fn last_step(&self) -> Option<&StepRecord> {
        self.steps.last()
    }

    pub fn begin(&mut self, step: Step) {
        self.steps.retain(|record| record.step != step);
        self.steps.push(StepRecord {
            step,
            began_unix_ms: now_unix_ms(),
            ended: None,
        });
    }

    pub fn end(&mut self, step: Step, ended: Ended) {
        if let Some(record) = self.steps.iter_mut().find(|record| record.step == step) {
            record.ended = Some(ended);
        }
    }
}

/// Every step that an agent runs on the coordinator's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Prepare,
    Drain,
    Note,
    Stop,
    Copy,
    Start,
    Reinstate,
    CatchUp,
    Serve,
    Fetch,
    Install,
    ReadPosition,
    Demote,
    Reopen,
    ReachPosition,
    Promote,
    Verify,
    TestRestore,
}

impl Step {
    /// As it stands in status lines and in the names of pause points.
    pub fn name(self) -> &'static str {
        match self {
            Step::Prepare => "prepare",
            Step::Drain => "drain",
            Step::Note => "note",
            Step::Stop => "stop",
            Step::Copy => "copy",
            Step::Start => "start",
            Step::Reinstate => "reinstate",
            Step::CatchUp => "catch_up",
            Step::Serve => "serve",
            Step::Fetch => "fetch",
            Step::Install => "install",
            Step::ReadPosition => "read_position",
            Step::Demote => "demote",
            Step::Reopen => "reopen",
            Step::ReachPosition => "reach_position",
            Step::Promote => "promote",
            Step::Verify => "verify",
            Step::TestRestore => "test_restore",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    pub step: Step,
    pub began_unix_ms: u64,
    /// Absent: under way, or cut off by the end of the agent.
    pub ended: Option<Ended>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    Done(Outcome),
    Failed(Failure),
}

impl Ended {
    pub fn from_result(result: &Result<Outcome>) -> Self {
        match result {
            Ok(outcome) => Ended::Done(outcome.clone()),
            Err(error) => Ended::Failed(Failure {
                kind: error.kind().name().to_owned(),
                message: error.message().to_owned(),
                hint: error.hint_text().map(str::to_owned),
            }),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    kind: String,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// As it was answered when it happened.
    fn error(&self) -> Error {
        let kind = ErrorKind::from_name(&self.kind).unwrap_or(ErrorKind::Internal);
        let error = Error::new(kind, self.message.clone());
        match &self.hint {
            Some(hint) => error.hint(hint.clone()),
            None => error,
        }
    }
}

/// What a step came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub position: Option<Position>,
    pub replication_was_stopped: bool,
    pub backup: Option<Box<BackupRecord>>,
    /// Something the operator should know although it went well.
    pub note: String,
    pub verification: Option<Verification>,
    /// Ids of packs that were found damaged.
    #[serde(default)]
    pub damaged_packs: Vec<String>,
    /// Not all of them are named.
    #[serde(default)]
    pub more_damaged: bool,
}

/// What came of reading a backup back, or of restoring it aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    pub passed: bool,
    pub percent: u32,
    pub seed: u64,
    pub message: String,
    pub bytes: u64,
}

impl Outcome {
    /// What of it stands although the operation was called off: the damage that was found by then.
    pub fn damage(&self) -> Self {
        if !self.is_damage() {
            return Self::default();
        }
        Self {
            verification: self.verification.clone(),
            damaged_packs: self.damaged_packs.clone(),
            more_damaged: self.more_damaged,
            ..Self::default()
        }
    }

    pub fn is_damage(&self) -> bool {
        let found = self.verification.as_ref();
        found.is_some_and(|found| !found.passed)
    }

    pub fn noted(note: impl Into<String>) -> Self {
        Self {
            note: note.into(),
            ..Self::default()
        }
    }

    pub fn at(position: Position) -> Self {
        Self {
            position: Some(position),
            ..Self::default()
        }
    }
}

/// A backup as it was announced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackupRecord {
    pub name: BackupName,
    pub shard: ShardId,
    pub alias: String,
    pub engine: String,
    pub engine_version: String,
    pub epoch: u64,
    pub position: Position,
    pub started_unix_ms: u64,
    pub ended_unix_ms: u64,
    pub logical_bytes: u64,
    pub stored_bytes: u64,
    pub files: u64,
    pub manifest_hash: String,
    pub operation: OperationId,
    pub encrypted: bool,
    #[serde(default)]
    pub damaged_pages: u64,
    #[serde(default)]
    pub writer_key: String,
}

impl From<&BackupRecord> for v1::Backup {
    fn from(record: &BackupRecord) -> Self {
        v1::Backup {
            name: record.name.to_string(),
            shard: Some(record.shard.to_proto()),
            alias: record.alias.clone(),
            state: v1::BackupState::Complete.into(),
            engine: record.engine.clone(),
            engine_version: record.engine_version.clone(),
            epoch: record.epoch,
            position: record.position.to_string(),
            started_unix_ms: record.started_unix_ms,
            ended_unix_ms: record.ended_unix_ms,
            logical_bytes: record.logical_bytes,
            stored_bytes: record.stored_bytes,
            files: record.files,
            manifest_hash: record.manifest_hash.clone(),
            operation_id: record.operation.to_string(),
            encrypted: record.encrypted,
            note: String::new(),
            damaged_pages: record.damaged_pages,
            writer_key: record.writer_key.clone(),
            ..Default::default()
        }
    }
}

/// What the steps of an operation have found out, for the steps after them and for putting back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    pub engine_version: Option<String>,
    pub flags: Option<Flags>,
    pub replication: Option<Replication>,
    pub copy_set: Option<CopySet>,
    /// Made of what is copied, for its restore tests; only until the operation ends.
    #[serde(default)]
    pub checksums: Vec<(String, String)>,
    /// Where the database stood when it was stopped.
    pub position: Option<Position>,
    /// By us and cleanly, not by a crash.
    pub is_stopped: bool,
    pub goal: Option<Goal>,
    /// Journaled before the first byte of it is put.
    pub backup: Option<BackupName>,
    /// That writes it: its key lies in the state directory.
    pub session: Option<Uuid>,
    /// Journaled before the manifest is announced and put.
    pub announced: Option<BackupRecord>,
    pub restore: Option<RestoreFacts>,
}

/// What a database must have applied before it serves. It belongs to an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goal {
    pub epoch: u64,
    pub position: Position,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreFacts {
    pub backup: BackupName,
    pub position: Position,
    pub epoch: u64,
    /// The restored history has been made this server's own; must not be done again after
    /// replication has gone on from there.
    pub adopted: bool,
    /// Journaled before the first rename of an installation.
    pub installing: Vec<RootMove>,
}

/// A root whose directory an installation exchanges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootMove {
    pub path: PathBuf,
    /// There was a directory before.
    pub had_one: bool,
}
