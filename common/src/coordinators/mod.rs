//! A coordinator group as programs call it: any member that answers will do.

mod member;
mod session;

use std::{
    future::Future,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

pub use member::{Member, NOT_A_COORDINATOR, refusal};
pub use session::{HOLDS_MAX, MESSAGE_BYTES_MAX, Session};
use tonic::{Response, Status, transport::Channel};

use crate::{
    error::{Error, Result},
    tls::{Dial, Dialer, ServerUrl},
};

const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// A member that is dead is left for another one well before an agent that talks with it counts as
/// silent, after ten seconds.
const DIAL: Dial = Dial::within(Duration::from_secs(2))
    .call_limit(CALL_TIMEOUT)
    .keep_alive(Duration::from_secs(2), Duration::from_secs(2));

/// The members that were named, asked in turn, beginning with the one that answered last.
pub struct Coordinators {
    members: Vec<Member>,
    last: AtomicUsize,
}

impl Coordinators {
    /// Connects when it is first asked.
    pub fn new(addresses: &[String], dialer: &Dialer) -> Result<Self> {
        let members = addresses
            .iter()
            .map(|address| {
                let url: ServerUrl = address.parse()?;
                Member::new(url, dialer, DIAL)
            })
            .collect::<Result<_>>()
            .map_err(|e| e.context("coordinators"))?;
        Ok(Self {
            members,
            last: AtomicUsize::new(0),
        })
    }

    /// Asks each member at most once; an answer that would be the same at another ends it.
    pub async fn ask<T, F, Fut>(&self, call: F) -> Result<T>
    where
        F: Fn(Channel) -> Fut + Send,
        Fut: Future<Output = Result<Response<T>, Status>> + Send,
    {
        let first = self.last.load(Ordering::Relaxed);
        let mut last_error = Error::unavailable("no coordinator is configured");
        for turn in 0..self.members.len() {
            let index = (first + turn) % self.members.len();
            let member = &self.members[index];
            let answer = tokio::time::timeout(CALL_TIMEOUT, call(member.channel.clone())).await;
            last_error = match answer {
                Ok(Ok(response)) => {
                    self.last.store(index, Ordering::Relaxed);
                    return Ok(response.into_inner());
                }
                Ok(Err(status)) => member.error(status),
                Err(_) => Error::timeout("a coordinator did not answer in time"),
            };
            if !last_error.is_retryable() {
                return Err(last_error);
            }
        }
        Err(last_error)
    }
}
