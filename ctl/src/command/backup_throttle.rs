use seawall_common::{Error, ids::Alias, rate};
use seawall_proto::v1::{self, set_throttle_request::Limit, transfers_client::TransfersClient};

use super::{Context, backup_status};
use crate::exit::Outcome;

/// Limits what a tablet transfers to and from the repository, at once and from now on
///
/// The limit is of all its transfers together, and stays over restarts of its agent.
#[derive(Debug, clap::Args)]
pub struct BackupThrottle {
    #[arg(value_name = "ALIAS")]
    alias: Alias,
    /// Bytes per second: 50MB, 1.5GiB; 0 pauses, unlimited lifts, default goes back to the agent's
    /// own setting
    #[arg(value_name = "RATE", value_parser = limit)]
    rate: Limit,
}

fn limit(text: &str) -> Result<Limit, Error> {
    if text == "default" {
        return Ok(Limit::Configured(v1::Nothing {}));
    }
    Ok(match rate::parse(text)? {
        None => Limit::Unlimited(v1::Nothing {}),
        Some(bytes) => Limit::BytesPerSecond(bytes),
    })
}

impl BackupThrottle {
    pub async fn run(self, context: &Context) -> Outcome {
        let request = v1::SetThrottleRequest {
            alias: self.alias.to_string(),
            limit: Some(self.rate),
        };
        let report = context
            .client
            .call(|channel| {
                let request = request.clone();
                async move { TransfersClient::new(channel).set_throttle(request).await }
            })
            .await
            .map_err(|failure| failure.of(format_args!("BackupThrottle {}", self.alias)))?;
        backup_status::show(context, &report)
    }
}
