//! The data directory of a group that is made anew from a backup: its only member, a snapshot of the
//! state, and a vote so high that no leader of the older group had its term.

use std::path::Path;

use openraft::storage::RaftLogStorage as _;
use seawall_common::{Error, Result};

use super::{
    Identity, LogId, Members, Seat, SnapshotMeta, StoredMembership, Vote, log::LogStore,
    snapshot::Snapshots,
};
use crate::{
    platform::{Missing, blocking},
    state::State,
};

/// Terms that are passed over: far more than a group has leaders between two backups of it. Agents
/// refuse commands of a term that is over, so those of an older leader that is still there.
const TERMS_PASSED_OVER: u64 = 1 << 20;

/// Where the new group begins.
pub struct Beginning {
    pub member: u64,
    /// Where others will reach it, host:port.
    pub address: String,
    /// Of the older group, when the backup was taken.
    pub term: u64,
    pub last_index: u64,
}

/// Makes `directory`, which is nobody's, that of the only member of a group with this state.
pub async fn make(directory: &Path, beginning: Beginning, state: &State) -> Result<Identity> {
    let Beginning {
        member,
        address,
        term,
        last_index,
    } = beginning;
    let group_id = state
        .group_id
        .clone()
        .ok_or_else(|| Error::internal("a group without a name"))?;
    let term = term.saturating_add(TERMS_PASSED_OVER);
    let mut log = LogStore::open(member, directory.join("log"), Missing::Make).await?;
    log.save_vote(&Vote::new(term, member))
        .await
        .map_err(|e| Error::internal(format!("cannot write the vote: {e}")))?;
    let log_id = LogId::new(openraft::CommittedLeaderId::new(term, member), last_index);
    let seat = Seat {
        addr: address.clone(),
        ..Seat::default()
    };
    let voters = std::collections::BTreeMap::from([(member, seat)]);
    let meta = SnapshotMeta {
        last_log_id: Some(log_id),
        last_membership: StoredMembership::new(Some(log_id), openraft::Membership::from(voters)),
        snapshot_id: uuid::Uuid::new_v4().to_string(),
    };
    let state = state.encoded()?;
    let snapshots = directory.join("snapshots");
    blocking(move || Snapshots::open(snapshots)?.put(&meta, &state)).await?;
    // Last: without it the directory is nobody's, and the whole is begun again.
    let members = Members::from([(member, address)]);
    let identity = Identity::create(directory, member, members)?;
    identity.learn_group(&group_id).await?;
    Ok(identity)
}
