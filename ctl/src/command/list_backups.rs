use seawall_common::ids::ShardId;
use seawall_proto::v1::{self, catalogue_client::CatalogueClient};

use super::{Context, lines, tell_not_read};
use crate::{
    exit::Outcome,
    output::{json, table},
};

/// Lists a shard's backups by epoch and position; one that is being written stands last
#[derive(Debug, clap::Args)]
pub struct ListBackups {
    /// commerce/0, commerce/-80
    #[arg(value_name = "KEYSPACE/SHARD")]
    shard: ShardId,
    /// Also those that were given up or removed
    #[arg(long)]
    all: bool,
}

impl ListBackups {
    pub async fn run(self, context: &Context) -> Outcome {
        let listed = fetch(context, &self.shard, self.all)
            .await
            .map_err(|failure| failure.of(format_args!("ListBackups {}", self.shard)))?;
        tell_not_read(&listed.not_read);
        let backups = &listed.backups;
        context.print(
            &json::Backups::from(&listed),
            || lines(backups.iter().map(|backup| backup.name.as_str())),
            || table::backups(backups),
        )
    }
}

async fn fetch(context: &Context, shard: &ShardId, all: bool) -> Outcome<v1::ListBackupsResponse> {
    let request = v1::ListBackupsRequest {
        shard: Some(shard.to_proto()),
        all,
    };
    context
        .client
        .call_reading(|channel| {
            let request = request.clone();
            async move { CatalogueClient::new(channel).list_backups(request).await }
        })
        .await
}
