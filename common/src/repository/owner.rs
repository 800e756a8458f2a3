//! Which coordinator group owns the repository: the highest record counts, and only the owner
//! writes and deletes. Any other group reads, or takes over by writing the next record.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{header::Repository, layout};
use crate::{
    clock,
    error::{Error, Result},
};

const OWNER_BYTES_MAX: u64 = 64 << 10;
/// How often a claim looks again after somebody else's was faster.
const CLAIM_TRIES: usize = 8;

/// The group that owns the repository, and with which record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub number: u64,
    pub group_id: String,
    pub claimed_unix_ms: u64,
}

impl Repository {
    /// The owner now; `None`: nobody has claimed the repository.
    pub async fn owner(&self) -> Result<Option<Owner>> {
        let names = self.store().folder(&layout::owners()).await?.objects;
        self.check_there().await?;
        let highest = names
            .iter()
            .filter_map(|name| name.parse::<u64>().ok())
            .max();
        let Some(number) = highest else {
            return Ok(None);
        };
        let key = layout::owner(number);
        let bytes = self.store().get(&key, OWNER_BYTES_MAX).await?;
        let owner: Owner = serde_json::from_slice(&bytes)
            .map_err(|e| Error::corrupt(format!("object {key} cannot be understood: {e}")))?;
        if owner.number != number {
            return Err(Error::corrupt(format!(
                "object {key} says that it is number {}",
                owner.number
            )));
        }
        Ok(Some(owner))
    }

    /// Makes `group_id` the owner, which it may be already. Another owner is only replaced with
    /// `take_over`; without it: [`crate::ErrorKind::Refused`].
    pub async fn claim(&self, group_id: &str, take_over: bool) -> Result<Owner> {
        for _ in 0..CLAIM_TRIES {
            let next = match self.owner().await? {
                Some(owner) if owner.group_id == group_id => return Ok(owner),
                Some(owner) if !take_over => return Err(self.owned_by(&owner)),
                Some(owner) => owner.number + 1,
                None => 1,
            };
            let owner = Owner {
                number: next,
                group_id: group_id.to_owned(),
                claimed_unix_ms: clock::now_unix_ms(),
            };
            let bytes = serde_json::to_vec(&owner)
                .map_err(|e| Error::internal(format!("cannot write an owner record: {e}")))?;
            // Whether or not this put was the one that counts, the next look tells.
            self.store()
                .put_if_absent(&layout::owner(next), Bytes::from(bytes))
                .await?;
        }
        Err(Error::unavailable(format!(
            "repository {} changes its owner faster than it can be claimed",
            self.url()
        )))
    }

    /// Refuses unless `group_id` owns the repository.
    pub async fn check_owner(&self, group_id: &str) -> Result<()> {
        match self.owner().await? {
            Some(owner) if owner.group_id == group_id => Ok(()),
            Some(owner) => Err(self.owned_by(&owner)),
            None => Err(
                Error::refused(format!("repository {} has no owner yet", self.url()))
                    .hint("Its coordinator claims it when it starts."),
            ),
        }
    }

    fn owned_by(&self, owner: &Owner) -> Error {
        Error::refused(format!(
            "repository {} belongs to coordinator group {}",
            self.url(),
            owner.group_id
        ))
        .hint("This group can read it, not write; --take-over-repository makes it the owner.")
    }
}
