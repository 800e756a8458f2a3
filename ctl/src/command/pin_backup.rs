//! `PinBackup` and `UnpinBackup`.

use seawall_common::ids::{BackupName, ShardId};
use seawall_proto::v1::{self, catalogue_client::CatalogueClient};

use super::{Context, moment::moment};
use crate::{
    exit::Outcome,
    output::{human, json},
};

/// Keeps a backup: retention leaves it alone, and RemoveBackup needs --force
#[derive(Debug, clap::Args)]
pub struct PinBackup {
    /// commerce/0, commerce/-80
    #[arg(value_name = "KEYSPACE/SHARD")]
    shard: ShardId,
    /// As ListBackups shows it
    #[arg(value_name = "BACKUP")]
    name: BackupName,
    /// RFC 3339, or seconds since the epoch; unset: until it is unpinned
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<u64>,
}

impl PinBackup {
    pub async fn run(self, context: &Context) -> Outcome {
        let request = v1::PinBackupRequest {
            shard: Some(self.shard.to_proto()),
            name: self.name.to_string(),
            until_unix_ms: self.until.unwrap_or(0),
        };
        let backup = context
            .client
            .call(|channel| {
                let request = request.clone();
                async move { CatalogueClient::new(channel).pin_backup(request).await }
            })
            .await
            .map_err(|failure| {
                failure.of(format_args!("PinBackup {} {}", self.shard, self.name))
            })?;
        context.print(
            &json::Backup::from(&backup),
            || backup.name.clone(),
            || match backup.pinned_until_unix_ms {
                0 => format!("{} is pinned", self.name),
                until => format!("{} is pinned until {}", self.name, human::time_short(until)),
            },
        )
    }
}

/// Lets go of a backup that was pinned
#[derive(Debug, clap::Args)]
pub struct UnpinBackup {
    /// commerce/0, commerce/-80
    #[arg(value_name = "KEYSPACE/SHARD")]
    shard: ShardId,
    /// As ListBackups shows it
    #[arg(value_name = "BACKUP")]
    name: BackupName,
}

impl UnpinBackup {
    pub async fn run(self, context: &Context) -> Outcome {
        let request = v1::UnpinBackupRequest {
            shard: Some(self.shard.to_proto()),
            name: self.name.to_string(),
        };
        let backup = context
            .client
            .call(|channel| {
                let request = request.clone();
                async move { CatalogueClient::new(channel).unpin_backup(request).await }
            })
            .await
            .map_err(|failure| {
                failure.of(format_args!("UnpinBackup {} {}", self.shard, self.name))
            })?;
        context.print(
            &json::Backup::from(&backup),
            || backup.name.clone(),
            || format!("{} is not pinned", self.name),
        )
    }
}
