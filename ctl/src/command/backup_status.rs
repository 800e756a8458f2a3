use seawall_common::ids::Alias;
use seawall_proto::v1::{self, transfers_client::TransfersClient};

use super::{Context, lines};
use crate::{
    exit::Outcome,
    output::{json, table},
};

/// Shows how far the transfers of a tablet are, and how fast they may be
///
/// Backups, restores and verifications alike. RATE is of the files as they lie in their directories;
/// traffic is what goes to and from the repository, which is what a limit is for.
#[derive(Debug, clap::Args)]
pub struct BackupStatus {
    #[arg(value_name = "ALIAS")]
    alias: Alias,
}

impl BackupStatus {
    pub async fn run(self, context: &Context) -> Outcome {
        let request = v1::TransferStatusRequest {
            alias: self.alias.to_string(),
        };
        let report = context
            .client
            .call(|channel| {
                let request = request.clone();
                async move { TransfersClient::new(channel).status(request).await }
            })
            .await
            .map_err(|failure| failure.of(format_args!("BackupStatus {}", self.alias)))?;
        show(context, &report)
    }
}

pub fn show(context: &Context, report: &v1::TransferReport) -> Outcome {
    context.print(
        &json::Transfers::from(report),
        || lines(report.transfers.iter().map(|t| t.operation_id.as_str())),
        || table::transfers(report),
    )
}
