//! A command of the coordinator, checked and in our own words.

use std::time::Duration;

use seawall_common::{
    Error, Result,
    ids::{BackupName, OperationId, ShardId},
    position::Position,
    repository::{MayReferTo, Reference},
};
use seawall_proto::v1::{self, execute_request::Step as Wire};

use uuid::Uuid;

use crate::{
    journal::{OperationKind, Step},
    tablet::Tablet,
};

#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub operation: OperationId,
    pub attempt: u32,
    pub term: u64,
    pub token: u64,
    pub hold_id: String,
    pub view: v1::ShardView,
    pub action: Action,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Run(StepCall),
    PutBack {
        /// Backup to give up before anything else.
        abandon: Option<BackupName>,
        reason: String,
        /// What was fetched is not kept for another try.
        discard: bool,
    },
}

/// A step with what it needs to know.
#[derive(Clone, Debug, PartialEq)]
pub enum StepCall {
    Prepare {
        backup: BackupName,
        may_refer_to: Vec<Reference>,
    },
    Drain {
        kind: OperationKind,
        drain: Option<Duration>,
    },
    Note,
    Stop,
    Copy {
        backup: BackupName,
        epoch: u64,
        concurrency: usize,
        may_refer_to: MayReferTo,
    },
    Start,
    Reinstate,
    CatchUp {
        no_wait: bool,
    },
    Serve,
    Fetch {
        backup: BackupName,
        /// Empty: no catalogue to compare with.
        manifest_hash: String,
        /// None: as this agent is configured.
        concurrency: Option<usize>,
    },
    Install,
    ReadPosition,
    Demote,
    Reopen,
    ReachPosition {
        position: Position,
        limit: Duration,
    },
    Promote,
    Verify {
        aside: Aside,
        percent: u8,
        seed: u64,
    },
    TestRestore {
        aside: Aside,
    },
}

/// A backup that something is done with beside the database.
#[derive(Clone, Debug, PartialEq)]
pub struct Aside {
    /// Perhaps not this tablet's.
    pub shard: ShardId,
    pub backup: BackupName,
    /// Empty: no catalogue to compare with.
    pub manifest_hash: String,
    /// None: as this agent is configured.
    pub concurrency: Option<usize>,
}

impl Aside {
    pub fn expected_hash(&self) -> Option<&str> {
        Some(self.manifest_hash.as_str()).filter(|hash| !hash.is_empty())
    }

    pub fn concurrency(&self, tablet: &Tablet) -> usize {
        self.concurrency
            .unwrap_or(tablet.settings.restore_concurrency)
    }
}

const COPY_CONCURRENCY_DEFAULT: usize = 4;
const CONCURRENCY_MAX: u32 = 64;
const REFERENCES_MAX: usize = 32;

impl StepCall {
    pub fn step(&self) -> Step {
        match self {
            StepCall::Prepare { .. } => Step::Prepare,
            StepCall::Drain { .. } => Step::Drain,
            StepCall::Note => Step::Note,
            StepCall::Stop => Step::Stop,
            StepCall::Copy { .. } => Step::Copy,
            StepCall::Start => Step::Start,
            StepCall::Reinstate => Step::Reinstate,
            StepCall::CatchUp { .. } => Step::CatchUp,
            StepCall::Serve => Step::Serve,
            StepCall::Fetch { .. } => Step::Fetch,
            StepCall::Install => Step::Install,
            StepCall::ReadPosition => Step::ReadPosition,
            StepCall::Demote => Step::Demote,
            StepCall::Reopen => Step::Reopen,
            StepCall::ReachPosition { .. } => Step::ReachPosition,
            StepCall::Promote => Step::Promote,
            StepCall::Verify { .. } => Step::Verify,
            StepCall::TestRestore { .. } => Step::TestRestore,
        }
    }
}

impl TryFrom<v1::ExecuteRequest> for Call {
    type Error = Error;

    fn try_from(request: v1::ExecuteRequest) -> Result<Self> {
        let step = request
            .step
            .ok_or_else(|| Error::invalid("the command names no step"))?;
        if request.attempt == 0 {
            return Err(Error::invalid("the command names no attempt"));
        }
        Ok(Self {
            operation: request.operation_id.parse()?,
            attempt: request.attempt,
            term: request.term,
            token: request.token,
            hold_id: request.hold_id,
            view: request.view.unwrap_or_default(),
            action: action(step)?,
        })
    }
}

fn action(step: Wire) -> Result<Action> {
    Ok(Action::Run(match step {
        Wire::PutBack(put_back) => {
            return Ok(Action::PutBack {
                abandon: match put_back.abandon_backup.as_str() {
                    "" => None,
                    name => Some(name.parse()?),
                },
                reason: put_back.reason,
                discard: put_back.discard,
            });
        }
        Wire::Prepare(prepare) => StepCall::Prepare {
            backup: prepare.backup.parse()?,
            may_refer_to: references(prepare.may_refer_to)?,
        },
        Wire::Drain(drain) => StepCall::Drain {
            kind: match drain.r#type() {
                v1::TabletType::Backup => OperationKind::Backup,
                v1::TabletType::Restore => OperationKind::Restore,
                other => {
                    return Err(Error::invalid(format!(
                        "a tablet drains to be backed up or restored, not as {}",
                        other.as_str_name()
                    )));
                }
            },
            drain: drain.drain_ms.map(Duration::from_millis),
        },
        Wire::Note(v1::NoteStep {}) => StepCall::Note,
        Wire::Stop(v1::StopStep {}) => StepCall::Stop,
        Wire::Copy(copy) => StepCall::Copy {
            backup: copy.backup.parse()?,
            epoch: copy.epoch,
            concurrency: concurrency(copy.concurrency).unwrap_or(COPY_CONCURRENCY_DEFAULT),
            may_refer_to: MayReferTo {
                backups: references(copy.may_refer_to)?,
                damaged_packs: packs(&copy.damaged_packs)?,
            },
        },
        Wire::Start(v1::StartStep {}) => StepCall::Start,
        Wire::Reinstate(v1::ReinstateStep {}) => StepCall::Reinstate,
        Wire::CatchUp(catch_up) => StepCall::CatchUp {
            no_wait: catch_up.no_wait,
        },
        Wire::Serve(_) => StepCall::Serve,
        Wire::Fetch(fetch) => StepCall::Fetch {
            backup: fetch.backup.parse()?,
            manifest_hash: fetch.manifest_hash,
            concurrency: concurrency(fetch.concurrency),
        },
        Wire::Install(v1::InstallStep {}) => StepCall::Install,
        Wire::ReadPosition(v1::ReadPositionStep {}) => StepCall::ReadPosition,
        Wire::Demote(v1::DemoteStep {}) => StepCall::Demote,
        Wire::Reopen(v1::ReopenStep {}) => StepCall::Reopen,
        Wire::ReachPosition(reach) => StepCall::ReachPosition {
            position: reach.position.parse()?,
            limit: Duration::from_millis(reach.timeout_ms),
        },
        Wire::Promote(v1::PromoteStep {}) => StepCall::Promote,
        Wire::Verify(verify) => StepCall::Verify {
            aside: Aside {
                shard: ShardId::from_proto(verify.shard.as_ref())?,
                backup: verify.backup.parse()?,
                manifest_hash: verify.manifest_hash,
                concurrency: concurrency(verify.concurrency),
            },
            percent: match u8::try_from(verify.percent) {
                Ok(0) => 100,
                Ok(percent) => percent,
                Err(_) => {
                    return Err(Error::invalid(format!(
                        "{} per cent are more than all",
                        verify.percent
                    )));
                }
            },
            seed: verify.seed,
        },
        Wire::TestRestore(test) => StepCall::TestRestore {
            aside: Aside {
                shard: ShardId::from_proto(test.shard.as_ref())?,
                backup: test.backup.parse()?,
                manifest_hash: test.manifest_hash,
                concurrency: concurrency(test.concurrency),
            },
        },
    }))
}

fn references(wanted: Vec<v1::Reference>) -> Result<Vec<Reference>> {
    if wanted.len() > REFERENCES_MAX {
        return Err(Error::invalid(format!(
            "the command names {} backups to refer to, {REFERENCES_MAX} are the limit",
            wanted.len()
        )));
    }
    let reference = |wanted: v1::Reference| {
        Ok(Reference {
            name: wanted.backup.parse()?,
            manifest_hash: Some(wanted.manifest_hash).filter(|hash| !hash.is_empty()),
        })
    };
    wanted.into_iter().map(reference).collect()
}

fn packs(ids: &[String]) -> Result<Vec<Uuid>> {
    let malformed = |id: &str| Error::invalid(format!("malformed pack id {id:?}"));
    ids.iter()
        .map(|id| Uuid::try_parse(id).map_err(|_| malformed(id)))
        .collect()
}

/// None: the caller leaves it to us.
fn concurrency(wanted: u32) -> Option<usize> {
    match wanted {
        0 => None,
        n => usize::try_from(n.min(CONCURRENCY_MAX)).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_of_no_given_concurrency_leaves_it_to_the_agents_own_setting() {
        let fetch = |wanted| {
            let fetch = v1::FetchStep {
                backup: "2026-10-14.174640.zone1-102".into(),
                manifest_hash: String::new(),
                concurrency: wanted,
            };
            match action(Wire::Fetch(fetch)).unwrap() {
                Action::Run(StepCall::Fetch { concurrency, .. }) => concurrency,
                other => panic!("not a fetch: {other:?}"),
            }
        };
        assert_eq!(fetch(0), None);
        assert_eq!(fetch(3), Some(3));
        assert_eq!(fetch(1000), Some(64));
    }
}
