//! Agents that do as a test tells them, and note what they were called for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _, stream};
use seawall_common::{Error, Result};
use seawall_proto::v1::{
    self, execute_request::Step, execute_update::Update, set_throttle_request::Limit,
};

use super::MemoryGroup;
use crate::{
    agents::client::{AgentCalls, Updates},
    group::Group,
    state::{Command, catalogue},
};

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
    pub(super) does: Mutex<BTreeMap<String, Does>>,
    pub(super) calls: Mutex<Vec<Call>>,
    pub(super) group: Mutex<Option<Arc<MemoryGroup>>>,
    /// Of each putting back: whether what was fetched is to go.
    pub(super) discards: Mutex<Vec<bool>>,
    /// Where a database is when it is stopped.
    pub(super) stops_at: Mutex<String>,
    /// Kind and message of steps that fail.
    pub(super) failures: Mutex<BTreeMap<String, (String, String)>>,
    /// What a verification finds.
    pub(super) damaged_packs: Mutex<Vec<String>>,
    /// What a restore test has found when it is called off.
    pub(super) found_by_then: Mutex<Option<String>>,
    pub(super) throttle: Mutex<Option<u64>>,
    /// How long all servers keep their logs.
    pub(super) log_kept_ms: Mutex<Option<u64>>,
}

fn step_name(step: &Step) -> &'static str {
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
        if matches!(step, Step::PutBack(_)) {
            let found = self.found_by_then.lock().unwrap().clone();
            done.verification = found.map(|message| v1::Verification {
                message,
                ..v1::Verification::default()
            });
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
pub(super) struct Agents(pub(super) Arc<FakeAgents>);

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
