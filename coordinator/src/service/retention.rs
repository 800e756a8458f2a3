//! What is kept of the backups, what goes by itself, and what a collection would delete.

use std::{collections::BTreeSet, sync::Arc};

use seawall_common::{
    Error,
    clock::now_unix_ms,
    ids::{BackupName, ShardId, check_keyspace},
};
use seawall_proto::v1::{self, retention_server::Retention};
use tonic::{Request, Response, Status};

use super::{convert, read, topology::unknown_shard};
use crate::{
    operation::{Coordination, collection, listing::bring_up_to_date},
    state::{
        Command, State,
        locks::Scope,
        retention::{self, Policy},
    },
};

/// Backups of each tier, and of the minimum and the count, that may be asked for.
const NUMBER_MAX: u32 = 1_000_000;
const AGE_MS_MAX: u64 = 1000 * 365 * 24 * 3600 * 1000;

pub struct RetentionService {
    pub context: Arc<Coordination>,
}

/// The scope that a keyspace and a shard name; both empty: the whole cluster.
fn scope(keyspace: &str, shard: &str) -> seawall_common::Result<Scope> {
    convert::scope_from(Some(&v1::LockScope {
        keyspace: keyspace.to_owned(),
        shard: shard.to_owned(),
    }))
}

/// Whether a shard has, or has had, tablets, backups or a policy.
pub fn is_known(state: &State, shard: &ShardId) -> bool {
    shards_in(state, &Scope::Shard(shard.clone())).contains(shard)
}

/// The shards in a scope that anything is known of; not found: there is none, nor a policy.
fn known_in(state: &State, scope: &Scope) -> seawall_common::Result<BTreeSet<ShardId>> {
    let shards = shards_in(state, scope);
    match scope {
        Scope::Shard(shard) if shards.is_empty() => Err(unknown_shard(shard)),
        Scope::Keyspace(keyspace) if shards.is_empty() && !state.retention.has(keyspace) => {
            Err(Error::not_found(format!("no keyspace {keyspace}"))
                .hint("ListTablets shows those that are known."))
        }
        _ => Ok(shards),
    }
}

/// The shards in a scope that anything is known of.
fn shards_in(state: &State, scope: &Scope) -> BTreeSet<ShardId> {
    let known = state.topology.shards();
    let known = known.iter().chain(state.catalogue.shards());
    let known = known.chain(state.retention.shards());
    let overlaps = |shard: &&ShardId| scope.overlaps(&Scope::Shard((*shard).clone()));
    known.filter(overlaps).cloned().collect()
}

fn policy_from(policy: &v1::RetentionPolicy) -> seawall_common::Result<Policy> {
    let numbers = [
        ("count", policy.keep_count.unwrap_or(0)),
        ("minimum", policy.minimum),
        ("daily", policy.daily),
        ("weekly", policy.weekly),
        ("monthly", policy.monthly),
    ];
    for (what, number) in numbers {
        if number > NUMBER_MAX {
            return Err(Error::invalid(format!(
                "{what} {number} is greater than {NUMBER_MAX}"
            )));
        }
    }
    if policy.keep_age_ms.unwrap_or(0) > AGE_MS_MAX {
        return Err(Error::invalid("an age of more than a thousand years"));
    }
    let policy = Policy {
        keep_count: policy.keep_count,
        keep_age_ms: policy.keep_age_ms,
        minimum: policy.minimum,
        daily: policy.daily,
        weekly: policy.weekly,
        monthly: policy.monthly,
    };
    let has_floor = policy.minimum > 0 || policy.daily + policy.weekly + policy.monthly > 0;
    if has_floor && !policy.removes() {
        return Err(Error::invalid(
            "minimum, daily, weekly and monthly say what stays, and nothing says what goes",
        )
        .hint("Give --keep-count or --keep-age, too."));
    }
    Ok(policy)
}

fn policy(policy: &Policy) -> v1::RetentionPolicy {
    v1::RetentionPolicy {
        keep_count: policy.keep_count,
        keep_age_ms: policy.keep_age_ms,
        minimum: policy.minimum,
        daily: policy.daily,
        weekly: policy.weekly,
        monthly: policy.monthly,
    }
}

fn expired(shard: &ShardId, due: Vec<(BackupName, String)>) -> Vec<v1::ExpiredBackup> {
    let expired = |(name, reason): (BackupName, String)| v1::ExpiredBackup {
        shard: Some(shard.to_proto()),
        name: name.to_string(),
        reason,
    };
    due.into_iter().map(expired).collect()
}

/// Why nothing goes by itself at present, and what is to be done about it.
fn stopped(state: &State) -> String {
    let stopped = state.retention.stopped();
    stopped.map_or_else(String::new, |standstill| standstill.to_string())
}

impl RetentionService {
    /// What would go if the command were applied.
    async fn preview(
        &self,
        scope: &Scope,
        set: &Command,
    ) -> seawall_common::Result<v1::SetRetentionResponse> {
        let group = &self.context.group;
        let mut shards = group.read(|state| shards_in(state, scope)).await?;
        let unknown = shards.is_empty();
        // Of one that nobody knows the repository may hold backups.
        if let Scope::Shard(shard) = scope {
            shards.insert(shard.clone());
        }
        let not_read = bring_up_to_date(&self.context, shards.clone()).await;
        let not_read = not_read
            .into_iter()
            .map(|(shard, why)| format!("{shard}: {}", why.message()));
        let not_read: Vec<String> = not_read.collect();
        let preview = group.read(|state| {
            // On a copy that nobody keeps.
            let mut state = state.clone();
            state.apply(set).into_result()?;
            let due = shards.iter().flat_map(|shard| {
                let due = retention::due(&state, shard, now_unix_ms());
                expired(shard, due)
            });
            Ok(v1::SetRetentionResponse {
                expired: due.collect(),
                stopped: stopped(&state),
                unknown,
                not_read,
            })
        });
        preview.await?
    }
}

#[tonic::async_trait]
impl Retention for RetentionService {
    async fn set_retention(
        &self,
        request: Request<v1::SetRetentionRequest>,
    ) -> Result<Response<v1::SetRetentionResponse>, Status> {
        let request = request.into_inner();
        check_keyspace(&request.keyspace)?;
        let scope = scope(&request.keyspace, &request.shard)?;
        let policy = request.policy.as_ref().map(policy_from).transpose()?;
        let set = Command::Retention(retention::Command::Set {
            scope: scope.clone(),
            policy,
        });
        let answer = self.preview(&scope, &set).await?;
        if !request.dry_run {
            self.context.group.propose(set).await?;
        }
        Ok(Response::new(answer))
    }

    async fn get_retention(
        &self,
        request: Request<v1::GetRetentionRequest>,
    ) -> Result<Response<v1::GetRetentionResponse>, Status> {
        let asked = request.get_ref();
        let scope = scope(&asked.keyspace, &asked.shard)?;
        let answer = read(&self.context, request.metadata(), |state| {
            let of_shard = |shard: &ShardId| {
                let in_force = state.retention.in_force(shard);
                let from = in_force.as_ref().map(|(scope, _)| scope.to_string());
                v1::ShardRetention {
                    shard: Some(shard.to_proto()),
                    policy: in_force.map(|(_, in_force)| policy(in_force)),
                    from: from.unwrap_or_default(),
                    expired: expired(shard, retention::due(state, shard, now_unix_ms())),
                }
            };
            Ok::<_, Error>(v1::GetRetentionResponse {
                shards: known_in(state, &scope)?.iter().map(of_shard).collect(),
                stopped: stopped(state),
            })
        });
        Ok(Response::new(answer.await??))
    }

    async fn resume_retention(
        &self,
        _: Request<v1::ResumeRetentionRequest>,
    ) -> Result<Response<v1::ResumeRetentionResponse>, Status> {
        let now_unix_ms = (self.context.wall_unix_ms)();
        let resume = retention::Command::Resume { now_unix_ms };
        let group = &self.context.group;
        group.propose(Command::Retention(resume)).await?;
        Ok(Response::new(v1::ResumeRetentionResponse {}))
    }

    async fn plan_collection(
        &self,
        request: Request<v1::PlanCollectionRequest>,
    ) -> Result<Response<v1::PlanCollectionResponse>, Status> {
        let request = request.into_inner();
        check_keyspace(&request.keyspace)?;
        let scope = scope(&request.keyspace, &request.shard)?;
        let group = &self.context.group;
        let shards = group.read(|state| known_in(state, &scope)).await??;
        bring_up_to_date(&self.context, shards.clone()).await;
        let mut answer = v1::PlanCollectionResponse::default();
        for shard in &shards {
            let (plan, stopped) = collection::plan(&self.context, shard).await?;
            let leftovers = plan.iter().map(|(backup, left)| v1::Leftover {
                backup: backup.to_string(),
                objects: left.objects,
                bytes: left.bytes,
                staying_objects: left.staying_objects,
                staying_bytes: left.staying_bytes,
                needed_by: left.needed_by.iter().map(ToString::to_string).collect(),
                kept: left.is_kept,
            });
            answer.shards.push(v1::ShardCollection {
                shard: Some(shard.to_proto()),
                leftovers: leftovers.collect(),
                stopped: stopped.map_or_else(String::new, |e| e.to_string()),
            });
        }
        Ok(Response::new(answer))
    }
}
