use seawall_common::ids::{BackupName, ShardId};
use seawall_proto::v1::{self, operation_spec::Spec};

use super::Context;
use crate::{
    exit::Outcome,
    operation::{Launch, carry_out},
    output::json,
};

/// Removes a backup: at once from the list, its objects after the grace time
#[derive(Debug, clap::Args)]
pub struct RemoveBackup {
    /// commerce/0, commerce/-80
    #[arg(value_name = "KEYSPACE/SHARD")]
    shard: ShardId,
    /// As ListBackups shows it
    #[arg(value_name = "BACKUP")]
    name: BackupName,
    /// Also the last complete backup of the shard, and one that is pinned
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    launch: Launch,
}

impl RemoveBackup {
    pub async fn run(self, context: &Context) -> Outcome {
        let what = format!("RemoveBackup {} {}", self.shard, self.name);
        let spec = Spec::RemoveBackup(v1::RemoveBackupSpec {
            shard: Some(self.shard.to_proto()),
            backup: self.name.to_string(),
            force: self.force,
            ..Default::default()
        });
        let Some(operation) = carry_out(context, &what, spec, &self.launch).await? else {
            return Ok(());
        };
        context.print(
            &json::Operation::from(&operation),
            || self.name.to_string(),
            || match operation.result.as_str() {
                "" => format!("{} is removed", self.name),
                result => result.to_owned(),
            },
        )
    }
}
