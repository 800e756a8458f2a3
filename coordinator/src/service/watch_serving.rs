//! What one watcher of the serving set is told: the whole set in pages, that it is complete, and
//! then every change. Whoever is too slow for that is told the whole set anew; nothing queues up.
//!
//! Pages are read from the set as it is at that moment, and the changes since the first page follow
//! the last one: only then it is complete.

use std::{ops::ControlFlow, pin::Pin, sync::Arc};

use futures::{Stream, stream};
use seawall_common::{Error, Result, ids::Alias};
use seawall_proto::v1;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tonic::Status;

use super::convert;
use crate::{
    agents::{
        filter::Filter,
        serving::{Change, Served, Told},
    },
    operation::Coordination,
};

/// Tablets that one message names.
const PAGE_MAX: usize = 256;

pub type Updates = Pin<Box<dyn Stream<Item = Result<v1::ServingUpdate, Status>> + Send>>;

struct Watcher {
    context: Arc<Coordination>,
    filter: Filter,
    told: Receiver<Arc<Told>>,
    /// That of the last change that was taken from `told`.
    revision: u64,
    at: At,
    /// The pages have been told; with this revision the set is complete.
    complete_at: Option<u64>,
    /// A change of which only so many tablets have been told.
    within: Option<(Arc<Told>, usize)>,
}

enum At {
    /// Not all agents have been heard yet: what could be told is that they do not serve.
    Waiting,
    /// Behind the page that ended with this alias; none: before the first one.
    Pages(Option<Alias>),
    Changes,
}

pub fn updates(context: Arc<Coordination>, filter: Filter) -> Updates {
    let subscription = context.serving.subscribe();
    let watcher = Watcher {
        told: subscription.told,
        revision: subscription.revision,
        context,
        filter,
        at: At::Waiting,
        complete_at: None,
        within: None,
    };
    Box::pin(stream::unfold(Some(watcher), |watcher| async {
        let mut watcher = watcher?;
        match watcher.next().await {
            Ok(update) => Some((Ok(update), Some(watcher))),
            Err(error) => Some((Err(error.into()), None)),
        }
    }))
}

impl Watcher {
    async fn next(&mut self) -> Result<v1::ServingUpdate> {
        loop {
            if let ControlFlow::Break(update) = self.step().await? {
                return Ok(update);
            }
        }
    }

    async fn step(&mut self) -> Result<ControlFlow<v1::ServingUpdate>> {
        match &self.at {
            At::Waiting => {
                if self.context.serving.is_heard(&self.filter) {
                    self.begin().await?;
                } else {
                    self.hear().await?;
                }
                Ok(ControlFlow::Continue(()))
            }
            At::Pages(after) => {
                let after = after.clone();
                self.context.serving.turn().await;
                Ok(ControlFlow::Break(self.page(after)))
            }
            At::Changes => self.change().await,
        }
    }

    /// From here on the whole set is told. What this watcher has missed may be that this member could
    /// not prove that it leads: so it is proved anew first. Should it lead anew by then, the set is
    /// waited for.
    async fn begin(&mut self) -> Result<()> {
        self.context.group.prove_leadership().await?;
        let subscription = self.context.serving.subscribe();
        self.told = subscription.told;
        self.revision = subscription.revision;
        self.at = match self.context.serving.is_heard(&self.filter) {
            true => At::Pages(None),
            false => At::Waiting,
        };
        self.complete_at = None;
        self.within = None;
        Ok(())
    }

    fn page(&mut self, after: Option<Alias>) -> v1::ServingUpdate {
        let serving = &self.context.serving;
        let page = serving.page(after.as_ref(), PAGE_MAX, &self.filter);
        let tablets = page.tablets.iter();
        let mut update = v1::ServingUpdate {
            begins: after.is_none(),
            changed: tablets
                .map(|(alias, served)| tablet(alias, served))
                .collect(),
            ..v1::ServingUpdate::default()
        };
        self.at = match page.until {
            Some(alias) => At::Pages(Some(alias)),
            None => {
                update.complete = self.revision >= page.revision;
                self.complete_at = (!update.complete).then_some(page.revision);
                At::Changes
            }
        };
        update
    }

    async fn change(&mut self) -> Result<ControlFlow<v1::ServingUpdate>> {
        if let Some((told, from)) = self.within.take() {
            return Ok(self.part(told, from));
        }
        if self.complete_at.is_some_and(|at| self.revision >= at) {
            self.complete_at = None;
            return Ok(ControlFlow::Break(complete()));
        }
        let Some(told) = self.hear().await? else {
            self.begin().await?;
            return Ok(ControlFlow::Continue(()));
        };
        match &*told {
            Told::Change(change) => {
                self.revision = change.revision;
                self.within = Some((told, 0));
                Ok(ControlFlow::Continue(()))
            }
            Told::Assurance if self.complete_at.is_none() => Ok(ControlFlow::Break(complete())),
            Told::Assurance | Told::Over => Ok(ControlFlow::Continue(())),
        }
    }

    /// What is told next; none: this watcher has missed something.
    async fn hear(&mut self) -> Result<Option<Arc<Told>>> {
        match self.told.recv().await {
            Ok(told) => match &*told {
                Told::Over => Err(Error::unavailable(
                    "it is not known whether this coordinator still leads the group",
                )),
                _ => Ok(Some(told)),
            },
            Err(RecvError::Lagged(_)) => Ok(None),
            Err(RecvError::Closed) => Err(Error::unavailable("this coordinator is stopping")),
        }
    }

    /// As much of a change as fits into a message.
    fn part(&mut self, told: Arc<Told>, from: usize) -> ControlFlow<v1::ServingUpdate> {
        let Told::Change(change) = &*told else {
            return ControlFlow::Continue(());
        };
        let (update, until) = part(change, from, &self.filter);
        if until < change.changed.len() + change.gone.len() {
            self.within = Some((told, until));
        }
        match update.changed.is_empty() && update.gone.is_empty() {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(update),
        }
    }
}

/// A message of what is wanted of a change, from so many tablets on, and up to which that goes.
fn part(change: &Change, from: usize, filter: &Filter) -> (v1::ServingUpdate, usize) {
    let mut update = v1::ServingUpdate::default();
    // First what is gone: it may be there again, in another shard.
    let count = change.gone.len();
    let mut until = from;
    while until < count + change.changed.len()
        && update.changed.len() + update.gone.len() < PAGE_MAX
    {
        match until.checked_sub(count) {
            None => {
                let (alias, shard) = &change.gone[until];
                if filter.takes(shard) {
                    update.gone.push(alias.to_string());
                }
            }
            Some(changed) => {
                let (alias, served) = &change.changed[changed];
                if filter.takes(&served.shard) {
                    update.changed.push(tablet(alias, served));
                }
            }
        }
        until += 1;
    }
    (update, until)
}

fn complete() -> v1::ServingUpdate {
    v1::ServingUpdate {
        complete: true,
        ..v1::ServingUpdate::default()
    }
}

fn tablet(alias: &Alias, served: &Served) -> v1::ServingTablet {
    v1::ServingTablet {
        alias: alias.to_string(),
        shard: Some(served.shard.to_proto()),
        r#type: convert::tablet_type(served.tablet_type).into(),
        epoch: served.epoch,
        database: served.database.as_ref().map(convert::database),
        engine: served.engine.clone(),
    }
}

#[cfg(test)]
mod tests;
