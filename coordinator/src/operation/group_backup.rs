//! The group's own state, into the repository: what `BackupCoordinator` does, and a schedule may.
//!
//! It is quick and changes nothing of the group, so it is no operation: one that is cut off is taken
//! again. What it puts is checked by reading it back; the oldest beyond those that are kept go.

use seawall_common::{
    Error, Result,
    repository::{GroupBackup, check_group_backup_name},
};

use super::Coordination;
use crate::{
    platform::blocking,
    state::{self, Command, State},
};

pub const KEPT: usize = 7;
pub const KEPT_MAX: usize = 1000;
/// How many a listing reads.
const LISTED_MAX: usize = 200;

/// What was taken, and what went for it.
#[derive(Clone, Debug)]
pub struct Taken {
    pub backup: GroupBackup,
    pub removed: Vec<String>,
}

/// Takes a backup of the group's state as it is now and keeps the newest `keep` of all that lie in
/// the repository. For the leader.
pub async fn take(context: &Coordination, keep: usize) -> Result<Taken> {
    if keep == 0 || keep > KEPT_MAX {
        return Err(Error::invalid(format!(
            "cannot keep {keep} coordinator backups: at least one and at most {KEPT_MAX}"
        )));
    }
    context.check_owner().await?;
    let group_id = context.group_id()?;
    let term = context.group.prove_leadership().await?;
    let member = context.group.leadership().borrow().leader;
    // Before the look: the state covers at least as much.
    let last_index = context.group.applied().borrow().saturating_sub(1);
    let state = context.group.look(State::clone);
    let encoded = blocking(move || state.encoded()).await?;
    let backup = GroupBackup::new(&group_id, member.unwrap_or_default(), (term, last_index));
    let backup = context.store.put_group_state(backup, encoded).await?;
    tracing::info!(
        backup = backup.name,
        "took a backup of the coordinator group"
    );
    let noted = state::GroupBackup {
        name: backup.name.clone(),
        taken_unix_ms: backup.taken_unix_ms,
    };
    context.group.propose(Command::GroupBackedUp(noted)).await?;
    let names = context.store.group_backup_names().await?;
    let mut removed = Vec::new();
    for name in going(&names, keep, &backup.name) {
        context.check_owner().await?;
        context.store.remove_group_backup(name).await?;
        removed.push(name.clone());
    }
    Ok(Taken { backup, removed })
}

/// The oldest, as names sort, beyond so many; never the one that was just taken, wherever it sorts:
/// a clock may have gone back since the others.
fn going<'a>(names: &'a [String], keep: usize, taken: &str) -> impl Iterator<Item = &'a String> {
    let excess = names.len().saturating_sub(keep);
    names.iter().filter(move |name| *name != taken).take(excess)
}

/// The newest last. Those that cannot be read are named with why.
pub async fn list(context: &Coordination) -> Result<(Vec<GroupBackup>, Vec<String>)> {
    let names = context.store.group_backup_names().await?;
    let mut found = Vec::new();
    let mut unreadable = Vec::new();
    for name in &names[names.len().saturating_sub(LISTED_MAX)..] {
        check_group_backup_name(name)?;
        match context.store.group_backup(name).await {
            Ok(backup) => found.push(backup),
            Err(e) if e.is_retryable() => return Err(e),
            Err(e) => unreadable.push(format!("{name}: {e}")),
        }
    }
    Ok((found, unreadable))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stay() {
        let names: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
        let gone = |keep, taken: &str| going(&names, keep, taken).cloned().collect::<String>();
        assert_eq!(gone(2, "c"), "a");
        assert_eq!(gone(1, "c"), "ab");
        assert_eq!(gone(3, "c") + &gone(9, "c"), "");
        assert_eq!(gone(2, "a"), "b", "the clock went back");
        assert_eq!(gone(1, "b"), "ac", "within one second");
    }
}
