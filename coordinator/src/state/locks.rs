//! The backup lock: while its *backup* side is held, nothing is deleted that a backup may need.
//!
//! Any number of holders share one side; the two sides never stand in overlapping scopes. Each
//! grant has a token greater than all before it. By hand there is one hold for each scope, for a
//! stated time; other programs keep theirs alive by a lease; the holds of operations live and end
//! with them. The id of a hold is used once: a request for it that comes late is refused. Apart
//! from that, one backup and one reparenting at a time may be at work in a shard.

mod ended;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
};

use ended::Ended;
use seawall_common::{
    Error, Result,
    ids::{OperationId, ShardId},
};
use serde::{Deserialize, Serialize};

use super::Response;

/// Holds that may stand at a time.
const HOLDS_MAX: usize = 10_000;
/// Holds broken by hand that are remembered.
const BROKEN_MAX: usize = 100;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    #[default]
    Backup,
    Delete,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    Cluster,
    Keyspace(String),
    Shard(ShardId),
}

impl Scope {
    pub fn overlaps(&self, other: &Scope) -> bool {
        match (self, other) {
            (Scope::Cluster, _) | (_, Scope::Cluster) => true,
            (Scope::Keyspace(a), Scope::Keyspace(b)) => a == b,
            (Scope::Keyspace(keyspace), Scope::Shard(shard))
            | (Scope::Shard(shard), Scope::Keyspace(keyspace)) => shard.keyspace() == keyspace,
            (Scope::Shard(a), Scope::Shard(b)) => a == b,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Cluster => f.write_str("the cluster"),
            Scope::Keyspace(keyspace) => f.write_str(keyspace),
            Scope::Shard(shard) => shard.fmt(f),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub id: String,
    pub side: Side,
    pub scope: Scope,
    pub owner: String,
    pub reason: String,
    pub token: u64,
    pub granted_unix_ms: u64,
    /// None: lives as long as its operation, or as its holder keeps it alive.
    pub expires_unix_ms: Option<u64>,
    /// Its holder keeps it alive: it ends when the leader has not heard of it for so long.
    #[serde(default)]
    pub lease_ms: Option<u64>,
    pub operation: Option<OperationId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenHold {
    pub hold: Hold,
    pub reason: String,
    pub operator: String,
    pub broken_unix_ms: u64,
}

/// What only one operation at a time may do in a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exclusive {
    Backup,
    Reparent,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Locks {
    last_token: u64,
    holds: BTreeMap<String, Hold>,
    /// Newest first.
    broken: VecDeque<BrokenHold>,
    backups: BTreeMap<ShardId, OperationId>,
    reparents: BTreeMap<ShardId, OperationId>,
    #[serde(default)]
    ended: Ended,
}

/// By id, or (empty id) by scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Which {
    pub id: String,
    pub scope: Scope,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// By hand, for a time, or by a program, which keeps it alive. The id is the client's: a
    /// repetition finds its hold.
    Acquire {
        id: String,
        #[serde(default)]
        side: Side,
        scope: Scope,
        owner: String,
        reason: String,
        now_unix_ms: u64,
        /// 0 with a lease.
        duration_ms: u64,
        #[serde(default)]
        lease_ms: Option<u64>,
    },
    /// The one hold by hand, of that id or in that scope.
    Release { which: Which },
    /// Of that id, or every one in that scope, whoever has it.
    Break {
        which: Which,
        reason: String,
        operator: String,
        now_unix_ms: u64,
    },
    /// Lets go of holds whose time or lease is over; those of operations have none.
    Expire { ids: Vec<String> },
}

impl Hold {
    /// Of one that was taken by hand.
    fn described(&self) -> String {
        let reason = match self.reason.as_str() {
            "" => String::new(),
            reason => format!(" ({reason})"),
        };
        let (scope, owner, id) = (&self.scope, &self.owner, &self.id);
        format!("the backup lock of {scope} is held by {owner}{reason}, hold {id}")
    }

    fn way_out(&self) -> String {
        format!(
            "Wait until it is released, or break this one with backup-lock --break --id {} --reason R.",
            self.id
        )
    }
}

/// A hold that an operation asks for.
pub struct Claim {
    pub side: Side,
    pub scope: Scope,
    pub reason: String,
    pub now_unix_ms: u64,
}

impl Locks {
    /// All holds are gone, and no token up to `tokens` above the last is valid. How many those were.
    pub(super) fn forget_holds(&mut self, tokens: u64) -> usize {
        let dropped = self.holds.len();
        self.holds.clear();
        self.backups.clear();
        self.reparents.clear();
        self.last_token = self.last_token.saturating_add(tokens);
        dropped
    }

    pub(super) fn apply(&mut self, command: &Command) -> Result<Response> {
        match command {
            Command::Acquire {
                id,
                side,
                scope,
                owner,
                reason,
                now_unix_ms,
                duration_ms,
                lease_ms,
            } => {
                let end = now_unix_ms.saturating_add(*duration_ms);
                let hold = Hold {
                    id: id.clone(),
                    side: *side,
                    scope: scope.clone(),
                    owner: owner.clone(),
                    reason: reason.clone(),
                    token: 0,
                    granted_unix_ms: *now_unix_ms,
                    expires_unix_ms: lease_ms.is_none().then_some(end),
                    lease_ms: *lease_ms,
                    operation: None,
                };
                self.acquire(hold)
            }
            Command::Release { which } => self.release_by_hand(which),
            Command::Break {
                which,
                reason,
                operator,
                now_unix_ms,
            } => self.break_by_hand(which, reason, operator, *now_unix_ms),
            Command::Expire { ids } => {
                for id in ids {
                    if self
                        .holds
                        .get(id)
                        .is_some_and(|hold| hold.operation.is_none())
                    {
                        self.end(id);
                    }
                }
                Ok(Response::Done)
            }
        }
    }

    fn acquire(&mut self, hold: Hold) -> Result<Response> {
        if let Some(known) = self.holds.get(&hold.id) {
            let asked = (&hold.scope, hold.side, hold.lease_ms.is_some());
            let is_the_same = asked == (&known.scope, known.side, known.lease_ms.is_some());
            return if is_the_same && known.operation.is_none() {
                Ok(Response::Hold(Box::new(known.clone())))
            } else {
                Err(Error::conflict(format!(
                    "hold {} is another one, of {}",
                    hold.id, known.scope
                )))
            };
        }
        if self.ended.contains(&hold.id) {
            return Err(has_ended(&hold.id));
        }
        if hold.lease_ms.is_none()
            && let Some(holder) = self.by_hand(&hold.scope)
        {
            return Err(Error::refused(holder.described()).hint(holder.way_out()));
        }
        self.check_other_side(hold.side, &hold.scope)?;
        self.grant(hold)
            .map(|hold| Response::Hold(Box::new(hold.clone())))
    }

    fn by_hand(&self, scope: &Scope) -> Option<&Hold> {
        self.holds
            .values()
            .find(|hold| hold.expires_unix_ms.is_some() && hold.scope == *scope)
    }

    /// Lets go of a hold that is no operation's.
    fn end(&mut self, id: &str) {
        self.holds.remove(id);
        self.ended.push(id);
    }

    fn release_by_hand(&mut self, which: &Which) -> Result<Response> {
        let found = if which.id.is_empty() {
            self.by_hand(&which.scope).ok_or_else(|| {
                Error::not_found(format!(
                    "nobody holds the backup lock of {} by hand",
                    which.scope
                ))
            })?
        } else {
            self.holds
                .get(&which.id)
                .ok_or_else(|| no_hold(&which.id))?
        };
        if let Some(operation) = found.operation {
            return Err(Error::refused(format!(
                "hold {} belongs to operation {operation}",
                found.id
            ))
            .hint("Cancel the operation; backup-lock --break takes the hold from it."));
        }
        let released = found.clone();
        self.end(&released.id);
        Ok(Response::Hold(Box::new(released)))
    }

    fn break_by_hand(
        &mut self,
        which: &Which,
        reason: &str,
        operator: &str,
        now_unix_ms: u64,
    ) -> Result<Response> {
        let broken: Vec<BrokenHold> = self
            .holds
            .values()
            .filter(|hold| {
                if which.id.is_empty() {
                    hold.scope.overlaps(&which.scope)
                } else {
                    hold.id == which.id
                }
            })
            .map(|hold| BrokenHold {
                hold: hold.clone(),
                reason: reason.to_owned(),
                operator: operator.to_owned(),
                broken_unix_ms: now_unix_ms,
            })
            .collect();
        if broken.is_empty() {
            return Err(if which.id.is_empty() {
                Error::not_found(format!("nobody holds the backup lock of {}", which.scope))
            } else {
                no_hold(&which.id)
            });
        }
        for broken in &broken {
            self.end(&broken.hold.id);
            self.broken.push_front(broken.clone());
        }
        self.broken.truncate(BROKEN_MAX);
        Ok(Response::Broken(broken))
    }

    fn grant(&mut self, mut hold: Hold) -> Result<&Hold> {
        self.check_room()?;
        self.last_token += 1;
        hold.token = self.last_token;
        Ok(self.holds.entry(hold.id.clone()).or_insert(hold))
    }

    fn check_room(&self) -> Result<()> {
        if self.holds.len() < HOLDS_MAX {
            return Ok(());
        }
        Err(Error::exhausted(format!(
            "{HOLDS_MAX} holds of the backup lock stand already"
        )))
    }

    /// Refuses when the side opposite to `side` is held in an overlapping scope.
    pub fn check_other_side(&self, side: Side, scope: &Scope) -> Result<()> {
        let Some(holder) = self
            .holds
            .values()
            .find(|hold| hold.side != side && hold.scope.overlaps(scope))
        else {
            return Ok(());
        };
        let what = match (holder.operation, holder.side) {
            (Some(operation), Side::Backup) => format!(
                "{} holds the backup lock of {} (operation {operation})",
                holder.reason, holder.scope
            ),
            (Some(operation), Side::Delete) => format!(
                "{} is deleting in {} (operation {operation})",
                holder.reason, holder.scope
            ),
            (None, _) => holder.described(),
        };
        Err(match holder.side {
            Side::Backup if holder.operation.is_some() => Error::refused(what)
                .hint("Wait until it has ended; WatchOperation shows how far it is."),
            Side::Backup => Error::refused(what).hint(holder.way_out()),
            // Deleters are done within moments.
            Side::Delete => Error::refused(what).hint("Try again in a moment."),
        })
    }

    /// Whether [`Locks::claim`] would grant this.
    pub(super) fn check_claim(&self, claim: &Claim) -> Result<()> {
        self.check_other_side(claim.side, &claim.scope)?;
        self.check_room()
    }

    /// Grants an operation its hold, whose id is the operation's. A repetition finds it.
    pub(super) fn claim(&mut self, operation: OperationId, claim: &Claim) -> Result<Hold> {
        let id = operation.to_string();
        if let Some(hold) = self.holds.get(&id) {
            return Ok(hold.clone());
        }
        self.check_claim(claim)?;
        self.grant(Hold {
            id,
            side: claim.side,
            scope: claim.scope.clone(),
            owner: format!("operation {operation}"),
            reason: claim.reason.clone(),
            token: 0,
            granted_unix_ms: claim.now_unix_ms,
            expires_unix_ms: None,
            lease_ms: None,
            operation: Some(operation),
        })
        .cloned()
    }

    pub(super) fn exclusive_holder(&self, what: Exclusive, shard: &ShardId) -> Option<OperationId> {
        match what {
            Exclusive::Backup => self.backups.get(shard),
            Exclusive::Reparent => self.reparents.get(shard),
        }
        .copied()
    }

    /// The caller has made sure that nobody has it.
    pub(super) fn take_exclusive(
        &mut self,
        what: Exclusive,
        shard: &ShardId,
        operation: OperationId,
    ) {
        match what {
            Exclusive::Backup => self.backups.insert(shard.clone(), operation),
            Exclusive::Reparent => self.reparents.insert(shard.clone(), operation),
        };
    }

    /// Lets go of everything that an operation has.
    pub(super) fn release_all_of(&mut self, operation: OperationId) {
        self.holds
            .retain(|_, hold| hold.operation != Some(operation));
        self.backups.retain(|_, holder| *holder != operation);
        self.reparents.retain(|_, holder| *holder != operation);
    }

    /// Whether work under this hold and token may still be done.
    pub fn is_valid(&self, hold_id: &str, token: u64) -> bool {
        self.holds
            .get(hold_id)
            .is_some_and(|hold| hold.token == token)
    }

    pub fn hold(&self, id: &str) -> Option<&Hold> {
        self.holds.get(id)
    }

    pub fn holds(&self) -> impl Iterator<Item = &Hold> {
        self.holds.values()
    }

    pub fn broken(&self) -> impl Iterator<Item = &BrokenHold> {
        self.broken.iter()
    }
}

pub fn has_ended(id: &str) -> Error {
    Error::refused(format!("hold {id} has ended")).hint("Acquire another one, under a new id.")
}

fn no_hold(id: &str) -> Error {
    Error::not_found(format!("no hold {id}")).hint("backup-lock --status shows them.")
}

#[cfg(test)]
mod tests;
