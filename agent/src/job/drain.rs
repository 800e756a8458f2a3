//! Out of the serving set, then a wait so that those who send traffic take notice.
//!
//! The operation is in the journal already: that alone turns `/serving` to 503.

use std::time::Duration;

use seawall_common::Result;

use super::Job;
use crate::journal::Outcome;

pub(super) async fn run(job: &Job, drain: Option<Duration>) -> Result<Outcome> {
    let limit = drain.unwrap_or(job.tablet.settings.drain_time);
    job.progress
        .say(format!("draining for {} s", limit.as_secs()));
    job.reach("agent.drain.middle").await?;
    job.sleep(limit).await?;
    Ok(Outcome::default())
}
