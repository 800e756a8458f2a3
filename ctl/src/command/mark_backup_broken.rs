use seawall_common::ids::{BackupName, ShardId};
use seawall_proto::v1::{self, catalogue_client::CatalogueClient};

use super::Context;
use crate::{exit::Outcome, output::json};

/// Marks a backup as broken: no restore takes it by itself; or takes that mark back
#[derive(Debug, clap::Args)]
pub struct MarkBackupBroken {
    /// commerce/0, commerce/-80
    #[arg(value_name = "KEYSPACE/SHARD")]
    shard: ShardId,
    /// As ListBackups shows it
    #[arg(value_name = "BACKUP")]
    name: BackupName,
    /// What is wrong with it, as ListBackups is to show it
    #[arg(
        long,
        value_name = "TEXT",
        required_unless_present = "undo",
        conflicts_with = "undo"
    )]
    reason: Option<String>,
    /// Take the mark back, whoever made it
    #[arg(long)]
    undo: bool,
}

impl MarkBackupBroken {
    pub async fn run(self, context: &Context) -> Outcome {
        let request = v1::MarkBackupBrokenRequest {
            shard: Some(self.shard.to_proto()),
            name: self.name.to_string(),
            reason: self.reason.unwrap_or_default(),
            undo: self.undo,
        };
        let backup = context
            .client
            .call(|channel| {
                let request = request.clone();
                async move {
                    CatalogueClient::new(channel)
                        .mark_backup_broken(request)
                        .await
                }
            })
            .await
            .map_err(|failure| {
                failure.of(format_args!(
                    "MarkBackupBroken {} {}",
                    self.shard, self.name
                ))
            })?;
        context.print(
            &json::Backup::from(&backup),
            || backup.name.clone(),
            || match self.undo {
                true => format!("{} is complete again", backup.name),
                false => format!("{} is marked as broken: {}", backup.name, backup.note),
            },
        )
    }
}
