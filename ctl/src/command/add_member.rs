use std::{cell::Cell, time::Duration};

use seawall_common::Error;
use seawall_proto::v1::{self, members_client::MembersClient};
use tokio::time::{Instant, sleep, timeout};

use super::Context;
use crate::{
    client::may_try_again,
    exit::{Failure, Outcome},
    output::json,
};

/// The new member is looked at twenty times a second; a leader that says nothing for so long is gone,
/// or has no quorum.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// How long a leader is looked for that goes on.
const AGAIN_LIMIT: Duration = Duration::from_secs(60);
const AGAIN_PAUSE: Duration = Duration::from_secs(1);
const TELL_EVERY: Duration = Duration::from_secs(2);

/// Adds a coordinator to the group, or gives a member another address
///
/// The new one waits there after `seawall-coordinator join`. It follows the log first, and votes once
/// it has caught up. When that is cut off, run the same again: it goes on.
#[derive(Debug, clap::Args)]
pub struct AddMember {
    /// Number of the member, as given to seawall-coordinator join; never used before in this group
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,

    /// gRPC address at which the other members reach it: db4.example:7601
    #[arg(value_name = "HOST:PORT")]
    address: String,
}

impl AddMember {
    pub async fn run(self, context: &Context) -> Outcome {
        let Self { id, address } = &self;
        let until = Instant::now() + AGAIN_LIMIT;
        let began = Cell::new(false);
        loop {
            match self.follow(context, &began).await {
                Ok(()) => break,
                // It follows the log already: a leader that goes on will do.
                Err(failure)
                    if began.get() && failure.error.is_retryable() && Instant::now() < until =>
                {
                    eprintln!("seawallctl: {}; trying again", failure.error);
                    sleep(AGAIN_PAUSE).await;
                }
                Err(failure) => return Err(failure.of(format_args!("AddMember {id}"))),
            }
        }
        let added = json::MemberAdded {
            id: *id,
            address: address.clone(),
            voter: true,
        };
        context.print(
            &added,
            || id.to_string(),
            || format!("member {id} at {address} votes"),
        )
    }

    /// Until it votes. Notes whether it has begun to follow the log.
    async fn follow(&self, context: &Context, began: &Cell<bool>) -> Outcome {
        let request = v1::AddMemberRequest {
            id: self.id,
            address: self.address.clone(),
        };
        let mut progress = context
            .client
            .call(|channel| {
                let request = request.clone();
                async move { MembersClient::new(channel).add(request).await }
            })
            .await?;
        let mut told: Option<Instant> = None;
        loop {
            let message = timeout(SILENCE_LIMIT, progress.message()).await;
            let message = match message {
                Ok(Ok(message)) => message,
                Ok(Err(status)) if may_try_again(&status) => {
                    return Err(Failure::failed(Error::from(status)));
                }
                Ok(Err(status)) => return Err(Failure::failed(status.into())),
                Err(_) => {
                    return Err(Failure::failed(
                        Error::internal("the leader says nothing any more")
                            .hint("Run ClusterStatus to see what has come of it."),
                    ));
                }
            };
            let Some(message) = message else {
                return Err(Failure::failed(Error::unavailable(
                    "the leader broke off before the member voted",
                )));
            };
            if message.voter {
                return Ok(());
            }
            began.set(true);
            if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                eprintln!(
                    "member {} has entry {} of {}",
                    self.id, message.index, message.last_index
                );
                told = Some(Instant::now());
            }
        }
    }
}
