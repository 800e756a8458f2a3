use seawall_common::ids::{Alias, BackupName, ShardId};
use seawall_proto::v1::{self, operation_spec::Spec};

use super::Context;
use crate::{
    exit::Outcome,
    operation::{Launch, carry_out},
    output::json,
};

/// Reads a backup back and checks every seal and hash; damage is named and the exit status is 1
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// commerce/0, commerce/-80
    #[arg(value_name = "KEYSPACE/SHARD")]
    shard: ShardId,
    /// As ListBackups shows it
    #[arg(value_name = "BACKUP")]
    name: BackupName,
    /// Read this share of the packs, chosen at random; at least one
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100))]
    percent: u32,
    /// Tablet whose agent does it; unset: one that can, rather not a primary's
    #[arg(long, value_name = "ALIAS")]
    on: Option<Alias>,
    /// Packs that are read at the same time; unset: the agent's restore_concurrency
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    concurrency: Option<u32>,
    #[command(flatten)]
    launch: Launch,
}

impl Verify {
    pub async fn run(self, context: &Context) -> Outcome {
        let what = format!("Verify {} {}", self.shard, self.name);
        let spec = Spec::Verify(v1::VerifySpec {
            shard: Some(self.shard.to_proto()),
            backup: self.name.to_string(),
            percent: self.percent,
            alias: self.on.as_ref().map(Alias::to_string).unwrap_or_default(),
            concurrency: self.concurrency.unwrap_or(0),
        });
        let Some(operation) = carry_out(context, &what, spec, &self.launch).await? else {
            return Ok(());
        };
        context.print(
            &json::Operation::from(&operation),
            || self.name.to_string(),
            || operation.result.clone(),
        )
    }
}
