//! The group as clients call it: a member, and another one when that does not answer.

use std::time::Duration;

use seawall_common::{Error, ErrorKind};
use tonic::{Response, Status, transport::Channel};

const CALL_TIMEOUT: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);

/// What came of a call.
#[derive(Clone, Debug)]
pub enum Answer<T> {
    Done(T),
    /// It has taken no effect and will take none.
    Refused(Error),
    /// It may have taken effect, or take it later.
    Unknown,
}

#[derive(Clone)]
pub struct Group {
    members: Vec<Channel>,
    elapsed: fn() -> Duration,
}

impl Group {
    /// `elapsed` is the time since the run began: the same for all clients.
    pub fn new(members: Vec<Channel>, elapsed: fn() -> Duration) -> Self {
        Self { members, elapsed }
    }

    pub fn elapsed(&self) -> Duration {
        (self.elapsed)()
    }

    /// Calls some member, once.
    pub async fn call<T, F, Sent>(&self, call: F) -> Answer<T>
    where
        F: Fn(Channel) -> Sent,
        Sent: Future<Output = Result<Response<T>, Status>>,
    {
        let member = self.members[rand::random_range(0..self.members.len())].clone();
        match tokio::time::timeout(CALL_TIMEOUT, call(member)).await {
            Ok(Ok(response)) => Answer::Done(response.into_inner()),
            Ok(Err(status)) => judged(Error::from(status)),
            Err(_) => Answer::Unknown,
        }
    }

    /// Calls again until it is known what came of it, at most for so long. The call must be one
    /// that can be repeated.
    pub async fn insist<T, F, Sent>(&self, patience: Duration, call: F) -> Answer<T>
    where
        F: Fn(Channel) -> Sent,
        Sent: Future<Output = Result<Response<T>, Status>>,
    {
        let until = tokio::time::Instant::now() + patience;
        loop {
            match self.call(&call).await {
                Answer::Unknown if tokio::time::Instant::now() < until => {
                    tokio::time::sleep(PAUSE).await;
                }
                known => return known,
            }
        }
    }
}

fn judged<T>(error: Error) -> Answer<T> {
    match error.kind() {
        ErrorKind::Unavailable
        | ErrorKind::Timeout
        | ErrorKind::Cancelled
        | ErrorKind::Internal => Answer::Unknown,
        _ => Answer::Refused(error),
    }
}
