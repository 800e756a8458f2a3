//! Which tablets there are, of which shard and type, and where they are reached.
//!
//! One instance stands behind an alias: another one is refused while the first is seen, and later
//! takes it over only when told to. Whether it is seen is a fact that the leader puts into the
//! command, from its memory of heartbeats.

mod tablets;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use seawall_common::{
    Error, Result,
    ids::{Alias, ShardId},
};
use serde::{Deserialize, Serialize};
use tablets::Tablets;

use super::{
    Response, State,
    epochs::{self, Epoch, NewEpoch},
};

/// Tablets of one group: far more than a group serves, and a bound all the same.
const TABLETS_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TabletType {
    Primary,
    Replica,
    Rdonly,
    Spare,
    Backup,
    Restore,
    Drained,
}

impl fmt::Display for TabletType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            TabletType::Primary => "primary",
            TabletType::Replica => "replica",
            TabletType::Rdonly => "rdonly",
            TabletType::Spare => "spare",
            TabletType::Backup => "backup",
            TabletType::Restore => "restore",
            TabletType::Drained => "drained",
        })
    }
}

/// Where other tablets reach a database server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseAddress {
    pub host: String,
    pub port: u16,
    pub server_id: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tablet {
    pub alias: Alias,
    pub shard: ShardId,
    pub tablet_type: TabletType,
    /// The type that it has when no operation is at work with it.
    pub wanted_type: TabletType,
    /// A spare that nobody asked to stay one: a replica once it has caught up.
    pub promote_when_caught_up: bool,
    /// Absent until its agent has registered, together with `agent_address`.
    pub instance: Option<String>,
    pub agent_address: String,
    pub database: Option<DatabaseAddress>,
    pub engine: String,
    /// Public half of the key with which its agent signs, hexadecimal; empty: it has none.
    #[serde(default)]
    pub writer_key: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    pub(super) tablets: Tablets,
    pub(super) lines: BTreeMap<ShardId, Vec<Epoch>>,
    /// Numbers up to this one are not given to new epochs, whatever the line says.
    #[serde(default)]
    pub(super) passed_over: BTreeMap<ShardId, u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    Register(Registration),
    Init {
        alias: Alias,
        shard: ShardId,
        /// None: spare until it has caught up for the first time, then replica.
        tablet_type: Option<TabletType>,
    },
    Remove {
        alias: Alias,
        /// Whether its agent is still heard.
        seen: bool,
    },
    ChangeType {
        alias: Alias,
        tablet_type: TabletType,
    },
    /// Its agent says that it has reached a goal.
    CaughtUp {
        alias: Alias,
    },
    NewEpoch(NewEpoch),
}

/// What an agent says of itself when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    pub alias: Alias,
    pub shard: ShardId,
    pub instance: String,
    pub agent_address: String,
    pub database: Option<DatabaseAddress>,
    pub engine: String,
    #[serde(default)]
    pub writer_key: String,
    /// Take the alias over from another instance.
    pub replace: bool,
    /// Whether the instance on record is heard, when it is another one.
    pub other_seen: bool,
}

pub fn apply(state: &mut State, command: &Command) -> Result<Response> {
    match command {
        Command::Register(registration) => register(state, registration),
        Command::Init {
            alias,
            shard,
            tablet_type,
        } => init(state, alias, shard, *tablet_type),
        Command::Remove { alias, seen } => remove(state, alias, *seen),
        Command::ChangeType { alias, tablet_type } => change_type(state, alias, *tablet_type),
        Command::CaughtUp { alias } => caught_up(state, alias),
        Command::NewEpoch(new) => epochs::apply(state, new),
    }
}

fn register(state: &mut State, new: &Registration) -> Result<Response> {
    if let Some(known) = state.topology.tablets.get(&new.alias) {
        check_same_shard(known, &new.shard)?;
        if known
            .instance
            .as_ref()
            .is_some_and(|instance| *instance != new.instance)
        {
            check_takeover(state, known, new)?;
        }
    } else {
        check_room(state)?;
    }
    check_server_id(state, new)?;
    let tablets = &mut state.topology.tablets;
    if tablets.get(&new.alias).is_none() {
        tablets.insert(Tablet::declared(&new.alias, &new.shard, None));
    }
    let tablet = state.topology.tablet_mut(&new.alias)?;
    tablet.instance = Some(new.instance.clone());
    tablet.agent_address.clone_from(&new.agent_address);
    tablet.database.clone_from(&new.database);
    tablet.engine.clone_from(&new.engine);
    tablet.writer_key.clone_from(&new.writer_key);
    Ok(Response::Tablet(Box::new(tablet.clone())))
}

fn check_same_shard(known: &Tablet, shard: &ShardId) -> Result<()> {
    if known.shard == *shard {
        return Ok(());
    }
    Err(Error::conflict(format!(
        "{} belongs to {}, not to {shard}",
        known.alias, known.shard
    ))
    .hint("Run RemoveTablet first to move an alias to another shard."))
}

fn check_room(state: &State) -> Result<()> {
    if state.topology.tablets.len() < TABLETS_MAX {
        return Ok(());
    }
    Err(
        Error::exhausted(format!("there are {TABLETS_MAX} tablets already"))
            .hint("Run RemoveTablet for those that are gone for good."),
    )
}

fn check_takeover(state: &State, known: &Tablet, new: &Registration) -> Result<()> {
    let alias = &new.alias;
    if new.other_seen {
        return Err(Error::conflict(format!(
            "another instance of {alias} is running, at {}",
            known.agent_address
        ))
        .hint("Give this agent an alias of its own, or stop the other one."));
    }
    if let Some(operation) = state.operations.open_on(alias) {
        return Err(Error::refused(format!(
            "operation {} is at work with the former instance of {alias}",
            operation.id
        ))
        .hint("Wait until it has ended, or cancel it."));
    }
    if !new.replace {
        return Err(Error::conflict(format!(
            "{alias} belongs to another state directory, whose agent is not seen any more"
        ))
        .hint("Start the agent with --replace if that one is gone for good."));
    }
    Ok(())
}

/// Two servers of one id in a shard break replication in ways that are hard to find.
fn check_server_id(state: &State, new: &Registration) -> Result<()> {
    let id = new.database.as_ref().map_or(0, |d| d.server_id);
    let other = state.topology.tablets_of(&new.shard).find(|tablet| {
        tablet.alias != new.alias && tablet.database.as_ref().is_some_and(|d| d.server_id == id)
    });
    match other {
        Some(other) if id != 0 => Err(Error::conflict(format!(
            "{} has server id {id}, as {} has",
            new.alias, other.alias
        ))
        .hint("Give each server of a shard a server_id of its own.")),
        _ => Ok(()),
    }
}

fn init(
    state: &mut State,
    alias: &Alias,
    shard: &ShardId,
    tablet_type: Option<TabletType>,
) -> Result<Response> {
    if let Some(wanted) = tablet_type {
        check_by_hand(alias, wanted)?;
    }
    if let Some(known) = state.topology.tablets.get(alias) {
        check_same_shard(known, shard)?;
        if tablet_type.is_some_and(|wanted| wanted != known.wanted_type) {
            return Err(Error::conflict(format!(
                "{alias} is known already, as {}",
                known.wanted_type
            ))
            .hint("Run ChangeTabletType to change its type."));
        }
        return Ok(Response::Tablet(Box::new(known.clone())));
    }
    check_room(state)?;
    let tablet = Tablet::declared(alias, shard, tablet_type);
    state.topology.tablets.insert(tablet.clone());
    Ok(Response::Tablet(Box::new(tablet)))
}

/// Which types a person may give.
fn check_by_hand(alias: &Alias, tablet_type: TabletType) -> Result<()> {
    match tablet_type {
        TabletType::Replica | TabletType::Rdonly | TabletType::Spare | TabletType::Drained => {
            Ok(())
        }
        TabletType::Primary => Err(Error::refused(format!(
            "{alias} cannot be made primary by its type"
        ))
        .hint(
            "Run InitShardPrimary for a shard's first primary, PlannedReparentShard to change it.",
        )),
        TabletType::Backup | TabletType::Restore => Err(Error::invalid(format!(
            "type {tablet_type} is given by operations only"
        ))
        .hint("Give replica, rdonly, spare or drained.")),
    }
}

fn check_not_primary(tablet: &Tablet) -> Result<()> {
    if tablet.wanted_type != TabletType::Primary {
        return Ok(());
    }
    Err(Error::refused(format!(
        "{} is the primary of {}",
        tablet.alias, tablet.shard
    ))
    .hint("Run PlannedReparentShard to another tablet first."))
}

fn check_idle(state: &State, tablet: &Tablet) -> Result<()> {
    match state.operations.open_on(&tablet.alias) {
        None => Ok(()),
        Some(operation) => Err(Error::refused(format!(
            "operation {} is at work with {} ({})",
            operation.id, tablet.alias, tablet.tablet_type
        ))
        .hint("Wait until it has ended, or cancel it.")),
    }
}

fn remove(state: &mut State, alias: &Alias, seen: bool) -> Result<Response> {
    let tablet = state.topology.tablet(alias)?;
    check_not_primary(tablet)?;
    check_idle(state, tablet)?;
    if seen {
        return Err(
            Error::refused(format!("the agent of {alias} is still running"))
                .hint("Stop it first: it would register again at once."),
        );
    }
    state.topology.tablets.remove(alias);
    Ok(Response::Done)
}

fn change_type(state: &mut State, alias: &Alias, tablet_type: TabletType) -> Result<Response> {
    check_by_hand(alias, tablet_type)?;
    let tablet = state.topology.tablet(alias)?;
    check_not_primary(tablet)?;
    check_idle(state, tablet)?;
    let tablet = state.topology.tablet_mut(alias)?;
    tablet.tablet_type = tablet_type;
    tablet.wanted_type = tablet_type;
    tablet.promote_when_caught_up = false;
    Ok(Response::Tablet(Box::new(tablet.clone())))
}

fn caught_up(state: &mut State, alias: &Alias) -> Result<Response> {
    state.topology.tablet_mut(alias)?.has_caught_up();
    Ok(Response::Done)
}

impl Tablet {
    fn declared(alias: &Alias, shard: &ShardId, tablet_type: Option<TabletType>) -> Self {
        let wanted_type = tablet_type.unwrap_or(TabletType::Spare);
        Self {
            alias: alias.clone(),
            shard: shard.clone(),
            tablet_type: wanted_type,
            wanted_type,
            promote_when_caught_up: tablet_type.is_none(),
            instance: None,
            agent_address: String::new(),
            database: None,
            engine: String::new(),
            writer_key: String::new(),
        }
    }

    fn has_caught_up(&mut self) {
        if self.promote_when_caught_up {
            self.promote_when_caught_up = false;
            self.wanted_type = TabletType::Replica;
            if self.tablet_type == TabletType::Spare {
                self.tablet_type = TabletType::Replica;
            }
        }
    }

    pub fn is_registered(&self) -> bool {
        self.instance.is_some()
    }

    /// Whether this registration would change nothing.
    pub fn is_as(&self, registration: &Registration) -> bool {
        let Registration {
            alias,
            shard,
            instance,
            agent_address,
            database,
            engine,
            writer_key,
            replace: _,
            other_seen: _,
        } = registration;
        self.alias == *alias
            && self.shard == *shard
            && self.instance.as_ref() == Some(instance)
            && self.agent_address == *agent_address
            && self.database == *database
            && self.engine == *engine
            && self.writer_key == *writer_key
    }
}

impl Topology {
    pub fn tablet(&self, alias: &Alias) -> Result<&Tablet> {
        self.tablets.get(alias).ok_or_else(|| unknown(alias))
    }

    fn tablet_mut(&mut self, alias: &Alias) -> Result<&mut Tablet> {
        self.tablets.change(alias).ok_or_else(|| unknown(alias))
    }

    pub fn tablets(&self) -> impl Iterator<Item = &Tablet> {
        self.tablets.iter()
    }

    /// Those behind an alias, in order; none: all.
    pub fn tablets_behind(&self, alias: Option<&Alias>) -> impl Iterator<Item = &Tablet> {
        self.tablets.behind(alias)
    }

    pub fn tablets_of(&self, shard: &ShardId) -> impl Iterator<Item = &Tablet> {
        self.tablets.of(shard)
    }

    /// How often tablets have changed since this replica had the state; see [`Self::changed_since`].
    pub fn changes(&self) -> u64 {
        self.tablets.changes()
    }

    /// Which tablets have changed, come or gone, or have another epoch, since there were `changes` of
    /// them; none: that is too long ago, and all are to be looked at.
    pub fn changed_since(&self, changes: u64) -> Option<impl Iterator<Item = &Alias>> {
        self.tablets.changed_since(changes)
    }

    /// Every shard that has a tablet or had a primary, in order.
    pub fn shards(&self) -> BTreeSet<ShardId> {
        let of_tablets = self.tablets.shards();
        of_tablets.chain(self.lines.keys()).cloned().collect()
    }

    pub fn line(&self, shard: &ShardId) -> &[Epoch] {
        self.lines.get(shard).map_or(&[], Vec::as_slice)
    }

    pub fn newest_epoch(&self, shard: &ShardId) -> Option<&Epoch> {
        self.line(shard).last()
    }

    /// Takes a tablet out of its ordinary life for an operation.
    pub(super) fn set_at_work(&mut self, alias: &Alias, tablet_type: TabletType) {
        if let Some(tablet) = self.tablets.change(alias) {
            tablet.tablet_type = tablet_type;
        }
    }

    /// Ends what `set_at_work` began. A tablet that was promoted meanwhile keeps its type (I3).
    pub(super) fn end_work(&mut self, alias: &Alias, caught_up: bool) {
        if let Some(tablet) = self.tablets.change(alias) {
            if caught_up {
                tablet.has_caught_up();
            }
            if matches!(tablet.tablet_type, TabletType::Backup | TabletType::Restore) {
                tablet.tablet_type = tablet.wanted_type;
            }
        }
    }
}

fn unknown(alias: &Alias) -> Error {
    Error::not_found(format!("no tablet {alias}")).hint(
        "ListTablets shows those that are known; an agent makes its own known when it starts.",
    )
}

#[cfg(test)]
mod tests;
