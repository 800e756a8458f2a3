use std::sync::Mutex;

use seawall_common::ids::OperationId;

use super::Context;
use crate::{
    exit::Outcome,
    operation::{follow, interruptible, let_go, success},
    output::{json, progress::Progress, table},
};

/// Follows an operation to its end and shows its steps
#[derive(Debug, clap::Args)]
pub struct WatchOperation {
    /// As ListOperations shows it
    #[arg(value_name = "ID")]
    id: OperationId,
}

impl WatchOperation {
    /// An operation that failed is printed all the same, and then is a failure.
    pub async fn run(self, context: &Context) -> Outcome {
        let id = self.id.to_string();
        let work = async {
            context.client.learn_members().await;
            let progress = Mutex::new(Progress::new());
            let ended = follow(&context.client, &id, &progress).await?;
            context.print(
                &json::Operation::from(&ended),
                || ended.id.clone(),
                || table::operation(&ended),
            )?;
            success(ended).map(drop)
        };
        interruptible(work, || let_go(std::slice::from_ref(&id)))
            .await
            .map_err(|failure| failure.of("WatchOperation"))
    }
}
