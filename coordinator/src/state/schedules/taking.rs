//! The group's backup as a part of a run.
//!
//! It is no operation: that it is being taken stands in the part itself, and whoever leads takes it.
//! A leader that comes later goes on with the same try. Its end is told once, and neither a pause nor
//! a clock that is not believed keeps it from being told.

use seawall_common::{Error, Result};

use super::{
    Job, Part, PartState, Schedule, Schedules, Try,
    course::{End, check_clock},
};
use crate::state::State;

pub(super) fn take(state: &mut State, of: &Try) -> Result<()> {
    check_clock(state)?;
    let at_unix_ms = state.schedules.seen_unix_ms.max(of.now_unix_ms);
    let schedule = state.schedules.get(&of.name)?;
    schedule.check_try(of, at_unix_ms)?;
    if of.shard.is_some() {
        return Err(Error::invalid(format!(
            "a backup of {} is an operation",
            of.described()
        )));
    }
    state.schedules.now(of.now_unix_ms);
    let part = state.schedules.get_mut(&of.name)?.part_mut(of)?;
    part.state = PartState::Running;
    part.tries = of.number;
    Ok(())
}

pub(super) fn taken(state: &mut State, of: &Try, error: Option<&str>) -> Result<()> {
    let schedule = state.schedules.get(&of.name)?;
    schedule.check_is(of.id, &of.name)?;
    if !schedule.is_taking(of) {
        return Err(Error::conflict(format!(
            "schedule {} is not taking the group's backup in try {} of run {}",
            of.name, of.number, of.run
        )));
    }
    let now_unix_ms = state.schedules.now(of.now_unix_ms);
    let end = error.map_or(End::Succeeded, End::Failed);
    let schedule = state.schedules.get_mut(&of.name)?;
    schedule.part_ended(Part::is_being_taken, end, now_unix_ms);
    Ok(())
}

impl Schedules {
    /// The group's backups that are being taken, and how many are to stay.
    pub fn being_taken(&self) -> impl Iterator<Item = (Try, u32)> {
        self.all.iter().filter_map(|(name, schedule)| {
            let Job::GroupBackup { keep } = schedule.spec.job else {
                return None;
            };
            let run = schedule.run.as_ref()?;
            let part = run.parts.iter().find(|part| part.is_being_taken())?;
            let of = schedule.try_of(name, (run, part), part.tries, self.seen_unix_ms);
            Some((of, keep))
        })
    }

    /// Whether this is still so of one.
    pub fn are_taking(&self, of: &Try) -> bool {
        self.all
            .get(&of.name)
            .is_some_and(|schedule| schedule.id == of.id && schedule.is_taking(of))
    }
}

impl Schedule {
    fn is_taking(&self, of: &Try) -> bool {
        let run = self.run.as_ref().filter(|run| run.number == of.run);
        let mut parts = run.iter().flat_map(|run| &run.parts);
        parts.any(|part| part.is_being_taken() && part.tries == of.number)
    }

    /// What has not begun does not begin, and the group's backup counts no more.
    pub(super) fn call_off_all_but_operations(&mut self, now_unix_ms: u64) {
        let parts = self.run.iter_mut().flat_map(|run| &mut run.parts);
        for part in parts.filter(|part| part.is_being_taken()) {
            part.state = PartState::Cancelled;
        }
        self.call_off_waiting(now_unix_ms);
    }
}

impl Part {
    pub fn is_being_taken(&self) -> bool {
        self.state == PartState::Running && self.operation.is_none()
    }
}

#[cfg(test)]
pub mod tests;
