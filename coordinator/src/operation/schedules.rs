//! Begins what schedules want, while this member leads.
//!
//! It computes which slots have come and proposes them; the state machine decides what becomes of
//! each. Everything that it needs to know stands in the state: whoever leads next goes on where this
//! one stopped, and finds the operations that were begun, for their ids follow from schedule, run,
//! shard and try. While the time of day cannot be believed nothing is begun. The group's backup is no
//! operation: here it is only begun.

mod taking;

use std::{collections::BTreeMap, mem, time::Duration};

use seawall_common::{
    Error, ErrorKind, Result,
    ids::{Alias, OperationId, ShardId},
};

use super::{Coordination, choice, clock, slots::Slots};
use crate::{
    platform::blocking,
    state::{
        Command, State,
        schedules::{self, Job, PartState, Schedule, Try, in_the_way},
    },
};

/// The clock may be set meanwhile: nobody sleeps longer.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// When something is in the way, or could not be committed, it is looked at again after this.
const BLOCKED_INTERVAL: Duration = Duration::from_secs(1);
/// Slots that are counted when nobody has looked for long.
const MISSED_MAX: usize = 10_000;

/// Never returns while the office lasts.
pub async fn run(context: &Coordination) {
    tokio::join!(begin_all(context), taking::run(context));
}

async fn begin_all(context: &Coordination) {
    let mut applied = context.group.applied();
    let mut timetable = Timetable::default();
    loop {
        let seen = changes(context);
        let wait = match clock::doubt(context) {
            Some(_) => LOOK_INTERVAL,
            None => begin_what_is_due(context, &mut timetable).await,
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = changed(context, &mut applied, seen) => {}
        }
    }
}

fn changes(context: &Coordination) -> u64 {
    context.group.look(|state| state.schedules.changes())
}

/// Returns when something of a schedule is no longer as it was.
async fn changed(
    context: &Coordination,
    applied: &mut tokio::sync::watch::Receiver<u64>,
    seen: u64,
) {
    while changes(context) == seen {
        if applied.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The time by which schedules go: it does not go back when the clock does.
pub fn now_unix_ms(context: &Coordination, state: &State) -> u64 {
    (context.wall_unix_ms)().max(state.schedules.seen_unix_ms())
}

/// How long nothing more is to be done.
async fn begin_what_is_due(context: &Coordination, timetable: &mut Timetable) -> Duration {
    let due = match look(context, timetable).await {
        Ok(due) => due,
        Err(e) => {
            tracing::warn!("what schedules want is not known yet: {e}");
            return BLOCKED_INTERVAL;
        }
    };
    for slot in due.slots {
        let slot = Command::Schedules(slot);
        if let Err(e) = context.group.propose(slot).await {
            tracing::warn!("a slot of a schedule cannot be begun yet: {e}");
            return BLOCKED_INTERVAL;
        }
    }
    let mut is_blocked = false;
    if let Some(of) = due.to_take {
        let take = schedules::Command::Take { of };
        if let Err(e) = context.group.propose(Command::Schedules(take)).await {
            tracing::warn!("the group's backup cannot be begun yet: {e}");
            is_blocked = true;
        }
    }
    let mut owner = Owner::default();
    for next in &due.to_begin {
        match begin(context, next, &mut owner).await {
            Ok(is_begun) => is_blocked |= !is_begun,
            Err(e) => {
                tracing::warn!(schedule = next.of.name, shard = %next.shard, "{e}");
                is_blocked = true;
            }
        }
    }
    let again_after = match is_blocked {
        true => BLOCKED_INTERVAL,
        false => LOOK_INTERVAL,
    };
    due.next_in
        .map_or(again_after, |next| next.min(again_after))
}

/// What is due now. Slots are computed while nobody waits for the state.
async fn look(context: &Coordination, timetable: &mut Timetable) -> Result<Due> {
    loop {
        let mut due = context.group.look(|state| {
            timetable.forget_removed(state);
            Due::at(now_unix_ms(context, state), state, timetable)
        });
        if !due.unknown.is_empty() {
            timetable.learn(mem::take(&mut due.unknown)).await?;
            continue;
        }
        if !due.come.is_empty() {
            let (come, now_unix_ms) = (mem::take(&mut due.come), due.now_unix_ms);
            let slots = move || {
                come.iter()
                    .filter_map(|come| come.slot(now_unix_ms))
                    .collect()
            };
            due.slots = blocking(move || Ok(slots())).await?;
        }
        return Ok(due);
    }
}

/// Whether the repository is the group's: looked up when the first shard is to be backed up, and no
/// more than once in a look at what is due.
#[derive(Default)]
struct Owner(Option<Result<()>>);

impl Owner {
    async fn check(&mut self, context: &Coordination) -> Result<()> {
        if let Some(known) = &self.0 {
            return known.clone();
        }
        let owner = context.check_owner().await;
        self.0.insert(owner).clone()
    }
}

/// False: something is in the way that goes by itself.
async fn begin(context: &Coordination, next: &ToBegin, owner: &mut Owner) -> Result<bool> {
    let ToBegin { of, shard, .. } = next;
    let Some(chosen) = context.group.look(|state| choose(context, state, next)) else {
        return Ok(false);
    };
    let failed = match owner.check(context).await.and(chosen) {
        Err(e) => e,
        Ok(alias) => {
            let of = of.clone();
            let begin = schedules::Command::Begin { of, alias };
            match context.group.propose(Command::Schedules(begin)).await {
                Ok(_) => return Ok(true),
                // Whether it was begun, the state says.
                Err(e) if is_passing(&e) => return Err(e),
                Err(e) => e,
            }
        }
    };
    if context
        .group
        .look(|state| in_the_way(state, shard).is_some())
    {
        return Ok(false);
    }
    tracing::warn!(schedule = of.name, %shard, "a try failed: {failed}");
    let fail = schedules::Command::Fail {
        of: of.clone(),
        error: failed.to_string(),
    };
    context.group.propose(Command::Schedules(fail)).await?;
    Ok(true)
}

/// None: something is in the way; or the leader is young, and hears the agents soon.
fn choose(context: &Coordination, state: &State, next: &ToBegin) -> Option<Result<Alias>> {
    if in_the_way(state, &next.shard).is_some() {
        return None;
    }
    let heartbeats = &context.heartbeats;
    let chosen = choice::tablet_to_back_up(state, heartbeats, &next.shard, next.allow_primary);
    match chosen {
        Err(e) if e.is_retryable() => None,
        chosen => Some(chosen),
    }
}

/// Of the group, not of the backup.
fn is_passing(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Conflict | ErrorKind::Fenced
    )
}

/// What is to be done now, and when to look again.
#[derive(Default)]
struct Due {
    now_unix_ms: u64,
    /// Of which it is not known yet when the next slot is.
    unknown: Vec<(String, Asked)>,
    /// Of which a slot has come.
    come: Vec<Come>,
    slots: Vec<schedules::Command>,
    to_begin: Vec<ToBegin>,
    /// The group's backup; one at a time, whatever schedules it is of.
    to_take: Option<Try>,
    next_in: Option<Duration>,
}

/// The backup of a shard.
struct ToBegin {
    of: Try,
    shard: ShardId,
    allow_primary: bool,
}

impl Due {
    fn at(now_unix_ms: u64, state: &State, timetable: &Timetable) -> Self {
        let mut due = Self {
            now_unix_ms,
            ..Self::default()
        };
        for (name, schedule) in state.schedules.iter() {
            if schedule.paused_at(now_unix_ms) {
                let until = schedule.pause.and_then(|pause| pause.until_unix_ms);
                due.look_again_at(until, now_unix_ms);
                continue;
            }
            let Some(next) = timetable.next(name, schedule, now_unix_ms) else {
                let asked = Asked::of(schedule, now_unix_ms);
                due.unknown.push((name.clone(), asked));
                continue;
            };
            if next.is_some_and(|slot| slot <= now_unix_ms) {
                due.come.push(Come {
                    name: name.clone(),
                    id: schedule.id,
                    asked: Asked::of(schedule, now_unix_ms),
                });
                continue;
            }
            due.look_again_at(next, now_unix_ms);
            due.add_tries(name, schedule, now_unix_ms);
        }
        if state.schedules.being_taken().next().is_some() {
            due.to_take = None;
        }
        due
    }

    fn look_again_at(&mut self, at_unix_ms: Option<u64>, now_unix_ms: u64) {
        let wait = at_unix_ms.map(|at| Duration::from_millis(at.saturating_sub(now_unix_ms)));
        self.next_in = match (self.next_in, wait) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    /// As many as may be at work at the same time; first those whose turn came first.
    fn add_tries(&mut self, name: &str, schedule: &Schedule, now_unix_ms: u64) {
        let Some(run) = &schedule.run else {
            return;
        };
        let waiting = run.parts.iter();
        let waiting = waiting.filter(|part| part.state == PartState::Waiting);
        let (mut ripe, later): (Vec<_>, Vec<_>) =
            waiting.partition(|part| part.not_before_unix_ms <= now_unix_ms);
        let next = later.iter().map(|part| part.not_before_unix_ms).min();
        self.look_again_at(next, now_unix_ms);
        ripe.sort_by_key(|part| part.not_before_unix_ms);
        let room = (schedule.spec.at_once as usize).saturating_sub(run.running());
        for part in ripe.into_iter().take(room) {
            let of = schedule.try_of(name, (run, part), part.tries + 1, now_unix_ms);
            match (&schedule.spec.job, &part.shard) {
                (Job::Backup { allow_primary, .. }, Some(shard)) => self.to_begin.push(ToBegin {
                    of,
                    shard: shard.clone(),
                    allow_primary: *allow_primary,
                }),
                (Job::GroupBackup { .. }, None) => {
                    self.to_take.get_or_insert(of);
                }
                // With another job nothing of the one before waits any more.
                (Job::Backup { .. }, None) | (Job::GroupBackup { .. }, Some(_)) => {}
            }
        }
    }
}

/// A schedule of which a slot has come.
struct Come {
    name: String,
    id: OperationId,
    asked: Asked,
}

impl Come {
    /// The last slot that has come; those before it, of a time when nobody looked, are passed over.
    fn slot(&self, now_unix_ms: u64) -> Option<schedules::Command> {
        let slots = Slots::new(&self.asked.cron, &self.asked.zone).ok()?;
        let done_unix_ms = self.asked.after_unix_ms;
        let slot_unix_ms = slots.last_between(done_unix_ms, now_unix_ms)?;
        let missed = slots.count_between(done_unix_ms, slot_unix_ms, MISSED_MAX);
        if missed > 0 {
            tracing::warn!(schedule = self.name, "{missed} slots have been missed");
        }
        Some(schedules::Command::Slot {
            name: self.name.clone(),
            id: self.id,
            slot_unix_ms,
            missed: missed as u64,
            now_unix_ms,
        })
    }
}

/// Why a part of a run that could begin does not; empty: it will.
pub fn waits_for(
    context: &Coordination,
    state: &State,
    shard: Option<&ShardId>,
    job: &Job,
) -> String {
    match (job, shard) {
        (Job::Backup { allow_primary, .. }, Some(shard)) => {
            let chosen =
                || choice::tablet_to_back_up(state, &context.heartbeats, shard, *allow_primary);
            let no_tablet = || chosen().err().map(|e| e.message().to_owned());
            in_the_way(state, shard).or_else(no_tablet)
        }
        (Job::GroupBackup { .. }, None) => {
            let mut others = state.schedules.being_taken();
            let other = others.next().map(|(of, _)| of.name);
            other.map(|name| format!("the group's backup is being taken for schedule {name}"))
        }
        // With another job nothing of the one before waits any more.
        (Job::Backup { .. }, None) | (Job::GroupBackup { .. }, Some(_)) => None,
    }
    .unwrap_or_default()
}

/// The next slots, so that they are not computed again each time something happens.
#[derive(Default)]
struct Timetable(BTreeMap<String, (Asked, Option<u64>)>);

/// The slots that are asked for: of an expression, after a moment.
struct Asked {
    cron: String,
    zone: String,
    after_unix_ms: u64,
}

impl Asked {
    fn of(schedule: &Schedule, now_unix_ms: u64) -> Self {
        Self {
            cron: schedule.spec.cron.clone(),
            zone: schedule.spec.zone.clone(),
            after_unix_ms: schedule.done_until_unix_ms(now_unix_ms),
        }
    }

    fn is_of(&self, schedule: &Schedule, now_unix_ms: u64) -> bool {
        let spec = &schedule.spec;
        (&self.cron, &self.zone) == (&spec.cron, &spec.zone)
            && self.after_unix_ms == schedule.done_until_unix_ms(now_unix_ms)
    }

    fn next(&self, name: &str) -> Option<u64> {
        let next = Slots::new(&self.cron, &self.zone).map(|slots| slots.after(self.after_unix_ms));
        next.unwrap_or_else(|e| {
            tracing::error!(schedule = name, "it never runs: {e}");
            None
        })
    }
}

impl Timetable {
    /// None: not known yet; none in it: there is none.
    fn next(&self, name: &str, schedule: &Schedule, now_unix_ms: u64) -> Option<Option<u64>> {
        let (asked, next) = self.0.get(name)?;
        asked.is_of(schedule, now_unix_ms).then_some(*next)
    }

    async fn learn(&mut self, unknown: Vec<(String, Asked)>) -> Result<()> {
        let learn = move || {
            let known = unknown.into_iter().map(|(name, asked)| {
                let next = asked.next(&name);
                (name, (asked, next))
            });
            Ok(known.collect::<Vec<_>>())
        };
        self.0.extend(blocking(learn).await?);
        Ok(())
    }

    fn forget_removed(&mut self, state: &State) {
        self.0.retain(|name, _| state.schedules.get(name).is_ok());
    }
}
