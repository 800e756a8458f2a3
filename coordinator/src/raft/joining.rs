//! A new member until it is added: learns which group it was told to join, so that it answers that
//! group's leader and nobody else, and waits. It votes for nobody and forms no group of its own.

use std::time::Duration;

use seawall_common::{Error, Result};
use seawall_proto::v1::{ClusterStatusRequest, cluster_client::ClusterClient};

use super::{Identity, network::Channels};

const ASK_INTERVAL: Duration = Duration::from_secs(1);
const ASK_LIMIT: Duration = Duration::from_secs(2);

/// Asks the members that were named to `join` until one says which group it belongs to.
pub async fn learn_group(identity: &Identity, channels: &Channels) -> Result<()> {
    if identity.join().is_empty() {
        // Made by init: it forms its group itself, and learns the name with the log.
        return Ok(());
    }
    let mut is_told = false;
    while !identity.has_group() {
        let mut failures = Vec::new();
        for address in identity.join() {
            match ask(channels, &address).await {
                Ok(group_id) => {
                    identity.learn_group(&group_id).await?;
                    tracing::info!(
                        group = group_id,
                        "this is member {0} to be; waiting for seawallctl AddMember {0} <address>",
                        identity.id()
                    );
                    return Ok(());
                }
                Err(e) => failures.push(format!("{address}: {e}")),
            }
        }
        if !is_told {
            tracing::warn!(
                "no member of the group to join answers yet: {}",
                failures.join("; ")
            );
            is_told = true;
        }
        tokio::time::sleep(ASK_INTERVAL).await;
    }
    Ok(())
}

async fn ask(channels: &Channels, address: &str) -> Result<String> {
    let mut client = ClusterClient::new(channels.for_calls_to(address)?);
    let asked = client.status(ClusterStatusRequest {});
    let status = tokio::time::timeout(ASK_LIMIT, asked)
        .await
        .map_err(|_| Error::timeout("it does not answer"))?
        .map_err(Error::from)?
        .into_inner();
    if status.group_id.is_empty() {
        return Err(Error::unavailable("it belongs to no group yet"));
    }
    Ok(status.group_id)
}
