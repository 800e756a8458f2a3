//! Setting, listing and pausing schedules.

use std::{collections::BTreeSet, sync::Arc};

use seawall_common::{
    Error,
    alike::nearest,
    ids::{OperationId, ShardId, check_schedule},
};
use seawall_proto::v1::{self, schedules_server::Schedules};
use tonic::{Request, Response, Status};

use super::{
    convert, operations, read,
    schedule_view::{Viewer, show, show_one},
    topology::unknown_shard,
};
use crate::{
    operation::{Coordination, driver::millis, group_backup, schedules::now_unix_ms, slots::Slots},
    state::{
        Command, State,
        locks::Scope,
        schedules::{self, HISTORY_MAX, Job, PartState, Schedule, Spec, shards_in, shards_of},
    },
};

const AT_ONCE_DEFAULT: u32 = 4;
const AT_ONCE_MAX: u32 = 1_000;
const TRIES_DEFAULT: u32 = 5;
const TRIES_MAX: u32 = 20;
const RETRY_MS_DEFAULT: u64 = 60 * 1000;
const RETRY_MS_MIN: u64 = 1_000;
const RETRY_MS_MAX: u64 = 3600 * 1000;
const SPREAD_MS_MAX: u64 = 31 * 24 * 3600 * 1000;
const HISTORY_DEFAULT: u32 = 10;
/// Slots among which the two nearest to each other are looked for.
const SLOTS_COMPARED: usize = 100;

pub struct SchedulesService {
    pub context: Arc<Coordination>,
}

#[tonic::async_trait]
impl Schedules for SchedulesService {
    async fn set_schedule(
        &self,
        request: Request<v1::SetScheduleRequest>,
    ) -> Result<Response<v1::SetScheduleResponse>, Status> {
        let request = request.into_inner();
        let name = request.name;
        check_schedule(&name)?;
        let spec = spec_from(request.spec)?;
        let slots = Slots::new(&spec.cron, &spec.zone)?;
        let group = &self.context.group;
        let now_unix_ms = group
            .read(|state| {
                check_scope(state, &spec.scope)?;
                Ok::<_, Error>(now_unix_ms(&self.context, state))
            })
            .await??;
        check_slots(&slots, &spec, now_unix_ms)?;
        let replaced = group.look(|state| state.schedules.get(&name).is_ok());
        let id = OperationId::generate();
        let viewer = Viewer::new(&self.context);
        let seen = if request.dry_run {
            group.look(|state| {
                let schedule = state.schedules.would_be(&name, id, &spec, now_unix_ms)?;
                Ok::<_, Error>(viewer.look(&name, &schedule, state))
            })?
        } else {
            let set = schedules::Command::Set {
                name: name.clone(),
                id,
                spec: spec.clone(),
                now_unix_ms,
            };
            group.propose(Command::Schedules(set)).await?;
            group.look(|state| {
                let schedule = state.schedules.get(&name)?;
                Ok::<_, Error>(viewer.look(&name, schedule, state))
            })?
        };
        let shards = group.look(|state| shards_of(state, &spec));
        Ok(Response::new(v1::SetScheduleResponse {
            schedule: Some(show_one(seen).await?),
            replaced,
            shards: shards.iter().map(ShardId::to_proto).collect(),
        }))
    }

    async fn list_schedules(
        &self,
        request: Request<v1::ListSchedulesRequest>,
    ) -> Result<Response<v1::ListSchedulesResponse>, Status> {
        let asked = request.get_ref().name.clone();
        let viewer = Viewer::new(&self.context);
        let listed = read(&self.context, request.metadata(), |state| {
            if !asked.is_empty() {
                let schedule = known(state, &asked)?;
                return Ok(vec![viewer.look(&asked, schedule, state)]);
            }
            let all = state.schedules.iter();
            let seen = all.map(|(name, schedule)| viewer.look(name, schedule, state));
            Ok::<_, Error>(seen.collect())
        });
        let schedules = show(listed.await??).await?;
        Ok(Response::new(v1::ListSchedulesResponse { schedules }))
    }

    async fn remove_schedule(
        &self,
        request: Request<v1::RemoveScheduleRequest>,
    ) -> Result<Response<v1::RemoveScheduleResponse>, Status> {
        let name = request.into_inner().name;
        let group = &self.context.group;
        let open = group.read(|state| known(state, &name).map(open_operations));
        let open_operations = open.await??;
        let remove = schedules::Command::Remove {
            name,
            now_unix_ms: self.now_unix_ms(),
        };
        group.propose(Command::Schedules(remove)).await?;
        Ok(Response::new(v1::RemoveScheduleResponse {
            open_operations,
        }))
    }

    async fn pause_schedule(
        &self,
        request: Request<v1::PauseScheduleRequest>,
    ) -> Result<Response<v1::Schedule>, Status> {
        let request = request.into_inner();
        let until_unix_ms = Some(request.until_unix_ms).filter(|until| *until > 0);
        let now_unix_ms = self.now_unix_ms();
        let pause = |name| schedules::Command::Pause {
            name,
            until_unix_ms,
            now_unix_ms,
        };
        self.change(request.name, pause).await
    }

    async fn resume_schedule(
        &self,
        request: Request<v1::ResumeScheduleRequest>,
    ) -> Result<Response<v1::Schedule>, Status> {
        let now_unix_ms = self.now_unix_ms();
        let resume = |name| schedules::Command::Resume { name, now_unix_ms };
        self.change(request.into_inner().name, resume).await
    }
}

impl SchedulesService {
    fn now_unix_ms(&self) -> u64 {
        (self.context.wall_unix_ms)()
    }

    async fn change(
        &self,
        name: String,
        command: impl FnOnce(String) -> schedules::Command,
    ) -> Result<Response<v1::Schedule>, Status> {
        let group = &self.context.group;
        group.read(|state| known(state, &name).map(drop)).await??;
        let command = Command::Schedules(command(name.clone()));
        group.propose(command).await?;
        let viewer = Viewer::new(&self.context);
        let seen = group.look(|state| {
            let schedule = known(state, &name)?;
            Ok::<_, Error>(viewer.look(&name, schedule, state))
        });
        Ok(Response::new(show_one(seen?).await?))
    }
}

fn open_operations(schedule: &Schedule) -> Vec<String> {
    let parts = schedule.run.iter().flat_map(|run| &run.parts);
    let running = parts.filter(|part| part.state == PartState::Running);
    running
        .filter_map(|part| part.operation)
        .map(|id| id.to_string())
        .collect()
}

/// The schedule of a name, or which one may have been meant.
fn known<'a>(state: &'a State, name: &str) -> seawall_common::Result<&'a Schedule> {
    state.schedules.get(name).map_err(|e| {
        let names = state.schedules.iter().map(|(name, _)| name.as_str());
        match nearest(name, names) {
            Some(nearest) => e.hint(format!("Did you mean {nearest}?")),
            None => e,
        }
    })
}

/// A schedule for what there is not would do nothing, and nobody would notice.
fn check_scope(state: &State, scope: &Scope) -> seawall_common::Result<()> {
    if *scope == Scope::Cluster || !shards_in(state, scope).is_empty() {
        return Ok(());
    }
    let shards = state.topology.shards();
    let (error, meant) = match scope {
        Scope::Shard(shard) => {
            let names: Vec<String> = shards.iter().map(ToString::to_string).collect();
            let meant = nearest(&shard.to_string(), names.iter().map(String::as_str));
            (unknown_shard(shard), meant.map(str::to_owned))
        }
        Scope::Keyspace(keyspace) => {
            let names: BTreeSet<&str> = shards.iter().map(ShardId::keyspace).collect();
            let meant = nearest(keyspace, names).map(str::to_owned);
            let error = Error::not_found(format!("no keyspace {keyspace}"))
                .hint("ListTablets shows those that are known.");
            (error, meant)
        }
        Scope::Cluster => return Ok(()),
    };
    Err(match meant {
        Some(meant) => error.hint(format!("Did you mean {meant}?")),
        None => error,
    })
}

/// There are slots, and the starts of the shards are spread over less than lies between two.
fn check_slots(slots: &Slots, spec: &Spec, now_unix_ms: u64) -> seawall_common::Result<()> {
    let next: Vec<u64> = slots.following(now_unix_ms).take(SLOTS_COMPARED).collect();
    if next.is_empty() {
        return Err(Error::invalid(format!(
            "{:?} never comes: there is no such day within ten years",
            spec.cron
        )));
    }
    let shortest = next.windows(2).map(|two| two[1] - two[0]).min();
    match shortest {
        Some(shortest) if spec.spread_ms >= shortest => {
            let shortest = std::time::Duration::from_millis(shortest);
            Err(Error::invalid(format!(
                "a spread that is not shorter than the time between two slots ({})",
                humantime::format_duration(shortest)
            ))
            .hint("Give a shorter --spread, or slots that are further apart."))
        }
        _ => Ok(()),
    }
}

fn number(what: &str, asked: u32, default: u32, max: u32) -> seawall_common::Result<u32> {
    match asked {
        0 => Ok(default),
        asked if asked <= max => Ok(asked),
        asked => Err(Error::invalid(format!(
            "{what} {asked} is greater than {max}"
        ))),
    }
}

fn spec_from(spec: Option<v1::ScheduleSpec>) -> seawall_common::Result<Spec> {
    let spec = spec.ok_or_else(|| Error::invalid("no schedule is given"))?;
    let retry_ms = match spec.retry_ms {
        0 => RETRY_MS_DEFAULT,
        asked if (RETRY_MS_MIN..=RETRY_MS_MAX).contains(&asked) => asked,
        _ => {
            return Err(Error::invalid(
                "the pause after a try that failed is from a second to an hour",
            ));
        }
    };
    if spec.spread_ms > SPREAD_MS_MAX {
        return Err(Error::invalid("a spread of more than 31 days"));
    }
    let history = spec.history.unwrap_or(HISTORY_DEFAULT);
    if history > HISTORY_MAX {
        return Err(Error::invalid(format!(
            "history {history} is greater than {HISTORY_MAX}"
        )));
    }
    let job = job_from(spec.job)?;
    let is_of_shards = !spec.keyspace.is_empty() || !spec.shard.is_empty();
    if matches!(job, Job::GroupBackup { .. }) && (is_of_shards || spec.spread_ms > 0) {
        return Err(Error::invalid(
            "the group's backup is of no shard, and there is nothing to spread",
        ));
    }
    Ok(Spec {
        scope: convert::scope_from(Some(&v1::LockScope {
            keyspace: spec.keyspace,
            shard: spec.shard,
        }))?,
        cron: spec.cron,
        zone: spec.zone,
        job,
        at_once: number("at-once", spec.at_once, AT_ONCE_DEFAULT, AT_ONCE_MAX)?,
        spread_ms: spec.spread_ms,
        tries: number("tries", spec.tries, TRIES_DEFAULT, TRIES_MAX)?,
        retry_ms,
        history,
    })
}

fn job_from(job: Option<v1::schedule_spec::Job>) -> seawall_common::Result<Job> {
    match job {
        None => Err(Error::invalid("nothing is given that is to be done")),
        Some(v1::schedule_spec::Job::Backup(backup)) => Ok(Job::Backup {
            concurrency: convert::concurrency(backup.concurrency)?,
            no_wait: backup.no_wait,
            allow_primary: backup.allow_primary,
            deadline_ms: match backup.deadline_ms {
                0 => millis(operations::TRANSFER_DEADLINE),
                asked => {
                    operations::check_deadline(asked)?;
                    asked
                }
            },
        }),
        Some(v1::schedule_spec::Job::GroupBackup(backup)) => Ok(Job::GroupBackup {
            keep: match backup.keep {
                0 => u32::try_from(group_backup::KEPT).unwrap_or(u32::MAX),
                keep if keep as usize <= group_backup::KEPT_MAX => keep,
                keep => {
                    return Err(Error::invalid(format!(
                        "cannot keep {keep} of the group's backups: at most {}",
                        group_backup::KEPT_MAX
                    )));
                }
            },
        }),
    }
}
