use seawall_common::{ErrorKind, ids::Alias};
use seawall_proto::v1::{self, topology_client::TopologyClient};

use super::Context;
use crate::{exit::Outcome, output::json};

/// Forgets a tablet for good; its database is not touched
#[derive(Debug, clap::Args)]
pub struct RemoveTablet {
    /// Tablet, as cell-uid: zone1-101
    #[arg(value_name = "ALIAS")]
    alias: Alias,
}

impl RemoveTablet {
    pub async fn run(self, context: &Context) -> Outcome {
        let alias = self.alias.to_string();
        let removed = context
            .client
            .call(|channel| {
                let alias = alias.clone();
                async move {
                    TopologyClient::new(channel)
                        .remove_tablet(v1::RemoveTabletRequest { alias })
                        .await
                }
            })
            .await;
        match removed {
            // An earlier try whose answer was lost has removed it.
            Err(failure) if failure.tried_before && failure.error.kind() == ErrorKind::NotFound => {
            }
            Err(failure) => return Err(failure.of(format_args!("RemoveTablet {alias}"))),
            Ok(_) => {}
        }
        context.print(
            &json::Removed {
                removed: alias.clone(),
            },
            || alias.clone(),
            || format!("{alias} is forgotten"),
        )
    }
}
