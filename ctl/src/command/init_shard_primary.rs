use seawall_common::ids::{Alias, ShardId};
use seawall_proto::v1::{self, operation_spec::Spec};

use super::Context;
use crate::{
    exit::Outcome,
    operation::{Launch, carry_out},
    output::json,
};

/// Makes a shard's first primary: epoch 1; the others replicate from it
#[derive(Debug, clap::Args)]
pub struct InitShardPrimary {
    /// commerce/0, commerce/-80
    #[arg(value_name = "KEYSPACE/SHARD")]
    shard: ShardId,
    /// Tablet, as cell-uid: zone1-101
    #[arg(value_name = "ALIAS")]
    alias: Alias,
    #[command(flatten)]
    launch: Launch,
}

impl InitShardPrimary {
    pub async fn run(self, context: &Context) -> Outcome {
        let what = format!("InitShardPrimary {} {}", self.shard, self.alias);
        let spec = Spec::InitShardPrimary(v1::InitShardPrimarySpec {
            shard: Some(self.shard.to_proto()),
            alias: self.alias.to_string(),
        });
        let Some(operation) = carry_out(context, &what, spec, &self.launch).await? else {
            return Ok(());
        };
        context.print(
            &json::Operation::from(&operation),
            || self.alias.to_string(),
            || format!("{} is the primary of {}", self.alias, self.shard),
        )
    }
}
