//! Every call there is: who may make it, and whether it is noted.

use std::fmt;

use super::objects;
use crate::tls::Role;

/// The least role that a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Least {
    /// Whoever has a role: reading, and taking timestamps.
    Viewer,
    /// What changes something.
    Operator,
    /// The same, but an agent may do it for its own tablet; the service looks at that.
    OperatorOrAgent,
    /// What an agent says of its own tablet.
    Agent,
    /// What members of the group say to each other, and to agents.
    Coordinator,
}

impl Least {
    pub fn takes(self, role: Role) -> bool {
        match self {
            Least::Viewer => true,
            Least::Operator => matches!(role, Role::Operator | Role::Coordinator),
            Least::OperatorOrAgent => role != Role::Viewer,
            Least::Agent => role == Role::Agent,
            Least::Coordinator => role == Role::Coordinator,
        }
    }

    pub(super) fn example(self) -> Role {
        match self {
            Least::Viewer => Role::Viewer,
            Least::Operator | Least::OperatorOrAgent => Role::Operator,
            Least::Agent => Role::Agent,
            Least::Coordinator => Role::Coordinator,
        }
    }
}

impl fmt::Display for Least {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Least::OperatorOrAgent => f.write_str("operator or agent"),
            other => other.example().fmt(f),
        }
    }
}

/// What is noted of a call.
#[derive(Clone, Copy)]
pub enum Record {
    /// Nothing: it changes nothing.
    Reads,
    /// One line; says what a request is about, none when it is no such request.
    Changes(fn(&[u8]) -> Option<String>),
    /// Nothing, although it is no mere reading: for this reason.
    Unnoted(&'static str),
}

pub struct Method {
    /// `Service/Call`
    pub name: &'static str,
    pub least: Least,
    pub record: Record,
    pub lasts: Lasts,
}

/// How long a call is under way, and so which of the limits is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// Until it is answered.
    ACall,
    /// A client is told of changes, until somebody ends it.
    AWatch,
    /// An agent is heard, for as long as it is there.
    ASession,
}

const fn reads(name: &'static str) -> Method {
    Method {
        name,
        least: Least::Viewer,
        record: Record::Reads,
        lasts: Lasts::ACall,
    }
}

const fn changes(name: &'static str, object: fn(&[u8]) -> Option<String>) -> Method {
    Method {
        name,
        least: Least::Operator,
        record: Record::Changes(object),
        lasts: Lasts::ACall,
    }
}

const fn unnoted(name: &'static str, least: Least, why: &'static str) -> Method {
    Method {
        name,
        least,
        record: Record::Unnoted(why),
        lasts: Lasts::ACall,
    }
}

impl Method {
    /// Of a request that has come through the layer; none: it is no call of Seawall's own.
    pub fn of_request<T>(request: &http::Request<T>) -> Option<&'static Self> {
        request.extensions().get::<&'static Self>().copied()
    }

    pub fn service(&self) -> &'static str {
        self.name.split('/').next().unwrap_or_default()
    }

    /// Whether a coordinator's answer goes on until somebody ends it.
    pub fn is_stream(&self) -> bool {
        self.lasts != Lasts::ACall
    }

    const fn least(mut self, least: Least) -> Self {
        self.least = least;
        self
    }

    const fn watch(mut self) -> Self {
        self.lasts = Lasts::AWatch;
        self
    }

    const fn session(mut self) -> Self {
        self.lasts = Lasts::ASession;
        self
    }
}

const RAFT: &str = "how the group agrees; what it agrees on is noted where it was asked for";
const STEP: &str = "a step of an operation that is noted where it was asked for";

pub static METHODS: &[Method] = &[
    unnoted(
        "Timestamps/Fetch",
        Least::Viewer,
        "there are a million a second, and nobody's data depends on one",
    ),
    changes("Timestamps/FastForward", objects::fast_forward),
    reads("Timestamps/Notes"),
    changes("Locks/Acquire", objects::acquire),
    unnoted(
        "Locks/KeepAlive",
        Least::Operator,
        "a holder says every moment that it is there; its hold was noted when it was granted",
    ),
    changes("Locks/Release", objects::release),
    changes("Locks/Break", objects::break_hold),
    reads("Locks/List"),
    changes("Topology/InitTablet", objects::init_tablet),
    changes("Topology/RemoveTablet", objects::remove_tablet),
    reads("Topology/ListTablets"),
    changes("Topology/ChangeTabletType", objects::change_tablet_type),
    reads("Topology/GetHistory"),
    reads("Topology/WatchServing").watch(),
    reads("Transfers/Status"),
    changes("Transfers/SetThrottle", objects::set_throttle),
    changes("Operations/Start", objects::start).least(Least::OperatorOrAgent),
    changes("Operations/StartBackups", objects::start_backups),
    changes("Operations/StartRemoveRecipient", objects::remove_recipient),
    reads("Operations/PlanRestore"),
    reads("Operations/PlanRemoval"),
    reads("Operations/PlanRecipientRemoval"),
    reads("Operations/List"),
    reads("Operations/Get"),
    reads("Operations/Watch").watch(),
    changes("Operations/Cancel", objects::cancel),
    reads("Catalogue/ListBackups"),
    reads("Catalogue/GetBackup"),
    changes("Catalogue/MarkBackupBroken", objects::mark_broken),
    changes("Catalogue/PinBackup", objects::pin),
    changes("Catalogue/UnpinBackup", objects::unpin),
    changes("Retention/SetRetention", objects::set_retention),
    reads("Retention/GetRetention"),
    changes("Retention/ResumeRetention", objects::nothing),
    reads("Retention/PlanCollection"),
    changes("Schedules/SetSchedule", objects::set_schedule),
    reads("Schedules/ListSchedules"),
    changes("Schedules/RemoveSchedule", objects::remove_schedule),
    changes("Schedules/PauseSchedule", objects::pause_schedule),
    changes("Schedules/ResumeSchedule", objects::resume_schedule),
    reads("Cluster/Status"),
    reads("Cluster/GroupStatus"),
    unnoted(
        "Members/Add",
        Least::Operator,
        "its answer is a stream; the service writes the line when it knows what came of it",
    )
    .watch(),
    changes("Members/Remove", objects::remove_member),
    changes("Members/Backup", objects::nothing),
    reads("Members/ListBackups"),
    changes("Agents/Register", objects::register).least(Least::Agent),
    unnoted(
        "Agents/Session",
        Least::Agent,
        "a heartbeat a second; the group's state changes only by what follows from them",
    )
    .session(),
    changes("Agents/AnnounceManifest", objects::announce).least(Least::Agent),
    unnoted("Raft/AppendEntries", Least::Coordinator, RAFT),
    unnoted("Raft/AppendStream", Least::Coordinator, RAFT),
    unnoted("Raft/Vote", Least::Coordinator, RAFT),
    unnoted("Raft/InstallSnapshot", Least::Coordinator, RAFT),
    unnoted("Raft/Hello", Least::Coordinator, RAFT),
    unnoted("Agent/Execute", Least::Coordinator, STEP),
    reads("Agent/Status").least(Least::Coordinator),
    reads("Agent/TransferStatus").least(Least::Coordinator),
    unnoted("Agent/SetThrottle", Least::Coordinator, STEP),
    reads("Agent/PlanFetch").least(Least::Coordinator),
];

/// By `Service/Call`.
pub fn method(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}
