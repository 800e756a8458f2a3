use seawall_common::ids::{Alias, ShardId};
use seawall_proto::v1::{self, operation_spec::Spec};

use super::Context;
use crate::{
    exit::Outcome,
    operation::{Launch, carry_out},
    output::json,
};

/// Hands a shard over to another primary, in order: epoch + 1, nothing lost
#[derive(Debug, clap::Args)]
pub struct PlannedReparentShard {
    /// commerce/0, commerce/-80
    #[arg(value_name = "KEYSPACE/SHARD")]
    shard: ShardId,
    #[arg(long, alias = "new-master", value_name = "ALIAS")]
    new_primary: Alias,
    #[command(flatten)]
    launch: Launch,
}

impl PlannedReparentShard {
    pub async fn run(self, context: &Context) -> Outcome {
        let what = format!("PlannedReparentShard {}", self.shard);
        let spec = Spec::PlannedReparent(v1::PlannedReparentSpec {
            shard: Some(self.shard.to_proto()),
            new_primary: self.new_primary.to_string(),
        });
        let Some(operation) = carry_out(context, &what, spec, &self.launch).await? else {
            return Ok(());
        };
        context.print(
            &json::Operation::from(&operation),
            || self.new_primary.to_string(),
            || format!("{} is the primary of {}", self.new_primary, self.shard),
        )
    }
}
