//! A coordinator group as programs call it: any member that answers will do.

use std::{
    future::Future,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tonic::{
    Response, Status,
    transport::{Channel, Endpoint},
};

use crate::error::{Error, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The members that were named, asked in turn, beginning with the one that answered last.
pub struct Coordinators {
    members: Vec<Channel>,
    last: AtomicUsize,
}

impl Coordinators {
    /// Connects when it is first asked.
    pub fn new(addresses: &[String]) -> Result<Self> {
        let members = addresses
            .iter()
            .map(|address| {
                let endpoint = Endpoint::from_shared(address.clone())
                    .map_err(|e| Error::invalid(format!("coordinators: {address:?}: {e}")))?;
                Ok(endpoint
                    .connect_timeout(CONNECT_TIMEOUT)
                    .timeout(CALL_TIMEOUT)
                    .connect_lazy())
            })
            .collect::<Result<_>>()?;
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
            let answer =
                tokio::time::timeout(CALL_TIMEOUT, call(self.members[index].clone())).await;
            last_error = match answer {
                Ok(Ok(response)) => {
                    self.last.store(index, Ordering::Relaxed);
                    return Ok(response.into_inner());
                }
                Ok(Err(status)) => Error::from(status),
                Err(_) => Error::timeout("a coordinator did not answer in time"),
            };
            if !last_error.is_retryable() {
                return Err(last_error);
            }
        }
        Err(last_error)
    }
}
