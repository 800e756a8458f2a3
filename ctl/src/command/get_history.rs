use seawall_common::ids::ShardId;
use seawall_proto::v1::{self, topology_client::TopologyClient};

use super::Context;
use crate::{
    exit::Outcome,
    output::{json, table},
};

/// Lists a shard's epochs: who was primary, since when, from which position on
#[derive(Debug, clap::Args)]
pub struct GetHistory {
    /// commerce/0, commerce/-80
    #[arg(value_name = "KEYSPACE/SHARD")]
    shard: ShardId,
}

impl GetHistory {
    pub async fn run(self, context: &Context) -> Outcome {
        let request = v1::GetHistoryRequest {
            shard: Some(self.shard.to_proto()),
        };
        let history = context
            .client
            .call(|channel| {
                let request = request.clone();
                async move { TopologyClient::new(channel).get_history(request).await }
            })
            .await
            .map_err(|failure| failure.of(format_args!("GetHistory {}", self.shard)))?;
        let numbers = || history.epochs.iter().map(|epoch| epoch.number.to_string());
        context.print(
            &json::History::from(&*history.epochs),
            || numbers().collect::<Vec<_>>().join("\n"),
            || table::epochs(&history.epochs),
        )
    }
}
