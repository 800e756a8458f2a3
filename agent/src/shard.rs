//! The shard as this agent knows it: its newest epoch, and who is primary in it.
//!
//! The newest epoch wins, whoever tells of it. Only a heartbeat that a coordinator answered in this
//! process's life confirms it: an unconfirmed view is good enough to follow a primary, never to be one.

use seawall_common::{Result, ids::Alias, position::Position};
use seawall_proto::v1;
use tokio::sync::watch;

use crate::{
    engine::Source,
    journal::{Journal, KnownShard},
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shard {
    /// 0: the shard has had no primary yet, or nothing is known of it.
    pub epoch: u64,
    /// Alias of the primary.
    pub alias: String,
    /// Where the primary's database is reached.
    pub primary: Option<Source>,
    /// Where the epoch began: what lies before it is the shard's history, which its primary must have.
    /// Known once it is confirmed.
    pub began_at: Position,
    pub confirmed: bool,
}

impl Shard {
    pub fn is_led_by(&self, alias: &Alias) -> bool {
        self.epoch > 0 && self.alias == alias.to_string()
    }
}

pub struct ShardWatch {
    journal: Journal,
    now: watch::Sender<Shard>,
}

impl ShardWatch {
    /// Begins with what the journal remembers, unconfirmed.
    pub fn new(journal: Journal) -> Self {
        let known = journal.read().shard.clone();
        let now = watch::Sender::new(Shard {
            epoch: known.epoch,
            alias: known.alias,
            primary: known.primary,
            began_at: Position::default(),
            confirmed: false,
        });
        Self { journal, now }
    }

    pub fn now(&self) -> Shard {
        self.now.borrow().clone()
    }

    pub fn subscribe(&self) -> watch::Receiver<Shard> {
        self.now.subscribe()
    }

    /// Takes a coordinator's view in; one that is older than what is known changes nothing.
    pub async fn learn(&self, view: &v1::ShardView, confirmed: bool) -> Result<()> {
        let began_at = began_at(view)?;
        let mut after = Shard::default();
        let changed = self.now.send_if_modified(|now| {
            let next = merge(now, view, began_at.clone(), confirmed);
            let changed = next != *now;
            *now = next.clone();
            after = next;
            changed
        });
        if !changed {
            return Ok(());
        }
        self.journal
            .update(move |contents| {
                let tablet_type = contents.shard.tablet_type;
                let group_id = std::mem::take(&mut contents.shard.group_id);
                contents.shard = KnownShard {
                    group_id,
                    epoch: after.epoch,
                    alias: after.alias,
                    primary: after.primary,
                    tablet_type,
                };
                Ok(())
            })
            .await
    }

    /// Another coordinator group rules from now on: its epochs and terms begin anew.
    pub async fn forget(&self, group_id: String) -> Result<()> {
        self.journal
            .update(move |contents| {
                contents.term = 0;
                contents.shard = KnownShard {
                    group_id,
                    ..KnownShard::default()
                };
                Ok(())
            })
            .await?;
        self.now.send_replace(Shard::default());
        Ok(())
    }
}

fn began_at(view: &v1::ShardView) -> Result<Position> {
    let text = view
        .epoch
        .as_ref()
        .map_or("", |epoch| &epoch.start_position);
    text.parse::<Position>()
        .map_err(|e| e.context("cannot read where the epoch began"))
}

fn merge(known: &Shard, view: &v1::ShardView, began_at: Position, confirmed: bool) -> Shard {
    let epoch = view.epoch.as_ref().map_or(0, |epoch| epoch.number);
    if epoch < known.epoch {
        return known.clone();
    }
    let told = view.primary.as_ref().and_then(|address| {
        Some(Source {
            host: address.host.clone(),
            port: u16::try_from(address.port).ok()?,
        })
        .filter(|source| !source.host.is_empty())
    });
    let is_same = epoch == known.epoch;
    Shard {
        epoch,
        alias: view
            .epoch
            .as_ref()
            .map_or_else(String::new, |epoch| epoch.alias.clone()),
        began_at,
        primary: told.or_else(|| known.primary.clone().filter(|_| is_same)),
        confirmed: confirmed || (is_same && known.confirmed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(number: u64, alias: &str, port: u32) -> v1::ShardView {
        v1::ShardView {
            epoch: Some(v1::Epoch {
                number,
                alias: alias.into(),
                ..Default::default()
            }),
            primary: Some(v1::DatabaseAddress {
                host: "127.0.0.1".into(),
                port,
                server_id: 1,
            }),
        }
    }

    #[tokio::test]
    async fn the_newest_epoch_wins_and_only_a_heartbeat_confirms_it() {
        let directory = tempfile::tempdir().unwrap();
        let watch = ShardWatch::new(Journal::create(directory.path()).unwrap());
        watch.learn(&view(2, "a-2", 3302), false).await.unwrap();
        watch.learn(&view(1, "a-1", 3301), true).await.unwrap();
        let now = watch.now();
        assert_eq!((now.epoch, now.confirmed), (2, false));
        assert!(now.is_led_by(&"a-2".parse().unwrap()));
        watch.learn(&view(2, "a-2", 3302), true).await.unwrap();
        assert!(watch.now().confirmed);
        watch.learn(&view(3, "a-3", 3303), false).await.unwrap();
        assert!(!watch.now().confirmed);

        // What was known is remembered over a restart; that it was confirmed is not.
        watch.learn(&view(3, "a-3", 3303), true).await.unwrap();
        let again = ShardWatch::new(Journal::open(directory.path()).unwrap()).now();
        assert_eq!((again.epoch, again.confirmed), (3, false));
        assert_eq!(again.primary.unwrap().port, 3303);
    }

    #[tokio::test]
    async fn another_group_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let watch = ShardWatch::new(Journal::create(directory.path()).unwrap());
        watch.learn(&view(9, "a-2", 3302), true).await.unwrap();
        watch.forget("group".into()).await.unwrap();
        watch.learn(&view(1, "a-1", 3301), true).await.unwrap();
        assert_eq!(watch.now().epoch, 1);
    }
}
