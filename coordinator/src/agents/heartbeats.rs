//! The leader's memory: when each agent was last heard and what it said, and how far each
//! operation says it is. Never in the log; a new leader begins with nothing and gives every agent
//! the time to be heard before it draws conclusions.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use seawall_common::{
    Error, Result,
    ids::{Alias, OperationId},
};
use seawall_proto::v1;
use tokio::{sync::watch, time::Instant};

use crate::state::topology::Tablet;

/// An agent that was heard within this time is there.
pub const SEEN_WITHIN: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub struct Heard {
    pub instance: String,
    pub at: Instant,
    pub at_unix_ms: u64,
    pub status: v1::TabletStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Yes,
    No,
    /// This leader is too young to know.
    Unknown,
}

/// One talk of an agent with this leader; whoever has begun a later one is the one that is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionId(u64);

pub struct Presence {
    pub heard: Option<Heard>,
    pub is_silent: bool,
    pub serves: bool,
}

/// What the leader has heard, for as long as it is looked at.
pub struct Hearing<'a>(&'a Inner);

impl Hearing<'_> {
    /// Until when a tablet that serves does so, if nothing more is heard of its agent.
    pub fn serves_until(&self, alias: &Alias) -> Option<Instant> {
        let agent = self.0.tablets.get(alias).filter(|agent| agent.serves());
        agent.map(|agent| agent.heard.at + SEEN_WITHIN)
    }

    /// Whether the agent of a tablet is not there, as far as this leader can tell.
    pub fn is_silent(&self, tablet: &Tablet) -> bool {
        let has_had_time = self.0.in_office_since.is_some() && !self.0.is_young();
        let agent = self.0.tablets.get(&tablet.alias);
        tablet.is_registered() && agent.map_or(has_had_time, |agent| !agent.is_there())
    }

    /// Whether nothing was heard of an agent that has not had the time for it.
    pub fn is_awaited(&self, alias: &Alias) -> bool {
        self.0.is_young() && !self.0.tablets.contains_key(alias)
    }

    /// Until when agents are awaited; none: no longer.
    pub fn young_until(&self) -> Option<Instant> {
        let since = self.0.in_office_since.filter(|_| self.0.is_young());
        since.map(|since| since + SEEN_WITHIN)
    }
}

pub struct Heartbeats {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    /// None: this member does not lead, and hears nobody.
    in_office_since: Option<Instant>,
    tablets: BTreeMap<Alias, Agent>,
    sessions: BTreeMap<Alias, SessionId>,
    sessions_begun: u64,
    progress: BTreeMap<OperationId, v1::Progress>,
}

struct Agent {
    heard: Heard,
    /// It has said that it ends.
    has_left: bool,
}

impl Agent {
    fn is_there(&self) -> bool {
        !self.has_left && self.heard.at.elapsed() <= SEEN_WITHIN
    }

    fn serves(&self) -> bool {
        self.is_there() && self.heard.status.serving
    }
}

impl Inner {
    fn is_young(&self) -> bool {
        self.in_office_since
            .is_none_or(|since| since.elapsed() <= SEEN_WITHIN)
    }

    /// Whether a tablet has begun or ended to serve with that.
    fn hear(&mut self, alias: &Alias, heard: Heard) -> bool {
        let serves = heard.status.serving;
        let agent = Agent {
            heard,
            has_left: false,
        };
        let before = self.tablets.insert(alias.clone(), agent);
        before.is_none_or(|before| before.serves() != serves)
    }
}

impl Heartbeats {
    pub fn new() -> Self {
        Self {
            inner: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_change(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Forgets what was heard in an earlier office.
    pub fn take_office(&self) {
        *self.inner() = Inner {
            in_office_since: Some(Instant::now()),
            ..Inner::default()
        };
        self.note_change();
    }

    pub fn leave_office(&self) {
        *self.inner() = Inner::default();
        self.note_change();
    }

    /// The agent begins to talk; a talk that it had before is over.
    pub fn begin_session(&self, alias: &Alias) -> SessionId {
        let mut inner = self.inner();
        inner.sessions_begun += 1;
        let id = SessionId(inner.sessions_begun);
        inner.sessions.insert(alias.clone(), id);
        id
    }

    /// What an agent says in its session; refused when it has begun another one.
    pub fn hear(&self, alias: &Alias, session: SessionId, heard: Heard) -> Result<()> {
        let mut inner = self.inner();
        inner.check_session(alias, session)?;
        let has_changed = inner.hear(alias, heard);
        drop(inner);
        if has_changed {
            self.note_change();
        }
        Ok(())
    }

    /// The agent says that it ends.
    pub fn leave(&self, alias: &Alias, session: SessionId) -> Result<()> {
        let mut inner = self.inner();
        inner.check_session(alias, session)?;
        inner.sessions.remove(alias);
        let agent = inner.tablets.get_mut(alias);
        let has_changed = agent.is_some_and(|agent| {
            let served = agent.serves();
            agent.has_left = true;
            served
        });
        drop(inner);
        if has_changed {
            self.note_change();
        }
        Ok(())
    }

    /// What an agent says, in whatever session.
    #[cfg(test)]
    pub fn record(&self, alias: &Alias, heard: Heard) {
        if self.inner().hear(alias, heard) {
            self.note_change();
        }
    }

    /// An agent has registered: it counts as heard, and what it said before stands until it says
    /// more.
    pub fn meet(&self, alias: &Alias, instance: String, at_unix_ms: u64) {
        let mut inner = self.inner();
        let known = inner.tablets.remove(alias).map(|agent| agent.heard);
        let known = known.filter(|heard| heard.instance == instance);
        let heard = Heard {
            instance,
            at: Instant::now(),
            at_unix_ms,
            status: known.map_or_else(Default::default, |heard| heard.status),
        };
        inner.hear(alias, heard);
        drop(inner);
        self.note_change();
    }

    /// An answer to a call shows that the agent is there, as a heartbeat does.
    pub fn touch(&self, alias: &Alias) {
        if let Some(agent) = self.inner().tablets.get_mut(alias) {
            agent.heard.at = Instant::now();
        }
    }

    pub fn forget(&self, alias: &Alias) {
        let mut inner = self.inner();
        inner.tablets.remove(alias);
        inner.sessions.remove(alias);
    }

    /// The last word of an agent that is there.
    pub fn seen_status(&self, alias: &Alias) -> Option<v1::TabletStatus> {
        let inner = self.inner();
        let agent = inner.tablets.get(alias).filter(|agent| agent.is_there());
        agent.map(|agent| agent.heard.status.clone())
    }

    /// What is known of an agent now.
    pub fn presence(&self, tablet: &Tablet) -> Presence {
        let inner = self.inner();
        let agent = inner.tablets.get(&tablet.alias);
        Presence {
            heard: agent.map(|agent| agent.heard.clone()),
            is_silent: Hearing(&inner).is_silent(tablet),
            serves: agent.is_some_and(Agent::serves),
        }
    }

    /// Looks at all agents at one moment.
    pub fn look<T>(&self, look: impl FnOnce(&Hearing<'_>) -> T) -> T {
        look(&Hearing(&self.inner()))
    }

    pub fn is_there(&self, alias: &Alias) -> bool {
        self.inner().tablets.get(alias).is_some_and(Agent::is_there)
    }

    /// The next of the moments, `every` apart, at which what has gathered is answered together.
    pub fn gathered(&self, every: Duration) -> Instant {
        let now = Instant::now();
        let since = self.inner().in_office_since.unwrap_or(now);
        let over = (now - since).as_nanos() % every.as_nanos().max(1);
        now + every.saturating_sub(Duration::from_nanos(u64::try_from(over).unwrap_or(0)))
    }

    /// How long an agent has been silent, counted from no earlier than this leader's office.
    pub fn silence(&self, alias: &Alias) -> Duration {
        let inner = self.inner();
        let heard = inner.tablets.get(alias).map(|agent| agent.heard.at);
        heard
            .or(inner.in_office_since)
            .map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether agents that are there may not have been heard by this leader yet.
    pub fn is_young(&self) -> bool {
        self.inner().is_young()
    }

    /// Whether the given instance of an agent is there.
    pub fn seen(&self, alias: &Alias, instance: &str) -> Seen {
        let inner = self.inner();
        match inner.tablets.get(alias) {
            Some(agent) if agent.heard.instance == instance && agent.is_there() => Seen::Yes,
            Some(agent) if agent.heard.instance == instance && agent.has_left => Seen::No,
            _ if inner.is_young() => Seen::Unknown,
            _ => Seen::No,
        }
    }

    pub fn set_progress(&self, operation: OperationId, progress: v1::Progress) {
        self.inner().progress.insert(operation, progress);
    }

    pub fn clear_progress(&self, operation: OperationId) {
        self.inner().progress.remove(&operation);
    }

    pub fn progress(&self, operation: OperationId) -> Option<v1::Progress> {
        self.inner().progress.get(&operation).cloned()
    }

    /// Changes whenever a tablet begins or ends to serve.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl Inner {
    fn check_session(&self, alias: &Alias, session: SessionId) -> Result<()> {
        if self.sessions.get(alias) == Some(&session) {
            return Ok(());
        }
        Err(Error::cancelled(format!(
            "the agent of {alias} has begun another session"
        )))
    }
}

#[cfg(test)]
mod tests {
    use seawall_common::ErrorKind;

    use super::*;

    fn heard(instance: &str) -> Heard {
        Heard {
            instance: instance.into(),
            at: Instant::now(),
            at_unix_ms: 1,
            status: v1::TabletStatus::default(),
        }
    }

    fn serving(instance: &str) -> Heard {
        let mut heard = heard(instance);
        heard.status.serving = true;
        heard
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_sessions_the_later_one_is_heard_and_a_farewell_counts_at_once() {
        let heartbeats = Heartbeats::new();
        heartbeats.take_office();
        let alias: Alias = "zone1-101".parse().unwrap();
        let mut changes = heartbeats.changes();
        let first = heartbeats.begin_session(&alias);
        heartbeats.hear(&alias, first, serving("a")).unwrap();
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        heartbeats.hear(&alias, first, serving("a")).unwrap();
        assert!(!changes.has_changed().unwrap(), "nothing new was said");

        let second = heartbeats.begin_session(&alias);
        heartbeats.hear(&alias, second, serving("a")).unwrap();
        let late = heartbeats.hear(&alias, first, heard("a")).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Cancelled);
        heartbeats.leave(&alias, first).unwrap_err();
        assert!(heartbeats.is_there(&alias));

        heartbeats.leave(&alias, second).unwrap();
        assert!(changes.has_changed().unwrap());
        assert!(!heartbeats.is_there(&alias));
        // Another one may have the alias at once, although this leader is young.
        assert_eq!(heartbeats.seen(&alias, "a"), Seen::No);
        assert_eq!(heartbeats.silence(&alias), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_comes_back_after_silence_is_a_change_although_it_says_the_same() {
        let heartbeats = Heartbeats::new();
        heartbeats.take_office();
        let alias: Alias = "zone1-101".parse().unwrap();
        let session = heartbeats.begin_session(&alias);
        heartbeats.hear(&alias, session, serving("a")).unwrap();
        tokio::time::advance(SEEN_WITHIN + Duration::from_millis(1)).await;
        let mut changes = heartbeats.changes();
        heartbeats.hear(&alias, session, serving("a")).unwrap();
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        // Registering again says nothing of how it is.
        heartbeats.meet(&alias, "a".into(), 1);
        assert!(heartbeats.seen_status(&alias).unwrap().serving);
        heartbeats.meet(&alias, "b".into(), 1);
        assert!(!heartbeats.seen_status(&alias).unwrap().serving);
    }

    #[tokio::test(start_paused = true)]
    async fn a_young_leader_does_not_take_an_agent_for_gone() {
        let heartbeats = Heartbeats::new();
        heartbeats.take_office();
        let alias: Alias = "zone1-101".parse().unwrap();
        assert_eq!(heartbeats.seen(&alias, "a"), Seen::Unknown);
        heartbeats.record(&alias, heard("a"));
        assert_eq!(heartbeats.seen(&alias, "a"), Seen::Yes);
        tokio::time::advance(SEEN_WITHIN + Duration::from_secs(1)).await;
        assert_eq!(heartbeats.seen(&alias, "a"), Seen::No);
        assert!(heartbeats.seen_status(&alias).is_none());
        heartbeats.take_office();
        assert_eq!(heartbeats.seen(&alias, "a"), Seen::Unknown);
        assert_eq!(heartbeats.silence(&alias), Duration::ZERO);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(heartbeats.silence(&alias), Duration::from_secs(7));
    }
}
