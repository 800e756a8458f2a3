//! Who belongs to the group and who did, as the entries of its log that change the membership say.
//!
//! What always holds: an id that was taken out of the group is in `retired` for good, so that it is
//! never given to another data directory. The membership itself is the log's; nothing is decided here.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Members {
    present: BTreeSet<u64>,
    retired: BTreeSet<u64>,
}

impl Members {
    /// Takes note of a membership: voters, learners, and those on their way out.
    pub fn observe(&mut self, present: BTreeSet<u64>) {
        self.retired.extend(self.present.difference(&present));
        self.present = present;
    }

    /// Ids of members that were removed.
    pub fn retired(&self) -> &BTreeSet<u64> {
        &self.retired
    }

    /// The least id above all that were ever used.
    pub fn unused_id(&self) -> u64 {
        let used = self.present.last().max(self.retired.last());
        used.map_or(1, |id| id.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_was_taken_out_stays_retired() {
        let mut members = Members::default();
        members.observe([1, 2, 3].into());
        members.observe([1, 2, 3, 4].into());
        members.observe([1, 2, 4].into());
        assert_eq!(members.retired(), &[3].into());
        members.observe([1, 2].into());
        members.observe([1, 2, 5].into());
        assert_eq!(members.retired(), &[3, 4].into());
        assert_eq!(members.unused_id(), 6);
    }
}
