use seawall_common::ids::{BackupName, ShardId};
use seawall_proto::v1::{self, catalogue_client::CatalogueClient};

use super::{Context, incomplete_answer, tell_not_read};
use crate::{
    exit::Outcome,
    output::{json, table},
};

/// Shows all of one backup
#[derive(Debug, clap::Args)]
pub struct GetBackup {
    /// commerce/0, commerce/-80
    #[arg(value_name = "KEYSPACE/SHARD")]
    shard: ShardId,
    /// As ListBackups shows it
    #[arg(value_name = "BACKUP")]
    name: BackupName,
}

impl GetBackup {
    pub async fn run(self, context: &Context) -> Outcome {
        let got = fetch(context, &self.shard, self.name.as_str())
            .await
            .map_err(|failure| {
                failure.of(format_args!("GetBackup {} {}", self.shard, self.name))
            })?;
        context.print(
            &json::GotBackup::new(&got.backup, &got.not_read),
            || got.backup.name.clone(),
            || table::backup(&got.backup),
        )
    }
}

/// A backup, and why the repository was not read for it, if it was not.
pub struct Got {
    pub backup: v1::Backup,
    not_read: String,
}

pub async fn fetch(context: &Context, shard: &ShardId, name: &str) -> Outcome<Got> {
    let request = v1::GetBackupRequest {
        shard: Some(shard.to_proto()),
        name: name.to_owned(),
    };
    let got = context
        .client
        .call_reading(|channel| {
            let request = request.clone();
            async move { CatalogueClient::new(channel).get_backup(request).await }
        })
        .await?;
    tell_not_read(&got.not_read);
    let backup = got.backup.ok_or_else(|| incomplete_answer("backup"))?;
    Ok(Got {
        backup,
        not_read: got.not_read,
    })
}
