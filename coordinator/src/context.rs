//! What every service and every operation of a running coordinator works with.

use seawall_common::{Error, Result, repository::Repository};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;

use crate::{config::Settings, raft::Node, state::State};

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

pub struct Context {
    pub settings: Settings,
    pub node: Node,
    pub repository: Repository,
    ownership: watch::Sender<Ownership>,
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
            stop: CancellationToken::new(),
        }
    }

    /// Looks at the state for a call: after a quorum has confirmed that nothing newer exists, or,
    /// when the caller asked for it, at once.
    pub async fn read<T>(
        &self,
        metadata: &MetadataMap,
        look: impl FnOnce(&State) -> T,
    ) -> Result<T> {
        if is_stale(metadata.get(STALE_KEY).map(|value| value.as_bytes())) {
            return Ok(self.node.look(look));
        }
        self.node.read(look).await
    }

    pub fn ownership(&self) -> Ownership {
        self.ownership.borrow().clone()
    }

    pub fn set_ownership(&self, ownership: Ownership) {
        self.ownership.send_if_modified(|known| {
            let changed = *known != ownership;
            *known = ownership;
            changed
        });
    }

    /// Refuses unless the repository is known to be this group's to write.
    pub fn check_ownership(&self) -> Result<()> {
        match self.ownership() {
            Ownership::Ours => Ok(()),
            Ownership::Refused(error) => Err(error),
            Ownership::Unknown => Err(Error::unavailable(
                "the repository has not been claimed yet",
            )),
        }
    }
}

/// Whether a value of [`STALE_KEY`] asks for a stale answer.
pub fn is_stale(value: Option<&[u8]>) -> bool {
    value == Some(b"true")
}
