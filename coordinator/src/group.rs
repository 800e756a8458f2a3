//! The coordinator group, as services and sagas use it. In the program it is a Raft [`Node`];
//! tests put a state in memory in its place, which is what this trait is for.

use async_trait::async_trait;
use seawall_common::Result;
use tokio::sync::watch;

use crate::{
    raft::{Leadership, Node},
    state::{Command, Response, State},
};

#[async_trait]
pub trait Group: Send + Sync + 'static {
    /// Commits and applies `command` on this member; a refusal comes as the error that it names.
    /// After a timeout or a change of leader it may still take effect.
    async fn propose(&self, command: Command) -> Result<Response>;

    /// Proves, by a quorum round that begins now, that this member leads and has applied all that
    /// was committed before; answers its term.
    async fn prove_leadership(&self) -> Result<u64>;

    /// Looks at the state as this member has applied it. The state is locked meanwhile.
    fn look_with(&self, look: &mut dyn FnMut(&State));

    /// The last entry of the log that this member has applied.
    fn last_applied(&self) -> u64;

    /// Changes when commands have been applied, and soon after the first of many.
    fn applied(&self) -> watch::Receiver<u64>;

    fn leadership(&self) -> watch::Receiver<Leadership>;
}

impl dyn Group {
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        let mut look = Some(look);
        let mut seen = None;
        self.look_with(&mut |state| {
            if let Some(look) = look.take() {
                seen = Some(look(state));
            }
        });
        // `look_with` calls its closure once: anything else is a defect of the implementation.
        seen.unwrap_or_else(|| unreachable!("a group that did not show its state"))
    }

    /// Looks at the state when it is proved that nothing newer exists.
    pub async fn read<T>(&self, look: impl FnOnce(&State) -> T) -> Result<T> {
        self.prove_leadership().await?;
        Ok(self.look(look))
    }
}

#[async_trait]
impl Group for Node {
    async fn propose(&self, command: Command) -> Result<Response> {
        Node::propose(self, command).await
    }

    async fn prove_leadership(&self) -> Result<u64> {
        Node::prove_leadership(self).await
    }

    fn look_with(&self, look: &mut dyn FnMut(&State)) {
        Node::look(self, look);
    }

    fn last_applied(&self) -> u64 {
        Node::last_applied(self)
    }

    fn applied(&self) -> watch::Receiver<u64> {
        Node::applied(self)
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        Node::leadership(self)
    }
}
