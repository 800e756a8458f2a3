//! Who belongs to the group now, as this member's log says: ids, addresses, instances, and the ids
//! of those that were removed. It follows the membership in the log, whether or not that is committed
//! already: so Raft counts votes, too.

use std::collections::{BTreeMap, BTreeSet};

use super::{Members, Seat, StoredMembership};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    seats: BTreeMap<u64, Seat>,
    retired: BTreeSet<u64>,
}

impl Roster {
    pub fn new(membership: &StoredMembership, retired: BTreeSet<u64>) -> Self {
        let seats = membership.membership().nodes();
        Self {
            seats: seats.map(|(id, seat)| (*id, seat.clone())).collect(),
            retired,
        }
    }

    /// No membership is known yet: the member is new.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    pub fn has(&self, member: u64) -> bool {
        self.seats.contains_key(&member)
    }

    pub fn is_retired(&self, member: u64) -> bool {
        self.retired.contains(&member) && !self.has(member)
    }

    /// The instance that the log names; none for a member that `init` made.
    pub fn instance_of(&self, member: u64) -> Option<&String> {
        let instance = self.seats.get(&member).map(|seat| &seat.instance);
        instance.filter(|instance| !instance.is_empty())
    }

    pub fn addresses(&self) -> Members {
        let seats = self.seats.iter();
        seats.map(|(id, seat)| (*id, seat.addr.clone())).collect()
    }
}
