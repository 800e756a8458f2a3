use seawall_common::ids::{Alias, ShardId};
use seawall_proto::v1::{self, topology_client::TopologyClient};

use super::{Context, tablet_type::TabletType};
use crate::{
    exit::{Failure, Outcome},
    output::{json, table},
};

/// Declares a tablet before its agent registers it
#[derive(Debug, clap::Args)]
pub struct InitTablet {
    /// Keyspace that it belongs to: commerce
    #[arg(long)]
    keyspace: String,
    /// Shard of the keyspace: 0, -80
    #[arg(long, allow_hyphen_values = true)]
    shard: String,
    /// Unset: spare until it has caught up for the first time, then replica
    #[arg(long, value_enum, value_name = "TYPE")]
    r#type: Option<TabletType>,
    /// Tablet, as cell-uid: zone1-101
    #[arg(value_name = "ALIAS")]
    alias: Alias,
}

impl InitTablet {
    pub async fn run(self, context: &Context) -> Outcome {
        let shard = ShardId::new(&self.keyspace, &self.shard).map_err(Failure::usage)?;
        let wanted = self
            .r#type
            .map_or(v1::TabletType::Unspecified, v1::TabletType::from);
        let request = v1::InitTabletRequest {
            alias: self.alias.to_string(),
            shard: Some(shard.to_proto()),
            r#type: wanted.into(),
        };
        let tablet = context
            .client
            .call(|channel| {
                let request = request.clone();
                async move { TopologyClient::new(channel).init_tablet(request).await }
            })
            .await
            .map_err(|failure| failure.of(format_args!("InitTablet {}", self.alias)))?;
        context.print(
            &json::Tablet::from(&tablet),
            || tablet.alias.clone(),
            || {
                let kind = json::word(tablet.r#type());
                format!(
                    "{} belongs to {} as {kind}",
                    tablet.alias,
                    table::shard(tablet.shard.as_ref())
                )
            },
        )
    }
}
