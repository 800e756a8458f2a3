//! How far the transfers of an agent are, and how fast they may be: asked of the agent itself, which
//! alone knows, and keeps what it is told.

use std::sync::Arc;

use seawall_common::{Error, Result, ids::Alias};
use seawall_proto::v1::{self, transfers_server::Transfers};
use tonic::{Request, Response, Status};

use crate::operation::Coordination;

pub struct TransfersService {
    pub context: Arc<Coordination>,
}

impl TransfersService {
    async fn address(&self, alias: &str) -> Result<String> {
        let alias: Alias = alias.parse()?;
        let address = self
            .context
            .group
            .read(|state| {
                state
                    .topology
                    .tablet(&alias)
                    .map(|t| t.agent_address.clone())
            })
            .await??;
        if address.is_empty() {
            return Err(
                Error::refused(format!("the agent of {alias} has never registered"))
                    .hint("Start it."),
            );
        }
        Ok(address)
    }
}

/// An agent that cannot be reached is no reason to ask another coordinator.
fn answered(alias: &str, answer: Result<v1::TransferReport>) -> Result<v1::TransferReport> {
    answer.map_err(|error| match error.is_retryable() {
        true => Error::refused(format!(
            "the agent of {alias} cannot be asked: {}",
            error.message()
        ))
        .hint("Does it run? \"seawallctl ListTablets\" shows when it was last heard."),
        false => error,
    })
}

#[tonic::async_trait]
impl Transfers for TransfersService {
    async fn status(
        &self,
        request: Request<v1::TransferStatusRequest>,
    ) -> std::result::Result<Response<v1::TransferReport>, Status> {
        let request = request.into_inner();
        let address = self.address(&request.alias).await?;
        let alias = request.alias.clone();
        let answer = self.context.agents.transfer_status(&address, request).await;
        Ok(Response::new(answered(&alias, answer)?))
    }

    async fn set_throttle(
        &self,
        request: Request<v1::SetThrottleRequest>,
    ) -> std::result::Result<Response<v1::TransferReport>, Status> {
        let request = request.into_inner();
        let address = self.address(&request.alias).await?;
        tracing::info!(tablet = %request.alias, limit = ?request.limit, "a throttle is set");
        let alias = request.alias.clone();
        let answer = self.context.agents.set_throttle(&address, request).await;
        Ok(Response::new(answered(&alias, answer)?))
    }
}

#[cfg(test)]
mod tests {
    use seawall_proto::v1::set_throttle_request::Limit;
    use tonic::Code;

    use super::*;
    use crate::{
        operation::testing::{Does, Stage},
        state::testing::Cluster,
    };

    fn status(alias: &str) -> Request<v1::TransferStatusRequest> {
        Request::new(v1::TransferStatusRequest {
            alias: alias.to_owned(),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_agent_is_asked_and_one_that_is_not_there_is_named() {
        let stage = Stage::new(Cluster::with_primary());
        let service = TransfersService {
            context: stage.context.clone(),
        };
        let set = Request::new(v1::SetThrottleRequest {
            alias: "zone1-101".into(),
            limit: Some(Limit::BytesPerSecond(7)),
        });
        let set = service.set_throttle(set).await.unwrap().into_inner();
        let told = service.status(status("zone1-101")).await.unwrap();
        assert_eq!(set, *told.get_ref());
        assert_eq!(set.limit_bytes_per_second, Some(7));
        for (alias, code) in [
            ("zone1-199", Code::NotFound),
            ("zone1", Code::InvalidArgument),
        ] {
            let refused = service.status(status(alias)).await.unwrap_err();
            assert_eq!(refused.code(), code, "{refused:?}");
            assert!(refused.message().contains(alias), "{refused:?}");
        }
        stage.tell("transfer_status", Does::Fail);
        let refused = service.status(status("zone1-101")).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    }
}
