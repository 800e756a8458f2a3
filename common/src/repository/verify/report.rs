//! What a verification found. Bounded: of a store that lost everything the first losses are named
//! and all are counted.

use std::fmt;

use uuid::Uuid;

use super::Seen;
use crate::ids::BackupName;

/// Damaged objects, and files that cannot be restored, that are named.
pub const FINDINGS_MAX: usize = 1000;

/// An object that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Its key in the repository.
    pub object: String,
    /// What is wrong with it: "is missing", "is cut short", ...
    pub what: String,
    /// The pack, when it is one: every backup that reaches it is damaged.
    pub pack: Option<Uuid>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object {} {}", self.object, self.what)
    }
}

/// What was read back of one backup, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    pub backup: BackupName,
    /// Of the backup's packs, at random by `seed`.
    pub percent: u8,
    pub seed: u64,
    pub packs: u64,
    pub packs_read: u64,
    pub bytes_read: u64,
    /// Opened, unpacked and hashed; 0 when only the hashes of packs were compared.
    pub chunks: u64,
    /// At most [`FINDINGS_MAX`] of `damaged_objects`.
    pub damage: Vec<Damage>,
    /// All of them.
    pub(in crate::repository) seen: Seen,
    pub damaged_objects: u64,
    /// At most [`FINDINGS_MAX`] of `lost`: `root/path`.
    pub lost_files: Vec<String>,
    /// Files that need what is damaged.
    pub lost: u64,
    /// What could not be checked, and why. Not damage.
    pub unchecked: Vec<String>,
}

impl VerifyReport {
    /// Of a backup of which nothing was read yet.
    pub fn new(backup: &BackupName, percent: u8, seed: u64) -> Self {
        Self {
            backup: backup.clone(),
            percent,
            seed,
            packs: 0,
            packs_read: 0,
            bytes_read: 0,
            chunks: 0,
            damage: Vec::new(),
            seen: Seen::default(),
            damaged_objects: 0,
            lost_files: Vec::new(),
            lost: 0,
            unchecked: Vec::new(),
        }
    }

    /// Nothing is damaged of what was read.
    pub fn passed(&self) -> bool {
        self.damaged_objects == 0 && self.lost == 0
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let read = format!(
            "{} of {} packs, {} bytes read",
            self.packs_read, self.packs, self.bytes_read
        );
        let Some(first) = self.damage.first() else {
            return match self.lost_files.first() {
                None => format!("no damage: {read}"),
                Some(file) => format!("{file} cannot be restored ({read})"),
            };
        };
        let more = match self.damaged_objects {
            1 => String::new(),
            n => format!(", and {} more damaged objects", n - 1),
        };
        let files = match (self.lost, self.lost_files.first()) {
            (1, Some(file)) => format!("; {file} cannot be restored"),
            (n, Some(file)) => format!("; {file} and {} more files cannot be restored", n - 1),
            (_, None) => String::new(),
        };
        format!("{first}{more}{files} ({read})")
    }

    pub(in crate::repository) fn damaged(&mut self, damage: Damage) {
        // What is wrong with it first counts.
        if !self.seen.add(&damage.object) {
            return;
        }
        tracing::error!(backup = %self.backup, "{damage}");
        self.damaged_objects += 1;
        if self.damage.len() < FINDINGS_MAX {
            self.damage.push(damage);
        }
    }

    pub(super) fn lost(&mut self, file: String) {
        self.lost += 1;
        if self.lost_files.len() < FINDINGS_MAX {
            self.lost_files.push(file);
        }
    }

    pub(super) fn cannot_check(&mut self, what: impl Into<String>) {
        if self.unchecked.len() < FINDINGS_MAX {
            self.unchecked.push(what.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_named_up_to_a_bound_and_counted_in_full() {
        let name = "2026-11-21.031500.zone1-101".parse().unwrap();
        let mut report = VerifyReport::new(&name, 100, 0);
        assert!(report.passed());
        for n in 0..FINDINGS_MAX + 5 {
            report.damaged(Damage {
                object: format!("packs/{n}"),
                what: "is missing".into(),
                pack: None,
            });
            report.lost(format!("data/t{n}.ibd"));
        }
        assert!(!report.passed());
        assert_eq!(report.damage.len(), FINDINGS_MAX);
        assert_eq!(report.damaged_objects, FINDINGS_MAX as u64 + 5);
        assert_eq!(report.lost_files.len(), FINDINGS_MAX);
        let summary = report.summary();
        assert!(
            summary.starts_with(
                "object packs/0 is missing, and 1004 more damaged objects; data/t0.ibd and 1004 more files"
            ),
            "{summary}"
        );
    }
}
