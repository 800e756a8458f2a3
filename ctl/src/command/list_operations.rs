use seawall_proto::v1::{self, operations_client::OperationsClient};

use super::{Context, lines};
use crate::{
    exit::Outcome,
    output::{json, table},
};

/// Lists what runs, and what ran in the last day
#[derive(Debug, clap::Args)]
pub struct ListOperations {
    /// Everything that is still known
    #[arg(long)]
    all: bool,
}

impl ListOperations {
    pub async fn run(self, context: &Context) -> Outcome {
        let request = v1::ListOperationsRequest { all: self.all };
        let list = context
            .client
            .call(|channel| async move { OperationsClient::new(channel).list(request).await })
            .await
            .map_err(|failure| failure.of("ListOperations"))?;
        context.print(
            &json::Operations::from(&*list.operations),
            || {
                lines(
                    list.operations
                        .iter()
                        .map(|operation| operation.id.as_str()),
                )
            },
            || table::operations(&list.operations),
        )
    }
}
