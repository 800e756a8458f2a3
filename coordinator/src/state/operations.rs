//! Operations: durable sagas. What each was asked to do, how far it has come, what came of it.
//!
//! An operation is `Running`, then perhaps `Undoing`, then ended for good. Past its point of no
//! return it can only go forward. Its driver, in the leader, records each step before and after.
//! What may start is decided in `admission`, what ends is tidied up in `closing`.

mod effect;

use std::collections::{BTreeMap, BTreeSet};

pub use effect::Effect;
use effect::take_effect;
use seawall_common::{
    Error, Result,
    ids::{Alias, BackupName, OperationId, ShardId},
    position::Position,
};
use serde::{Deserialize, Serialize};

use super::{
    Refusal, Response, State, admission, closing, collection::Deleted, references::Reference,
    verification::Verification,
};

/// Operations that ended and are remembered; the oldest are forgotten first.
pub const FINISHED_MAX: usize = 1_000;
/// Operations that clients may have open at a time. Sweeps, which wait for a day, do not count.
pub const OPEN_MAX: usize = 1_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Spec {
    Backup {
        alias: Alias,
        concurrency: u32,
        no_wait: bool,
        allow_primary: bool,
    },
    Restore {
        alias: Alias,
        /// None: the newest complete one that fits.
        backup: Option<BackupName>,
        empty_start: bool,
        concurrency: u32,
        /// Also one that is marked as broken, when it is named.
        #[serde(default)]
        allow_broken: bool,
    },
    RemoveBackup {
        shard: ShardId,
        backup: BackupName,
        force: bool,
        /// The rule by which it goes, or an operator's words.
        #[serde(default)]
        reason: String,
        /// Nobody asked for it: admitted only while the rules in force want it.
        #[serde(default)]
        by_retention: bool,
    },
    /// Begun by the end of a removal or of a backup that was given up; never by a client.
    Sweep {
        shard: ShardId,
        backup: BackupName,
        not_before_unix_ms: u64,
    },
    /// Deletes what removed backups have left, but for those whose sweeps are still to come.
    Collect {
        shard: ShardId,
    },
    /// A recipient's key files in one shard go.
    RemoveRecipient {
        shard: ShardId,
        /// Its fingerprint.
        recipient: String,
    },
    InitShardPrimary {
        shard: ShardId,
        alias: Alias,
    },
    PlannedReparent {
        shard: ShardId,
        new_primary: Alias,
    },
    Verify {
        shard: ShardId,
        backup: BackupName,
        /// 1 to 100.
        percent: u32,
        /// None: a tablet whose agent can.
        alias: Option<Alias>,
        /// 0: the agent's default.
        concurrency: u32,
    },
    TestRestore {
        shard: ShardId,
        backup: BackupName,
        alias: Option<Alias>,
        concurrency: u32,
    },
}

impl Spec {
    /// The tablet that nothing else may work with meanwhile.
    pub fn tablet(&self) -> Option<&Alias> {
        match self {
            Spec::Backup { alias, .. } | Spec::Restore { alias, .. } => Some(alias),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationState {
    Running,
    /// It failed or was cancelled and its work is being undone.
    Undoing,
    Succeeded,
    Failed,
    Cancelled,
}

impl OperationState {
    pub fn is_open(self) -> bool {
        matches!(self, OperationState::Running | OperationState::Undoing)
    }
}

/// What a step found that later steps need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub position: Position,
    pub replication_was_stopped: bool,
    /// Something the operator should know although it went well.
    pub note: String,
    /// The tablet whose agent a verification is done by.
    #[serde(default)]
    pub alias: Option<Alias>,
    #[serde(default)]
    pub verification: Option<Verification>,
    /// Ids of packs that a verification found damaged.
    #[serde(default)]
    pub damaged_packs: Vec<String>,
    /// Not all of them are named.
    #[serde(default)]
    pub more_damaged: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub name: String,
    pub started_unix_ms: u64,
    /// None: still at it.
    pub ended_unix_ms: Option<u64>,
    pub error: Option<String>,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    pub id: OperationId,
    pub spec: Spec,
    pub shard: ShardId,
    pub state: OperationState,
    pub attempt: u32,
    /// Past its point of no return.
    pub irrevocable: bool,
    pub cancelled: bool,
    pub steps: Vec<Step>,
    pub created_unix_ms: u64,
    pub deadline_unix_ms: u64,
    pub finished_unix_ms: Option<u64>,
    /// Why it is being undone, or failed.
    pub error: Option<Refusal>,
    /// Name of the backup that it writes, restores or removes, once known.
    pub backup: Option<BackupName>,
    /// Token of its hold; 0 when it has none.
    pub token: u64,
    /// One line of what came of it, for people; of a collection, also while it runs.
    pub result: String,
    /// What a backup may refer to; forgotten when it has ended.
    #[serde(default)]
    pub references: Vec<Reference>,
    /// What a sweep or a collection has deleted so far.
    #[serde(default)]
    pub deleted: Deleted,
    /// When it last had the delete side; 0: never.
    #[serde(default)]
    pub turn_unix_ms: u64,
}

impl Operation {
    pub(super) fn new(id: OperationId, spec: Spec, shard: ShardId, start: &Start) -> Self {
        Self {
            id,
            spec,
            shard,
            state: OperationState::Running,
            attempt: 1,
            irrevocable: false,
            cancelled: false,
            steps: Vec::new(),
            created_unix_ms: start.now_unix_ms,
            deadline_unix_ms: start.deadline_unix_ms,
            finished_unix_ms: None,
            error: None,
            backup: None,
            token: 0,
            result: String::new(),
            references: Vec::new(),
            deleted: Deleted::default(),
            turn_unix_ms: 0,
        }
    }

    /// Id of the hold that it works under.
    pub fn hold_id(&self) -> String {
        if self.token == 0 {
            String::new()
        } else {
            self.id.to_string()
        }
    }

    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.name == name)
    }

    /// What a step came to, when it has ended well.
    pub fn outcome(&self, name: &str) -> Option<&Outcome> {
        self.step(name)
            .filter(|step| step.ended_unix_ms.is_some() && step.error.is_none())
            .map(|step| &step.outcome)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Operations {
    pub(super) all: BTreeMap<OperationId, Operation>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Chosen by the client: a repetition finds the operation.
    pub id: OperationId,
    pub spec: Spec,
    pub now_unix_ms: u64,
    pub deadline_unix_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    Start(Start),
    StepStarted {
        id: OperationId,
        step: String,
        now_unix_ms: u64,
    },
    StepEnded {
        id: OperationId,
        step: String,
        now_unix_ms: u64,
        error: Option<String>,
        outcome: Outcome,
        effect: Effect,
    },
    /// Whoever deletes takes the delete side of its shard for one batch, or one try.
    TakeDeleteSide {
        id: OperationId,
        now_unix_ms: u64,
    },
    /// It lets go of it again: for the next batch, or to try later.
    ReleaseDeleteSide {
        id: OperationId,
        #[serde(default)]
        deleted: Deleted,
        /// One line of how far it is, or of what keeps it from its work.
        #[serde(default)]
        note: String,
    },
    Cancel {
        id: OperationId,
        reason: String,
    },
    /// It cannot go on: what it did is to be undone.
    Fail {
        id: OperationId,
        error: Refusal,
    },
    Finish(Finish),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finish {
    pub id: OperationId,
    pub now_unix_ms: u64,
    /// Set: it failed past its point of no return, where nothing is undone.
    pub error: Option<Refusal>,
    pub result: String,
    /// When the objects of a backup that it removed or gave up may go, and until when to try.
    pub sweep_not_before_unix_ms: u64,
    pub sweep_deadline_unix_ms: u64,
}

pub fn apply(state: &mut State, command: &Command) -> Result<Response> {
    match command {
        Command::Start(start) => admission::start(state, start),
        Command::StepStarted {
            id,
            step,
            now_unix_ms,
        } => {
            let operation = state.operations.open_mut(id)?;
            operation.begin_step(step, *now_unix_ms);
            Ok(Response::Done)
        }
        Command::StepEnded {
            id,
            step,
            now_unix_ms,
            error,
            outcome,
            effect,
        } => {
            take_effect(state, id, outcome, effect)?;
            let operation = state.operations.open_mut(id)?;
            operation.end_step(step, *now_unix_ms, error.clone(), outcome.clone());
            Ok(Response::Done)
        }
        Command::TakeDeleteSide { id, now_unix_ms } => {
            admission::take_delete_side(state, id, *now_unix_ms)
        }
        Command::ReleaseDeleteSide { id, deleted, note } => {
            let operation = state.operations.open_mut(id)?;
            operation.token = 0;
            operation.deleted.add(*deleted);
            operation.result.clone_from(note);
            state.locks.release_all_of(*id);
            Ok(Response::Done)
        }
        Command::Cancel { id, reason } => cancel(state, id, reason),
        Command::Fail { id, error } => {
            let operation = state.operations.open_mut(id)?;
            operation.check_revocable()?;
            if operation.state == OperationState::Running {
                operation.state = OperationState::Undoing;
                operation.error = Some(error.clone());
            }
            Ok(Response::Done)
        }
        Command::Finish(finish) => closing::finish(state, finish),
    }
}

fn cancel(state: &mut State, id: &OperationId, reason: &str) -> Result<Response> {
    let operation = state.operations.get_mut(id)?;
    if !operation.state.is_open() {
        return Err(Error::refused(format!("operation {id} has ended already"))
            .hint("WatchOperation shows how it ended; what it did is not undone any more."));
    }
    operation.check_revocable()?;
    if operation.state == OperationState::Running {
        operation.state = OperationState::Undoing;
        operation.cancelled = true;
        let why = if reason.is_empty() {
            "cancelled".to_owned()
        } else {
            format!("cancelled: {reason}")
        };
        operation.error = Some(Error::cancelled(why).into());
    }
    Ok(Response::Operation(Box::new(operation.clone())))
}

impl Operation {
    fn check_revocable(&self) -> Result<()> {
        if !self.irrevocable {
            return Ok(());
        }
        Err(Error::refused(format!(
            "operation {} is past its point of no return and only goes forward",
            self.id
        ))
        .hint("WatchOperation shows how it ends."))
    }

    fn own_backup(&self) -> Result<&BackupName> {
        self.backup
            .as_ref()
            .ok_or_else(|| Error::internal(format!("operation {} has no backup", self.id)))
    }

    /// A step that was begun before is gone on with; one that failed is tried again.
    fn begin_step(&mut self, name: &str, now_unix_ms: u64) {
        if let Some(step) = self.steps.iter_mut().find(|step| step.name == name) {
            if step.error.is_some() {
                step.ended_unix_ms = None;
            }
            return;
        }
        self.steps.push(Step {
            name: name.to_owned(),
            started_unix_ms: now_unix_ms,
            ended_unix_ms: None,
            error: None,
            outcome: Outcome::default(),
        });
    }

    pub(super) fn end_step(
        &mut self,
        name: &str,
        now_unix_ms: u64,
        error: Option<String>,
        outcome: Outcome,
    ) {
        self.begin_step(name, now_unix_ms);
        if let Some(step) = self.steps.iter_mut().find(|step| step.name == name) {
            step.ended_unix_ms = Some(now_unix_ms);
            step.error = error;
            step.outcome = outcome;
        }
    }
}

impl Operations {
    pub fn get(&self, id: &OperationId) -> Result<&Operation> {
        self.all.get(id).ok_or_else(|| unknown(id))
    }

    fn get_mut(&mut self, id: &OperationId) -> Result<&mut Operation> {
        self.all.get_mut(id).ok_or_else(|| unknown(id))
    }

    pub(super) fn open_mut(&mut self, id: &OperationId) -> Result<&mut Operation> {
        let operation = self.get_mut(id)?;
        if operation.state.is_open() {
            return Ok(operation);
        }
        Err(Error::fenced(format!("operation {id} has ended already")))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Operation> {
        self.all.values()
    }

    pub fn open(&self) -> impl Iterator<Item = &Operation> {
        self.iter().filter(|operation| operation.state.is_open())
    }

    /// The backups of a shard that are being removed.
    pub fn removals(&self, shard: &ShardId) -> BTreeSet<&BackupName> {
        let removals = self.open().filter_map(|operation| match &operation.spec {
            Spec::RemoveBackup {
                shard: of, backup, ..
            } if of == shard => Some(backup),
            _ => None,
        });
        removals.collect()
    }

    /// The operation that is at work with a tablet.
    pub fn open_on(&self, alias: &Alias) -> Option<&Operation> {
        self.open()
            .find(|operation| operation.spec.tablet() == Some(alias))
    }

    pub(super) fn pass_point_of_no_return(&mut self, id: &OperationId) {
        if let Some(operation) = self.all.get_mut(id) {
            operation.irrevocable = true;
        }
    }

    /// Forgets the oldest that have ended, when they are too many.
    pub(super) fn forget_old(&mut self) {
        let mut ended: Vec<(u64, OperationId)> = self
            .iter()
            .filter_map(|operation| Some((operation.finished_unix_ms?, operation.id)))
            .collect();
        if ended.len() <= FINISHED_MAX {
            return;
        }
        ended.sort_unstable();
        for (_, id) in &ended[..ended.len() - FINISHED_MAX] {
            self.all.remove(id);
        }
    }
}

fn unknown(id: &OperationId) -> Error {
    Error::not_found(format!("no operation {id}")).hint("ListOperations shows them.")
}

#[cfg(test)]
mod tests;
