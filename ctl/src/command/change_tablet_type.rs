use seawall_common::ids::Alias;
use seawall_proto::v1::{self, topology_client::TopologyClient};

use super::{Context, tablet_type::TabletType};
use crate::{exit::Outcome, output::json};

/// Changes what a tablet is used for; reparenting is what makes a primary
#[derive(Debug, clap::Args)]
pub struct ChangeTabletType {
    /// Tablet, as cell-uid: zone1-101
    #[arg(value_name = "ALIAS")]
    alias: Alias,
    #[arg(value_enum, value_name = "TYPE")]
    r#type: TabletType,
}

impl ChangeTabletType {
    pub async fn run(self, context: &Context) -> Outcome {
        let request = v1::ChangeTabletTypeRequest {
            alias: self.alias.to_string(),
            r#type: v1::TabletType::from(self.r#type).into(),
        };
        let tablet = context
            .client
            .call(|channel| {
                let request = request.clone();
                async move {
                    TopologyClient::new(channel)
                        .change_tablet_type(request)
                        .await
                }
            })
            .await
            .map_err(|failure| failure.of(format_args!("ChangeTabletType {}", self.alias)))?;
        context.print(
            &json::Tablet::from(&tablet),
            || tablet.alias.clone(),
            || format!("{} is {}", tablet.alias, json::word(tablet.r#type())),
        )
    }
}
