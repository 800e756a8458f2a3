//! Changes of the membership, by the leader, one at a time.
//!
//! A new member is first asked who it is, then follows the log without a vote, and votes once it has
//! caught up. What always holds: an id belongs to one instance for good; a change is begun only when
//! the voters that it leaves have a quorum among those that answer, so that no change by itself stops
//! the group. There is no way to force one: Raft commits it by that same quorum.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use openraft::{
    ChangeMembers,
    error::{ChangeMembershipError, ClientWriteError, RaftError},
};
use seawall_common::{Error, ErrorKind, Result};
use seawall_proto::v1::RaftSender;
use tokio::time::Instant;

use super::{Node, Seat, network::Peer, refusals};

/// Members of a group, learners too.
pub const MEMBERS_MAX: usize = 9;
/// Ids that a group remembers as used.
const RETIRED_MAX: usize = 1000;
/// A member has caught up when it got all that there was within this time: the log grows meanwhile.
const ROUND_LIMIT: Duration = Duration::from_secs(1);
const CATCH_UP_LIMIT: Duration = Duration::from_secs(3600);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a new member may stand still before it is no longer waited for.
const STALL_LIMIT: Duration = Duration::from_secs(30);
const NEWCOMER_LIMIT: Duration = Duration::from_secs(5);
const NEWCOMER_PAUSE: Duration = Duration::from_millis(200);
const CHANGE_LIMIT: Duration = Duration::from_secs(15);

/// How far a new member has come on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaughtUp {
    /// The last entry that it has; 0: none that is known.
    pub index: u64,
    /// The last entry that there is.
    pub last_index: u64,
    pub is_voter: bool,
}

type Change = ChangeMembers<u64, Seat>;

impl Node {
    /// Makes member `id`, which answers at `address`, one of the group that votes, or gives one that
    /// is there already this address. `tell` hears how far it has come.
    pub async fn add_member(
        &self,
        id: u64,
        address: &str,
        tell: &(dyn Fn(CaughtUp) + Send + Sync),
    ) -> Result<CaughtUp> {
        let _changing = self.begin_change().await?;
        let instance = self.check_newcomer(id, address).await?;
        let seat = Seat {
            addr: address.to_owned(),
            instance,
        };
        let known = self.members().into_iter().find(|member| member.id == id);
        match &known {
            Some(known) if known.address == address => {}
            Some(_) => {
                self.change(Change::SetNodes([(id, seat)].into()), true)
                    .await?;
            }
            None => {
                self.change(Change::AddNodes([(id, seat)].into()), true)
                    .await?;
            }
        }
        if known.is_none_or(|known| !known.is_voter) {
            self.until_caught_up(id, tell).await?;
            let mut voters = self.voters();
            voters.insert(id);
            self.check_quorum(&voters, &format!("with member {id}"))
                .await?;
            self.change(Change::AddVoterIds([id].into()), true).await?;
        }
        Ok(self.how_far(id))
    }

    /// Takes a member out of the group, for good.
    pub async fn remove_member(&self, id: u64) -> Result<()> {
        let _changing = self.begin_change().await?;
        let members = self.members();
        let Some(member) = members.iter().find(|member| member.id == id) else {
            return Err(match self.was_removed(id) {
                true => Error::refused(format!("member {id} was removed already")),
                false => Error::not_found(format!("the group has no member {id}"))
                    .hint("Run ClusterStatus to see its members."),
            });
        };
        if !member.is_voter {
            return self.change(Change::RemoveNodes([id].into()), false).await;
        }
        let mut voters = self.voters();
        voters.remove(&id);
        if voters.is_empty() {
            return Err(Error::refused(format!("member {id} is the last one"))
                .hint("A group has at least one member; end the coordinator instead."));
        }
        self.check_quorum(&voters, &format!("without member {id}"))
            .await?;
        self.change(Change::RemoveVoters([id].into()), false).await
    }

    /// Finishes a change that an earlier leader has left half done: two sets of voters count until
    /// then.
    pub async fn settle_members(&self) -> Result<()> {
        let voters = {
            let metrics = self.raft().metrics();
            let metrics = metrics.borrow();
            let configs = metrics.membership_config.membership().get_joint_config();
            if configs.len() < 2 {
                return Ok(());
            }
            configs.last().cloned().unwrap_or_default()
        };
        tracing::info!(?voters, "finishing a change of the members");
        self.change(Change::ReplaceAllVoters(voters), false).await
    }

    async fn begin_change(&self) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        let changing = self.changing().try_lock().map_err(|_| {
            Error::conflict("another change of the members is under way")
                .hint("Wait until it is done; ClusterStatus shows how far a new member has come.")
        })?;
        self.prove_leadership().await?;
        self.settle_members().await?;
        self.log_instances().await?;
        Ok(changing)
    }

    /// Puts into the log which instances those are that `init` made: a later member may never hear it
    /// from anybody else.
    async fn log_instances(&self) -> Result<()> {
        let known = self.identity().hello().instances;
        let seats: BTreeMap<u64, Seat> = {
            let metrics = self.raft().metrics();
            let metrics = metrics.borrow();
            let nodes = metrics.membership_config.membership().nodes();
            let unnamed = nodes.filter(|(_, seat)| seat.instance.is_empty());
            let named = unnamed.filter_map(|(id, seat)| {
                let instance = known.get(id)?.clone();
                let addr = seat.addr.clone();
                Some((*id, Seat { addr, instance }))
            });
            named.collect()
        };
        match seats.is_empty() {
            true => Ok(()),
            false => self.change(Change::SetNodes(seats), true).await,
        }
    }

    fn voters(&self) -> BTreeSet<u64> {
        let members = self.members().into_iter();
        let voters = members.filter(|member| member.is_voter);
        voters.map(|member| member.id).collect()
    }

    fn was_removed(&self, id: u64) -> bool {
        self.look(|state| state.members.retired().contains(&id))
    }

    /// Checks that whoever answers at `address` can be member `id`; answers its instance.
    async fn check_newcomer(&self, id: u64, address: &str) -> Result<String> {
        let members = self.members();
        if self.was_removed(id) {
            let unused = self.look(|state| state.members.unused_id());
            return Err(Error::refused(format!(
                "member {id} was removed, and ids are not used again"
            ))
            .hint(format!(
                "Empty its data directory and run seawall-coordinator join with a new id, {unused} for one."
            )));
        }
        let is_new = members.iter().all(|member| member.id != id);
        if is_new && members.len() >= MEMBERS_MAX {
            return Err(Error::exhausted(format!(
                "the group has {MEMBERS_MAX} members, and takes no more"
            )));
        }
        if is_new && self.look(|state| state.members.retired().len()) >= RETIRED_MAX {
            return Err(Error::exhausted(format!(
                "{RETIRED_MAX} members have been removed from this group, which takes no more"
            )));
        }
        if let Some(other) = members.iter().find(|m| m.address == address && m.id != id) {
            return Err(Error::conflict(format!(
                "{address} is the address of member {}",
                other.id
            ))
            .hint(format!(
                "Give the new one another, or remove member {} first.",
                other.id
            )));
        }
        for other in members.iter().filter(|member| member.id != id) {
            check_reachable_for(&other.address, other.id, address)?;
        }
        let sender = self.greet_newcomer(id, address).await.map_err(|e| {
            if e.kind() == ErrorKind::Conflict {
                return refusals::wiped(id);
            }
            let hint = "Start it there first: seawall-coordinator join on an empty data directory, then \
                        seawall-coordinator with that directory.";
            match e.hint_text() {
                Some(_) => e,
                None => e.hint(hint),
            }
        })?;
        let group_id = self.look(|state| state.group_id.clone());
        let known = self.identity().instance_of(id);
        // A member of init that was moved before it learned the group's name is known all the same.
        let is_known = sender.group_id.is_empty() && known.as_ref() == Some(&sender.instance_id);
        if Some(&sender.group_id) != group_id.as_ref() && !is_known {
            return Err(Error::refused(format!(
                "the coordinator at {address} does not want to join this group: it belongs to {}",
                match sender.group_id.as_str() {
                    "" => "none",
                    other => other,
                }
            ))
            .hint("Run seawall-coordinator join there, with this group's members as --peers."));
        }
        match known {
            Some(known) if known != sender.instance_id => Err(refusals::wiped(id)),
            _ => Ok(sender.instance_id),
        }
    }

    /// Who answers there. One that was started a moment ago is given time to find its group.
    async fn greet_newcomer(&self, id: u64, address: &str) -> Result<RaftSender> {
        let until = Instant::now() + NEWCOMER_LIMIT;
        loop {
            match self.peer(id, address).hello().await {
                Err(e) if e.is_retryable() && Instant::now() < until => {
                    tokio::time::sleep(NEWCOMER_PAUSE).await;
                }
                answer => return answer,
            }
        }
    }

    async fn until_caught_up(
        &self,
        id: u64,
        tell: &(dyn Fn(CaughtUp) + Send + Sync),
    ) -> Result<()> {
        let term = self.leadership().borrow().term;
        let mut seen = self.how_far(id);
        let (began, mut moved) = (Instant::now(), Instant::now());
        let mut round = (Instant::now(), seen.last_index);
        tell(seen);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let leadership = *self.leadership().borrow();
            if !leadership.is_ours || leadership.term != term {
                return Err(Error::unavailable(format!(
                    "the leader has changed while member {id} caught up; it follows the log without a vote"
                ))
                .hint("Run AddMember again."));
            }
            let now = self.how_far(id);
            if now.index > seen.index {
                moved = Instant::now();
                tell(now);
            }
            seen = now;
            // It has what there was when the round began: quickly enough?
            let (round_began, round_end) = round;
            if now.index >= round_end && now.index > 0 {
                if round_began.elapsed() <= ROUND_LIMIT {
                    return Ok(());
                }
                round = (Instant::now(), now.last_index);
            }
            if moved.elapsed() > STALL_LIMIT || began.elapsed() > CATCH_UP_LIMIT {
                return Err(Error::timeout(format!(
                    "member {id} does not catch up: it has entry {} of {}, and follows the log without a vote",
                    seen.index, seen.last_index
                ))
                .hint("Look at its log; then run AddMember again, or RemoveMember."));
            }
        }
    }

    fn how_far(&self, id: u64) -> CaughtUp {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow();
        let replication = metrics.replication.as_ref();
        let matched = replication.and_then(|all| all.get(&id).copied().flatten());
        let last_index = metrics.last_log_index.unwrap_or_default();
        let membership = metrics.membership_config.membership();
        CaughtUp {
            index: match id == metrics.id {
                true => last_index,
                false => matched.map_or(0, |log_id| log_id.index),
            },
            last_index,
            is_voter: membership.voter_ids().any(|voter| voter == id),
        }
    }

    /// Refuses unless most of `voters` answer now.
    async fn check_quorum(&self, voters: &BTreeSet<u64>, what: &str) -> Result<()> {
        let addresses: BTreeMap<u64, String> = self
            .members()
            .into_iter()
            .map(|member| (member.id, member.address))
            .collect();
        let asked = voters.iter().map(async |id| {
            let address = addresses.get(id).map(String::as_str).unwrap_or_default();
            let answers = *id == self.id() || self.peer(*id, address).hello().await.is_ok();
            (*id, answers)
        });
        let away: Vec<String> = futures::future::join_all(asked)
            .await
            .into_iter()
            .filter(|(_, answers)| !answers)
            .map(|(id, _)| id.to_string())
            .collect();
        let quorum = voters.len() / 2 + 1;
        if voters.len() - away.len() >= quorum {
            return Ok(());
        }
        Err(Error::refused(format!(
            "{what} the group would have {} members that vote, of which {quorum} must answer, and these do not: {}",
            voters.len(),
            away.join(", ")
        ))
        .hint("Remove those that are lost, or bring them back, first. If most are lost for good: seawall-coordinator restore (docs/coordinators.md)."))
    }

    async fn change(&self, change: Change, retain: bool) -> Result<()> {
        let changed = self.raft().change_membership(change, retain);
        match tokio::time::timeout(CHANGE_LIMIT, changed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(e))) => Err(match e {
                ClientWriteError::ForwardToLeader(_) => {
                    Error::unavailable("this coordinator has just lost the leadership")
                        .hint("Run ClusterStatus to see what has come of it.")
                }
                ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)) => {
                    Error::unavailable("an earlier change of the members is not committed yet")
                }
                ClientWriteError::ChangeMembershipError(e) => Error::internal(e.to_string()),
            }),
            Ok(Err(RaftError::Fatal(_))) => Err(Error::unavailable("this coordinator is stopping")),
            Err(_) => Err(Error::timeout(format!(
                "no quorum of coordinators took the change within {CHANGE_LIMIT:?}; it may still take effect"
            ))
            .hint("Run ClusterStatus to see what has come of it.")),
        }
    }

    fn peer(&self, id: u64, address: &str) -> Peer {
        let identity = self.identity().clone();
        Peer::new(id, address.to_owned(), identity, self.channels().clone())
    }
}

/// A member that was made with an address which only its own machine knows must get a better one
/// before others are told of it.
fn check_reachable_for(address: &str, id: u64, newcomer: &str) -> Result<()> {
    if is_local(address) && !is_local(newcomer) {
        return Err(Error::refused(format!(
            "member {id} has the address {address}, which cannot be reached from {newcomer}"
        ))
        .hint(format!(
            "Give it one that can: seawallctl AddMember {id} HOST:PORT."
        )));
    }
    Ok(())
}

fn is_local(address: &str) -> bool {
    let Some((host, _)) = address.rsplit_once(':') else {
        return false;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_local = |ip: std::net::IpAddr| ip.is_loopback() || ip.is_unspecified();
    host == "localhost" || host.parse().is_ok_and(is_local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_behind_a_local_address_is_no_good_to_one_elsewhere() {
        for (address, newcomer, is_fine) in [
            ("127.0.0.1:7601", "127.0.0.1:7611", true),
            ("localhost:7601", "[::1]:7611", true),
            ("0.0.0.0:7601", "db2:7601", false),
            ("[::]:7601", "10.0.0.2:7601", false),
            ("127.0.0.1:7601", "10.0.0.2:7601", false),
            ("db1:7601", "db2:7601", true),
            ("db1:7601", "127.0.0.1:7601", true),
        ] {
            let checked = check_reachable_for(address, 1, newcomer);
            assert_eq!(checked.is_ok(), is_fine, "{address} {newcomer}");
        }
    }
}
