//! Begins what schedules want, while this member leads.
//!
//! It computes which slots have come and proposes them; the state machine decides what becomes of
//! each. Everything that it needs to know stands in the state: whoever leads next goes on where this
//! one stopped, and finds the operations that were begun, for their ids follow from schedule, run,
//! shard and try. While the time of day cannot be believed nothing is begun. A backup of the group
//! itself is no operation: it is taken here, beside the rest, and what it came to is noted; one that
//! a leader leaves half done is tried again by the next.

use std::{collections::BTreeMap, mem, pin::Pin, time::Duration};

use seawall_common::{
    Error, ErrorKind, Result,
    ids::{OperationId, ShardId},
};

use super::{Coordination, choice, clock, group_backup, slots::Slots};
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

/// How long a backup of the group may take.
const GROUP_BACKUP_LIMIT: Duration = Duration::from_secs(600);

/// Never returns while the office lasts.
pub async fn run(context: &Coordination) {
    let mut applied = context.group.applied();
    let mut timetable = Timetable::default();
    let mut taking = Taking(None);
    loop {
        let seen = changes(context);
        let wait = match clock::doubt(context) {
            Some(_) => LOOK_INTERVAL,
            None => begin_what_is_due(context, &mut timetable, &mut taking).await,
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = changed(context, &mut applied, seen) => {}
            () = taking.ended() => {}
        }
    }
}

/// The backup of the group that is being taken; one at a time.
struct Taking<'a>(Option<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>);

impl<'a> Taking<'a> {
    /// When there is one, the next look at what is due begins it.
    fn begin(&mut self, context: &'a Coordination, of: Try, keep: u32) {
        if self.0.is_none() {
            self.0 = Some(Box::pin(back_up_group(context, of, keep)));
        }
    }

    /// Never returns while none is under way.
    async fn ended(&mut self) {
        match &mut self.0 {
            Some(under_way) => under_way.await,
            None => std::future::pending().await,
        }
        self.0 = None;
    }
}

/// Takes it, and tells the state what it came to.
async fn back_up_group(context: &Coordination, mut of: Try, keep: u32) {
    let keep = usize::try_from(keep).unwrap_or(usize::MAX);
    let take = group_backup::take(context, keep);
    let taken = match tokio::time::timeout(GROUP_BACKUP_LIMIT, take).await {
        Ok(taken) => taken.map(drop),
        Err(_) => Err(Error::timeout(format!(
            "the backup of the group took more than {GROUP_BACKUP_LIMIT:?}"
        ))),
    };
    of.now_unix_ms = context.group.look(|state| now_unix_ms(context, state));
    let ended = match taken {
        Ok(()) => schedules::Command::Done { of },
        Err(e) => {
            tracing::warn!(schedule = of.name, "no backup of the group was taken: {e}");
            let error = e.to_string();
            schedules::Command::Fail { of, error }
        }
    };
    if let Err(e) = context.group.propose(Command::Schedules(ended)).await {
        tracing::warn!("what a backup of the group came to is not noted: {e}");
        tokio::time::sleep(BLOCKED_INTERVAL).await;
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
async fn begin_what_is_due<'a>(
    context: &'a Coordination,
    timetable: &mut Timetable,
    taking: &mut Taking<'a>,
) -> Duration {
    let mut due = match look(context, timetable).await {
        Ok(due) => due,
        Err(e) => {
            tracing::warn!("what schedules want is not known yet: {e}");
            return BLOCKED_INTERVAL;
        }
    };
    for slot in mem::take(&mut due.slots) {
        let slot = Command::Schedules(slot);
        if let Err(e) = context.group.propose(slot).await {
            tracing::warn!("a slot of a schedule cannot be begun yet: {e}");
            return BLOCKED_INTERVAL;
        }
    }
    let mut is_blocked = false;
    if !due.tries.is_empty() {
        let owner = context.check_owner().await;
        for (of, job) in due.tries {
            let begun = match (job, &of.shard) {
                (Job::GroupBackup { keep }, _) => {
                    taking.begin(context, of, keep);
                    continue;
                }
                (Job::Backup { .. }, None) => continue,
                (Job::Backup { allow_primary, .. }, Some(shard)) => {
                    begin(context, (&of, shard), allow_primary, &owner).await
                }
            };
            match begun {
                Ok(is_begun) => is_blocked |= !is_begun,
                Err(e) => {
                    tracing::warn!(schedule = of.name, shard = of.described(), "{e}");
                    is_blocked = true;
                }
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

/// False: something is in the way that goes by itself.
async fn begin(
    context: &Coordination,
    (of, shard): (&Try, &ShardId),
    allow_primary: bool,
    owner: &Result<()>,
) -> Result<bool> {
    let is_blocked = || {
        context
            .group
            .look(|state| in_the_way(state, shard).is_some())
    };
    if is_blocked() {
        return Ok(false);
    }
    let chosen = owner.clone().and_then(|()| {
        context.group.look(|state| {
            let heartbeats = &context.heartbeats;
            choice::tablet_to_back_up(state, heartbeats, shard, allow_primary)
        })
    });
    let begun = match chosen {
        // A leader that is young hears the agents soon.
        Err(e) if owner.is_ok() && e.is_retryable() => return Ok(false),
        Err(e) => Err(e),
        Ok(alias) => {
            let of = of.clone();
            let begin = schedules::Command::Begin { of, alias };
            context.group.propose(Command::Schedules(begin)).await
        }
    };
    match begun {
        Ok(_) => Ok(true),
        // Whether it was begun, the state says.
        Err(e) if is_passing(&e) && owner.is_ok() => Err(e),
        Err(_) if owner.is_ok() && is_blocked() => Ok(false),
        Err(e) => {
            tracing::warn!(schedule = of.name, %shard, "a try failed: {e}");
            let fail = schedules::Command::Fail {
                of: of.clone(),
                error: e.to_string(),
            };
            context.group.propose(Command::Schedules(fail)).await?;
            Ok(true)
        }
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
    tries: Vec<(Try, Job)>,
    next_in: Option<Duration>,
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
            let of = Try {
                name: name.to_owned(),
                id: schedule.id,
                run: run.number,
                shard: part.shard.clone(),
                number: part.tries + 1,
                now_unix_ms,
            };
            self.tries.push((of, schedule.spec.job.clone()));
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
    let (Some(shard), Job::Backup { allow_primary, .. }) = (shard, job) else {
        return String::new();
    };
    if let Some(why) = in_the_way(state, shard) {
        return why;
    }
    let chosen = choice::tablet_to_back_up(state, &context.heartbeats, shard, *allow_primary);
    chosen
        .err()
        .map_or_else(String::new, |e| e.message().to_owned())
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
