use std::time::Duration;

use seawall_proto::v1::{self, members_client::MembersClient};

use super::Context;
use crate::{exit::Outcome, output::json};

/// The members that are left are asked first, and each of two steps needs their quorum.
const CHANGING: Duration = Duration::from_secs(35);

/// Takes a coordinator out of the group, for good
///
/// Refused when most of the members that would be left do not answer. Its id is never used again. The
/// leader can be removed like any other: it ends, and the others elect a new one.
#[derive(Debug, clap::Args)]
pub struct RemoveMember {
    /// Number of the member, as ClusterStatus shows it
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
}

impl RemoveMember {
    pub async fn run(self, context: &Context) -> Outcome {
        let id = self.id;
        let removed = context
            .client
            .call_longer(CHANGING, "the members agree on it", |channel| async move {
                MembersClient::new(channel)
                    .remove(v1::RemoveMemberRequest { id })
                    .await
            })
            .await;
        match removed {
            // An earlier try whose answer was lost has removed it.
            Err(failure)
                if failure.tried_before && failure.error.message().ends_with("removed already") => {
            }
            Err(failure) => return Err(failure.of(format_args!("RemoveMember {id}"))),
            Ok(_) => {}
        }
        context.print(
            &json::MemberRemoved { removed: id },
            || id.to_string(),
            || format!("member {id} is no longer in the group"),
        )
    }
}
