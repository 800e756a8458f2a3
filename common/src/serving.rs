//! The tablets that serve, as whoever watches them knows them.

use std::{collections::BTreeMap, time::Duration};

use seawall_proto::v1::{
    ServingTablet, ServingUpdate, WatchServingRequest, topology_client::TopologyClient,
};
use tokio::time::{sleep, timeout};
use tonic::Streaming;

use crate::{
    coordinators::Coordinators,
    error::{Error, Result},
};

/// A watch says every five seconds that it goes on: one that has said nothing for so long is given
/// up.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// At least, and at most, before a group that refuses or is away is asked again.
const PAUSE_SECONDS: std::ops::Range<f64> = 0.2..1.0;

pub type Tablets = BTreeMap<String, ServingTablet>;

/// The set that updates come to. While the whole set is told anew, the one that was known before
/// stands.
#[derive(Debug, Default)]
pub struct ServingSet {
    known: Option<Tablets>,
    coming: Option<Tablets>,
}

impl ServingSet {
    /// None: it was never complete.
    pub fn tablets(&self) -> Option<&Tablets> {
        self.known.as_ref()
    }

    /// Whether the set that is known may be another one now, or has come to be known.
    pub fn take(&mut self, update: ServingUpdate) -> bool {
        if update.begins {
            self.coming = Some(Tablets::new());
        }
        let is_known = self.coming.is_none() && self.known.is_some();
        let mut is_news = is_known && !(update.changed.is_empty() && update.gone.is_empty());
        // Changes before the beginning belong to nothing.
        if let Some(tablets) = self.coming.as_mut().or(self.known.as_mut()) {
            for alias in &update.gone {
                tablets.remove(alias);
            }
            for tablet in update.changed {
                tablets.insert(tablet.alias.clone(), tablet);
            }
        }
        if update.complete
            && let Some(coming) = self.coming.take()
        {
            is_news = true;
            self.known = Some(coming);
        }
        is_news
    }

    /// What was being told is not told to its end.
    fn break_off(&mut self) {
        self.coming = None;
    }
}

/// Keeps the set of a group by watching whichever member answers.
pub struct ServingWatch<'a> {
    coordinators: &'a Coordinators,
    request: WatchServingRequest,
    stream: Option<Streaming<ServingUpdate>>,
    set: ServingSet,
}

impl<'a> ServingWatch<'a> {
    /// Of all shards, of a keyspace's, or of one.
    pub fn new(coordinators: &'a Coordinators, keyspace: &str, shard: &str) -> Self {
        Self {
            coordinators,
            request: WatchServingRequest {
                keyspace: keyspace.to_owned(),
                shard: shard.to_owned(),
            },
            stream: None,
            set: ServingSet::default(),
        }
    }

    /// Waits until the set is known and is another one than before. Goes on when the leader changes;
    /// an error is one that asking again does not mend.
    pub async fn changed(&mut self) -> Result<&Tablets> {
        loop {
            match self.update().await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) if error.is_retryable() => {
                    tracing::debug!("the watch of what serves has ended: {error}");
                    self.stream = None;
                    self.set.break_off();
                    sleep(Duration::from_secs_f64(rand::random_range(PAUSE_SECONDS))).await;
                }
                Err(error) => return Err(error),
            }
        }
        let known = self.set.tablets();
        known.ok_or_else(|| Error::internal("a set that is news and is not known"))
    }

    async fn update(&mut self) -> Result<bool> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let begun = self.coordinators.ask(|channel| {
                    let request = self.request.clone();
                    async move { TopologyClient::new(channel).watch_serving(request).await }
                });
                none.insert(begun.await?)
            }
        };
        let update = timeout(SILENCE_MAX, stream.message()).await;
        let update = update.map_err(|_| {
            Error::timeout(format!("a watch has said nothing for {SILENCE_MAX:?}"))
        })??;
        match update {
            Some(update) => Ok(self.set.take(update)),
            None => Err(Error::unavailable("the watch has ended")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tablet(alias: &str, epoch: u64) -> ServingTablet {
        ServingTablet {
            alias: alias.to_owned(),
            epoch,
            ..ServingTablet::default()
        }
    }

    fn update(
        begins: bool,
        changed: &[(&str, u64)],
        gone: &[&str],
        complete: bool,
    ) -> ServingUpdate {
        ServingUpdate {
            begins,
            changed: changed
                .iter()
                .map(|(alias, epoch)| tablet(alias, *epoch))
                .collect(),
            gone: gone.iter().map(|alias| (*alias).to_owned()).collect(),
            complete,
        }
    }

    fn known(set: &ServingSet) -> Vec<(&str, u64)> {
        let tablets = set.tablets().unwrap();
        tablets
            .iter()
            .map(|(alias, tablet)| (alias.as_str(), tablet.epoch))
            .collect()
    }

    #[test]
    fn the_set_is_known_when_it_is_complete_and_stands_until_another_one_is() {
        let mut set = ServingSet::default();
        assert!(!set.take(update(false, &[("early", 1)], &[], false)));
        assert!(!set.take(update(true, &[("a", 1), ("b", 1)], &[], false)));
        assert!(!set.take(update(false, &[("c", 1)], &["a"], false)));
        assert!(set.tablets().is_none());
        assert!(set.take(update(false, &[], &[], true)));
        assert_eq!(known(&set), [("b", 1), ("c", 1)]);
        assert!(!set.take(update(false, &[], &[], true)), "nothing is new");

        assert!(set.take(update(false, &[("b", 2)], &["c", "unknown"], false)));
        assert_eq!(known(&set), [("b", 2)]);
        // Told anew: what is not named any more is gone, but not before the end.
        assert!(!set.take(update(true, &[("d", 3)], &[], false)));
        assert_eq!(known(&set), [("b", 2)]);
        set.break_off();
        assert!(set.take(update(false, &[("b", 4)], &[], false)));
        assert_eq!(known(&set), [("b", 4)]);
        assert!(set.take(update(true, &[("d", 3)], &[], true)));
        assert_eq!(known(&set), [("d", 3)]);
    }
}
