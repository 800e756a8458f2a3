//! The backup lock, by hand and for programs that keep their holds alive.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use seawall_common::{Error, clock::now_unix_ms};
use seawall_proto::v1::{self, locks_server::Locks};
use tonic::{Request, Response, Status};

use super::{
    check_given, check_holds, check_text, convert, is_held, lost_holds, read, unexpected,
    wait_for_deleters,
};
use crate::{
    operation::{Coordination, driver::millis},
    state::{
        Command, Response as Answer,
        locks::{self, Hold, Side, Which},
    },
};

const DURATION_DEFAULT: Duration = Duration::from_secs(24 * 3600);
const DURATION_MAX: Duration = Duration::from_secs(31 * 24 * 3600);
/// A shorter lease would end while the group elects a leader.
const LEASE_MIN: Duration = Duration::from_secs(2);
const LEASE_MAX: Duration = Duration::from_secs(3600);

pub struct LocksService {
    pub context: Arc<Coordination>,
}

impl LocksService {
    async fn propose(&self, command: locks::Command) -> seawall_common::Result<Answer> {
        self.context.group.propose(Command::Locks(command)).await
    }
}

fn hold_id(text: &str) -> seawall_common::Result<String> {
    uuid::Uuid::try_parse(text)
        .map(|id| id.to_string())
        .map_err(|_| {
            Error::invalid(format!("malformed hold id {text:?}"))
                .hint("It is a UUID; backup-lock --status shows them.")
        })
}

fn which(id: &str, scope: Option<&v1::LockScope>) -> seawall_common::Result<Which> {
    Ok(Which {
        id: if id.is_empty() {
            String::new()
        } else {
            hold_id(id)?
        },
        scope: convert::scope_from(scope)?,
    })
}

fn duration_ms(asked_ms: u64) -> seawall_common::Result<u64> {
    if asked_ms == 0 {
        return Ok(millis(DURATION_DEFAULT));
    }
    if asked_ms > millis(DURATION_MAX) {
        return Err(Error::invalid(format!(
            "{asked_ms} ms is longer than a hold may last ({} days)",
            DURATION_MAX.as_secs() / (24 * 3600)
        )));
    }
    Ok(asked_ms)
}

/// For how long: a time (by hand), or a lease.
fn times_ms(request: &v1::AcquireHoldRequest) -> seawall_common::Result<(u64, Option<u64>)> {
    let lease_ms = request.lease_ms;
    if lease_ms == 0 {
        return Ok((duration_ms(request.duration_ms)?, None));
    }
    if request.duration_ms != 0 {
        return Err(Error::invalid("a hold has a duration or a lease, not both"));
    }
    if !(millis(LEASE_MIN)..=millis(LEASE_MAX)).contains(&lease_ms) {
        return Err(Error::invalid(format!(
            "a lease of {lease_ms} ms is not between {} and {} s",
            LEASE_MIN.as_secs(),
            LEASE_MAX.as_secs()
        )));
    }
    Ok((0, Some(lease_ms)))
}

fn side(request: &v1::AcquireHoldRequest) -> seawall_common::Result<Side> {
    let side = v1::LockSide::try_from(request.side)
        .map_err(|_| Error::invalid(format!("there is no side {} of the lock", request.side)))?;
    match side {
        v1::LockSide::Unspecified | v1::LockSide::Backup => Ok(Side::Backup),
        v1::LockSide::Delete if request.lease_ms == 0 => {
            Err(Error::invalid("the delete side is not held by hand")
                .hint("Give a lease, and keep the hold alive."))
        }
        v1::LockSide::Delete => Ok(Side::Delete),
    }
}

impl LocksService {
    /// Gives those that stand their whole lease again; answers those that have none, or for which
    /// it is too late.
    fn keep(&self, holds: &[v1::HeldToken]) -> BTreeSet<String> {
        let leases = &self.context.leases;
        self.context.group.look(|state| {
            let is_lost = |held: &&v1::HeldToken| {
                let hold = state.locks.hold(&held.hold_id);
                !is_held(state, held)
                    || hold.is_some_and(|hold| hold.lease_ms.is_none() || !leases.keep(hold))
            };
            let lost = holds.iter().filter(is_lost);
            lost.map(|held| held.hold_id.clone()).collect()
        })
    }

    /// As [`Self::keep`], and what it answers was true all the while: it is proved and looked at
    /// afterwards.
    async fn keep_proved(
        &self,
        holds: &[v1::HeldToken],
    ) -> seawall_common::Result<BTreeSet<String>> {
        let mut lost = self.keep(holds);
        self.context.group.prove_leadership().await?;
        lost.extend(self.context.group.look(|state| lost_holds(state, holds)));
        Ok(lost)
    }

    /// The lease of a hold begins with the answer, also when a repeated call finds one that has run
    /// for a while.
    async fn begin_lease(&self, hold: &Hold) -> seawall_common::Result<()> {
        let held = v1::HeldToken {
            hold_id: hold.id.clone(),
            token: hold.token,
        };
        match self.keep_proved(&[held]).await?.is_empty() {
            true => Ok(()),
            false => Err(locks::has_ended(&hold.id)),
        }
    }
}

#[tonic::async_trait]
impl Locks for LocksService {
    async fn keep_alive(
        &self,
        request: Request<v1::KeepHoldsAliveRequest>,
    ) -> Result<Response<v1::KeepHoldsAliveResponse>, Status> {
        let holds = request.into_inner().holds;
        check_holds(&holds)?;
        let lost = self.keep_proved(&holds).await?;
        Ok(Response::new(v1::KeepHoldsAliveResponse {
            lost_holds: lost.into_iter().collect(),
        }))
    }

    async fn acquire(
        &self,
        request: Request<v1::AcquireHoldRequest>,
    ) -> Result<Response<v1::Hold>, Status> {
        let request = request.into_inner();
        check_given("owner", &request.owner)?;
        check_text("reason", &request.reason)?;
        let scope = convert::scope_from(request.scope.as_ref())?;
        let id = hold_id(&request.id)?;
        let (duration_ms, lease_ms) = times_ms(&request)?;
        let side = side(&request)?;
        if side == Side::Backup {
            wait_for_deleters(&self.context, &scope).await;
        }
        let acquire = locks::Command::Acquire {
            id,
            side,
            scope,
            owner: request.owner,
            reason: request.reason,
            now_unix_ms: now_unix_ms(),
            duration_ms,
            lease_ms,
        };
        match self.propose(acquire).await? {
            Answer::Hold(hold) => {
                if hold.lease_ms.is_some() {
                    self.begin_lease(&hold).await?;
                }
                Ok(Response::new(convert::hold(&hold)))
            }
            other => Err(unexpected(&other).into()),
        }
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseHoldRequest>,
    ) -> Result<Response<v1::ReleaseHoldResponse>, Status> {
        let request = request.into_inner();
        let which = which(&request.id, request.scope.as_ref())?;
        match self.propose(locks::Command::Release { which }).await? {
            Answer::Hold(hold) => Ok(Response::new(v1::ReleaseHoldResponse {
                released: Some(convert::hold(&hold)),
            })),
            other => Err(unexpected(&other).into()),
        }
    }

    async fn r#break(
        &self,
        request: Request<v1::BreakHoldRequest>,
    ) -> Result<Response<v1::BreakHoldResponse>, Status> {
        let request = request.into_inner();
        check_given("reason", &request.reason)?;
        check_text("operator", &request.operator)?;
        let command = locks::Command::Break {
            which: which(&request.id, request.scope.as_ref())?,
            reason: request.reason,
            operator: request.operator,
            now_unix_ms: now_unix_ms(),
        };
        match self.propose(command).await? {
            Answer::Broken(broken) => {
                for broken in &broken {
                    tracing::warn!(
                        hold = %broken.hold.id,
                        owner = %broken.hold.owner,
                        operator = %broken.operator,
                        reason = %broken.reason,
                        "a hold of the backup lock was broken"
                    );
                }
                Ok(Response::new(v1::BreakHoldResponse {
                    broken: broken.iter().map(|b| convert::hold(&b.hold)).collect(),
                }))
            }
            other => Err(unexpected(&other).into()),
        }
    }

    async fn list(
        &self,
        request: Request<v1::ListHoldsRequest>,
    ) -> Result<Response<v1::ListHoldsResponse>, Status> {
        let listed = read(&self.context, request.metadata(), |state| {
            v1::ListHoldsResponse {
                holds: state.locks.holds().map(convert::hold).collect(),
                broken: state.locks.broken().map(convert::broken).collect(),
            }
        });
        Ok(Response::new(listed.await?))
    }
}
