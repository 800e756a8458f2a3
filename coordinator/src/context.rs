//! What every service and every operation of a running coordinator works with.

use seawall_common::{Error, clock::now_unix_ms, repository::Repository};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{config::Settings, raft::Node};

/// Metadata of a call that the member shall answer from what it has applied.
pub const STALE_KEY: &str = "seawall-stale";

/// Whether the repository is this group's to write.
#[derive(Clone, Debug, PartialEq)]
pub enum Ownership {
    /// Not looked yet.
    Unknown,
    Ours,
    /// Why it is not.
    Refused(Error),
}

/// What came of the last look at the repository.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Looked {
    /// None: it was there.
    pub error: Option<Error>,
    /// 0: nobody has looked yet.
    pub at_unix_ms: u64,
}

pub struct Context {
    pub settings: Settings,
    pub node: Node,
    pub repository: Repository,
    ownership: watch::Sender<Ownership>,
    looked: watch::Sender<Looked>,
    /// Cancelled when the process is to end: streams end then.
    pub stop: CancellationToken,
}

impl Context {
    pub fn new(settings: Settings, node: Node, repository: Repository) -> Self {
        Self {
            settings,
            node,
            repository,
            ownership: watch::Sender::new(Ownership::Unknown),
            looked: watch::Sender::default(),
            stop: CancellationToken::new(),
        }
    }

    pub fn ownership(&self) -> Ownership {
        self.ownership.borrow().clone()
    }

    pub fn looked(&self) -> Looked {
        self.looked.borrow().clone()
    }

    pub fn set_looked(&self, error: Option<Error>) {
        let at_unix_ms = now_unix_ms();
        self.looked.send_replace(Looked { error, at_unix_ms });
    }

    pub fn set_ownership(&self, ownership: Ownership) {
        self.ownership.send_if_modified(|known| {
            let changed = *known != ownership;
            *known = ownership;
            changed
        });
    }
}

/// Whether a value of [`STALE_KEY`] asks for a stale answer.
pub fn is_stale(value: Option<&[u8]>) -> bool {
    value == Some(b"true")
}
