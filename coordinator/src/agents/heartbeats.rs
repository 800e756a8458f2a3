//! The leader's memory: when each agent was last heard and what it said, and how far each
//! operation says it is. Never in the log; a new leader begins with nothing and gives every agent
//! the time to be heard before it draws conclusions.
//!
//! Two things are kept apart. An agent *is there* while anything is heard of it: it registers, it
//! talks, it answers a call. How its tablet *is*, and whether it serves, only a heartbeat says, and
//! it counts for its time and no longer.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
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

/// A heartbeat.
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
    pub last_heard: Option<LastHeard>,
    /// What its last heartbeat said, however long ago; none: there was none.
    pub status: Option<v1::TabletStatus>,
    pub is_silent: bool,
    pub serves: bool,
}

/// When something was heard of an agent, whatever it was.
#[derive(Clone, Copy, Debug)]
pub struct LastHeard {
    pub at: Instant,
    pub at_unix_ms: u64,
}

/// What the leader has heard, for as long as it is looked at.
pub struct Hearing<'a>(&'a Inner);

impl Hearing<'_> {
    /// Until when a tablet that serves does so, if nothing more is heard of its agent.
    pub fn serves_until(&self, alias: &Alias) -> Option<Instant> {
        self.0.tablets.get(alias).and_then(Agent::serves_until)
    }

    /// Whether the agent of a tablet is not there, as far as this leader can tell.
    pub fn is_silent(&self, tablet: &Tablet) -> bool {
        let has_had_time = self.0.in_office_since.is_some() && !self.0.is_young();
        let agent = self.0.tablets.get(&tablet.alias);
        tablet.is_registered() && agent.map_or(has_had_time, |agent| !agent.is_there())
    }

    /// Whether an agent has not said yet how its tablet is, and has not had the time for it.
    pub fn is_awaited(&self, alias: &Alias) -> bool {
        let agent = self.0.tablets.get(alias);
        self.0.is_young() && agent.is_none_or(|agent| agent.said.is_none() && !agent.has_left)
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
    sessions: BTreeMap<Alias, Session>,
    sessions_begun: u64,
    progress: BTreeMap<OperationId, v1::Progress>,
    /// Tablets that have begun or ended to serve, or to be awaited, and that nobody has looked at since.
    changed: BTreeSet<Alias>,
}

struct Session {
    id: SessionId,
    instance: String,
}

struct Agent {
    instance: String,
    last_heard: LastHeard,
    said: Option<Said>,
    /// It has said that it ends.
    has_left: bool,
}

/// The last heartbeat.
struct Said {
    at: Instant,
    status: v1::TabletStatus,
}

impl Agent {
    fn is_there(&self) -> bool {
        !self.has_left && self.last_heard.at.elapsed() <= SEEN_WITHIN
    }

    /// What it has said and still counts.
    fn says(&self) -> Option<&Said> {
        let said = self.said.as_ref().filter(|_| !self.has_left);
        said.filter(|said| said.at.elapsed() <= SEEN_WITHIN)
    }

    fn serves(&self) -> bool {
        self.serves_until().is_some()
    }

    fn serves_until(&self) -> Option<Instant> {
        let said = self.says().filter(|said| said.status.serving);
        said.map(|said| said.at + SEEN_WITHIN)
    }
}

impl Inner {
    fn is_young(&self) -> bool {
        self.in_office_since
            .is_none_or(|since| since.elapsed() <= SEEN_WITHIN)
    }

    /// Whether a tablet has begun or ended to serve with that, or was awaited.
    fn hear(&mut self, alias: &Alias, heard: Heard) -> bool {
        let serves = heard.status.serving;
        let agent = Agent {
            instance: heard.instance,
            last_heard: LastHeard {
                at: heard.at,
                at_unix_ms: heard.at_unix_ms,
            },
            said: Some(Said {
                at: heard.at,
                status: heard.status,
            }),
            has_left: false,
        };
        let before = self.tablets.insert(alias.clone(), agent);
        let is_as_before =
            before.is_some_and(|before| before.said.is_some() && before.serves() == serves);
        if !is_as_before {
            self.changed.insert(alias.clone());
        }
        !is_as_before
    }

    fn check_session(&self, alias: &Alias, session: SessionId) -> Result<()> {
        if self.sessions.get(alias).map(|known| known.id) == Some(session) {
            return Ok(());
        }
        Err(Error::cancelled(format!(
            "this stream of the agent of {alias} is over: another one has begun, or another agent \
             has registered"
        )))
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

    /// The agent begins to talk; a talk that it had before is over. It has said nothing yet.
    pub fn begin_session(&self, alias: &Alias, instance: &str) -> SessionId {
        let mut inner = self.inner();
        inner.sessions_begun += 1;
        let id = SessionId(inner.sessions_begun);
        let instance = instance.to_owned();
        let session = Session { id, instance };
        inner.sessions.insert(alias.clone(), session);
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
        if let Some(agent) = inner.tablets.get_mut(alias) {
            agent.has_left = true;
        }
        inner.changed.insert(alias.clone());
        drop(inner);
        self.note_change();
        Ok(())
    }

    /// What an agent says, in whatever session.
    #[cfg(test)]
    pub fn record(&self, alias: &Alias, heard: Heard) {
        if self.inner().hear(alias, heard) {
            self.note_change();
        }
    }

    /// An agent has registered: it is there. What the same one said before, if it has been there all
    /// the time, stands for as long as it would have; of another one nothing does.
    pub fn meet(&self, alias: &Alias, instance: &str, at_unix_ms: u64) {
        let mut inner = self.inner();
        let before = inner.tablets.remove(alias);
        let same = before.filter(|agent| agent.instance == instance && agent.is_there());
        let at = Instant::now();
        let agent = Agent {
            instance: instance.to_owned(),
            last_heard: LastHeard { at, at_unix_ms },
            said: same.and_then(|agent| agent.said),
            has_left: false,
        };
        inner.tablets.insert(alias.clone(), agent);
        let session = inner.sessions.get(alias);
        if session.is_some_and(|session| session.instance != instance) {
            inner.sessions.remove(alias);
        }
        inner.changed.insert(alias.clone());
        drop(inner);
        self.note_change();
    }

    /// An answer to a call shows that the agent is there; it says nothing of its tablet.
    pub fn touch(&self, alias: &Alias) {
        if let Some(agent) = self.inner().tablets.get_mut(alias) {
            agent.last_heard.at = Instant::now();
        }
    }

    pub fn forget(&self, alias: &Alias) {
        let mut inner = self.inner();
        inner.tablets.remove(alias);
        inner.sessions.remove(alias);
        inner.changed.insert(alias.clone());
        drop(inner);
        self.note_change();
    }

    /// The last word of an agent, while it counts.
    pub fn seen_status(&self, alias: &Alias) -> Option<v1::TabletStatus> {
        let inner = self.inner();
        let said = inner.tablets.get(alias).and_then(Agent::says);
        said.map(|said| said.status.clone())
    }

    /// What is known of an agent now.
    pub fn presence(&self, tablet: &Tablet) -> Presence {
        let inner = self.inner();
        let agent = inner.tablets.get(&tablet.alias);
        let said = agent.and_then(|agent| agent.said.as_ref());
        Presence {
            last_heard: agent.map(|agent| agent.last_heard),
            status: said.map(|said| said.status.clone()),
            is_silent: Hearing(&inner).is_silent(tablet),
            serves: agent.is_some_and(Agent::serves),
        }
    }

    /// Looks at all agents at one moment.
    pub fn look<T>(&self, look: impl FnOnce(&Hearing<'_>) -> T) -> T {
        look(&Hearing(&self.inner()))
    }

    /// The same, with the tablets that have begun or ended to serve, or to be awaited, since the last
    /// look of this kind. That a heartbeat is too old to count is no change that is noted here.
    pub fn look_at_changes<T>(&self, look: impl FnOnce(&Hearing<'_>, BTreeSet<Alias>) -> T) -> T {
        let mut inner = self.inner();
        let changed = mem::take(&mut inner.changed);
        look(&Hearing(&inner), changed)
    }

    pub fn is_there(&self, alias: &Alias) -> bool {
        self.inner().tablets.get(alias).is_some_and(Agent::is_there)
    }

    /// Whether an agent is there, or this leader is too young to know.
    pub fn may_be_there(&self, alias: &Alias) -> bool {
        let inner = self.inner();
        let agent = inner.tablets.get(alias);
        agent.map_or(inner.is_young(), Agent::is_there)
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
        let heard = inner.tablets.get(alias).map(|agent| agent.last_heard.at);
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
            Some(agent) if agent.instance == instance && agent.is_there() => Seen::Yes,
            Some(agent) if agent.instance == instance && agent.has_left => Seen::No,
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

    /// Changes whenever a tablet begins or ends to serve, or to be awaited.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests;
