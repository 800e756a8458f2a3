//! The backup lock, by hand.

use std::{sync::Arc, time::Duration};

use seawall_common::{Error, clock::now_unix_ms};
use seawall_proto::v1::{self, locks_server::Locks};
use tonic::{Request, Response, Status};

use super::{check_given, check_text, convert, read, unexpected, wait_for_deleters};
use crate::{
    operation::{Coordination, driver::millis},
    state::{
        Command, Response as Answer,
        locks::{self, Which},
    },
};

const DURATION_DEFAULT: Duration = Duration::from_secs(24 * 3600);
const DURATION_MAX: Duration = Duration::from_secs(31 * 24 * 3600);

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

#[tonic::async_trait]
impl Locks for LocksService {
    async fn acquire(
        &self,
        request: Request<v1::AcquireHoldRequest>,
    ) -> Result<Response<v1::Hold>, Status> {
        let request = request.into_inner();
        check_given("owner", &request.owner)?;
        check_text("reason", &request.reason)?;
        let scope = convert::scope_from(request.scope.as_ref())?;
        let id = hold_id(&request.id)?;
        let duration_ms = duration_ms(request.duration_ms)?;
        wait_for_deleters(&self.context, &scope).await;
        let acquire = locks::Command::Acquire {
            id,
            scope,
            owner: request.owner,
            reason: request.reason,
            now_unix_ms: now_unix_ms(),
            duration_ms,
        };
        match self.propose(acquire).await? {
            Answer::Hold(hold) => Ok(Response::new(convert::hold(&hold))),
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
