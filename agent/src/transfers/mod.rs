//! How fast this agent may transfer, and how far its transfers are.
//!
//! A limit that was set by hand stands in the journal and outlives the agent: whoever slowed a backup
//! down does not want it at full speed because the agent was started anew. Where none was set, or
//! it was taken back, the agent's setting `transfer_limit` holds.

mod report;

use std::sync::{Mutex, PoisonError};

use seawall_common::{Error, Result, rate, repository::Repository};
use seawall_proto::v1::{self, set_throttle_request::Limit};

pub use report::report;

use crate::{journal::TransferLimit, tablet::Tablet};

/// Brings the repository's throttle to what the journal and the settings say, one caller at a time:
/// so the last one finds what was journaled last.
#[derive(Debug, Default)]
pub struct Throttling(Mutex<()>);

impl Throttling {
    pub fn apply(&self, repository: &Repository, limit: impl FnOnce() -> Option<u64>) {
        let _turn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        repository.throttle().set_limit(limit());
    }
}

/// What holds now. `None`: no limit; `Some(0)`: paused.
pub fn limit(tablet: &Tablet) -> Option<u64> {
    match tablet.journal.read().transfer_limit {
        Some(TransferLimit::Unlimited) => None,
        Some(TransferLimit::BytesPerSecond(bytes)) => Some(bytes),
        None => tablet.settings.transfer_limit,
    }
}

/// Changes the limit, for transfers under way too.
pub async fn set_limit(tablet: &Tablet, asked: Option<Limit>) -> Result<()> {
    let wanted = match asked {
        Some(Limit::BytesPerSecond(bytes)) => Some(TransferLimit::BytesPerSecond(bytes)),
        Some(Limit::Unlimited(v1::Nothing {})) => Some(TransferLimit::Unlimited),
        Some(Limit::Configured(v1::Nothing {})) => None,
        None => return Err(Error::invalid("no limit is given")),
    };
    tablet
        .journal
        .update(move |contents| {
            contents.transfer_limit = wanted;
            Ok(())
        })
        .await?;
    tablet.apply_limit();
    tracing::info!("transfers: {}", rate::show(limit(tablet)));
    Ok(())
}

#[cfg(test)]
mod tests;
