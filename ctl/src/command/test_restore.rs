use seawall_common::ids::{Alias, BackupName, ShardId};
use seawall_proto::v1::{self, operation_spec::Spec};

use super::Context;
use crate::{
    exit::Outcome,
    operation::{Launch, carry_out},
    output::json,
};

/// Restores a backup aside, starts a database on it, checks it, and removes it again
#[derive(Debug, clap::Args)]
pub struct TestRestore {
    /// commerce/0, commerce/-80
    #[arg(value_name = "KEYSPACE/SHARD")]
    shard: ShardId,
    /// As ListBackups shows it
    #[arg(value_name = "BACKUP")]
    name: BackupName,
    /// Tablet whose agent does it, with a scratch_dir, of any shard; unset: one that can
    #[arg(long, value_name = "ALIAS")]
    on: Option<Alias>,
    /// Files that are fetched and written at the same time; unset: the agent's restore_concurrency
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    concurrency: Option<u32>,
    #[command(flatten)]
    launch: Launch,
}

impl TestRestore {
    pub async fn run(self, context: &Context) -> Outcome {
        let what = format!("TestRestore {} {}", self.shard, self.name);
        let spec = Spec::TestRestore(v1::TestRestoreSpec {
            shard: Some(self.shard.to_proto()),
            backup: self.name.to_string(),
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
