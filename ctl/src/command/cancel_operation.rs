use seawall_common::ids::OperationId;
use seawall_proto::v1::{self, operations_client::OperationsClient};

use super::Context;
use crate::{exit::Outcome, output::json};

/// Calls an operation off; what it has begun is undone
#[derive(Debug, clap::Args)]
pub struct CancelOperation {
    /// As ListOperations shows it
    #[arg(value_name = "ID")]
    id: OperationId,
    /// Why, for those who find it
    #[arg(long, value_name = "TEXT", default_value = "by an operator")]
    reason: String,
}

impl CancelOperation {
    pub async fn run(self, context: &Context) -> Outcome {
        let request = v1::CancelOperationRequest {
            id: self.id.to_string(),
            reason: self.reason,
        };
        let operation = context
            .client
            .call(|channel| {
                let request = request.clone();
                async move { OperationsClient::new(channel).cancel(request).await }
            })
            .await
            .map_err(|failure| failure.of(format_args!("CancelOperation {}", self.id)))?;
        context.print(
            &json::Operation::from(&operation),
            || operation.id.clone(),
            || match operation.state() {
                v1::OperationState::Undoing => format!(
                    "operation {0} is being undone; \"seawallctl WatchOperation {0}\" waits for it",
                    operation.id
                ),
                state => format!("operation {} is {}", operation.id, json::word(state)),
            },
        )
    }
}
