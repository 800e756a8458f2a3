//! Who this member is, and who the others are.
//!
//! A member's instance id is made once, with its data directory. Every call between members names
//! the caller's instance and the one that the caller knows under the callee's number; the first
//! instance seen under a number is noted durably, and from then on no other is taken; of members that
//! were added later the log itself names the instance. So a member whose disk was wiped neither votes
//! nor counts again under its old number: it is refused, learns of it, and ends; and so does one that
//! was removed. Once the group has a name, a call from another group is refused as well, and one
//! without a group unless its instance is known: a member that comes late becomes known when it
//! answers at the address that was given to init.
//!
//! Who belongs to the group stands in the [`Roster`], which follows the log. A member that was away
//! while others were added is called by some that it has never heard of: it lets in who names the
//! group and this member's own instance, which only members are told.
//!
//! Calls are not authenticated, so none of them ends a process: a member ends when it calls another
//! whose instance it knows, and is refused by it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use seawall_common::{Error, ErrorKind, Result};
use seawall_proto::v1::{RaftRequest, RaftSender};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};

use super::{
    members::MEMBERS_MAX,
    refusals::{check_instance, removed, stranger, wiped},
    roster::Roster,
};
use crate::platform::{blocking, files};

const FILE: &str = "identity.json";
/// Instances that are noted, of members that are gone too.
const PEERS_MAX: usize = 256;

/// Members of a group: number and gRPC address.
pub type Members = BTreeMap<u64, String>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    member_id: u64,
    instance_id: String,
    /// Those of `init`; empty for one that joins a group that is there.
    members: Members,
    /// Where one that joins finds members of the group, as host:port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    join: Vec<String>,
    group_id: Option<String>,
    /// The instance of each other member, as first seen.
    peers: BTreeMap<u64, String>,
}

#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    record: RwLock<Record>,
    roster: RwLock<Roster>,
    saving: Mutex<()>,
    /// Why the group refuses this member, once it does.
    refusal: watch::Sender<Option<Error>>,
}

/// What a member says of the group when it greets another.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    pub members: Members,
    pub instances: BTreeMap<u64, String>,
}

impl Identity {
    /// Makes `directory` that of member `id` of a group of `members`.
    pub fn create(directory: &Path, id: u64, members: Members) -> Result<Self> {
        if !members.contains_key(&id) {
            return Err(Error::invalid(format!(
                "member {id} is not among the peers {:?}",
                members.keys().collect::<Vec<_>>()
            )));
        }
        if members.len() > MEMBERS_MAX {
            return Err(Error::invalid(format!(
                "{} peers are more than {MEMBERS_MAX}",
                members.len()
            )));
        }
        Self::make(directory, id, members, Vec::new())
    }

    /// Makes `directory` that of member `id`, which is to be added to the group of the members at
    /// `addresses`.
    pub fn create_to_join(directory: &Path, id: u64, addresses: Vec<String>) -> Result<Self> {
        if addresses.len() > MEMBERS_MAX {
            return Err(Error::invalid(format!(
                "{} peers are more than {MEMBERS_MAX}",
                addresses.len()
            )));
        }
        Self::make(directory, id, Members::new(), addresses)
    }

    fn make(directory: &Path, id: u64, members: Members, join: Vec<String>) -> Result<Self> {
        let path = directory.join(FILE);
        if files::exists(&path) {
            return Err(Error::refused(format!(
                "data directory {} belongs to a member already",
                directory.display()
            ))
            .hint("Start the coordinator as it is, or name an empty directory."));
        }
        let record = Record {
            member_id: id,
            instance_id: uuid::Uuid::new_v4().to_string(),
            members,
            join,
            group_id: None,
            peers: BTreeMap::new(),
        };
        save(&path, &record)?;
        Ok(Self::new(path, record))
    }

    /// Reads who this member is; none when `directory` is nobody's yet.
    pub fn open(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(FILE);
        let text = match files::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read", &path, &e)),
        };
        // What was renamed just before a kill is believed from now on.
        files::sync_directory(directory).map_err(|e| Error::io("sync", directory, &e))?;
        let record = serde_json::from_slice(&text)
            .map_err(|e| Error::corrupt(format!("{} is damaged: {e}", path.display())))?;
        Ok(Some(Self::new(path, record)))
    }

    fn new(path: PathBuf, record: Record) -> Self {
        Self {
            inner: Arc::new(Inner {
                path,
                record: RwLock::new(record),
                roster: RwLock::default(),
                saving: Mutex::new(()),
                refusal: watch::Sender::new(None),
            }),
        }
    }

    fn look<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(
            &self
                .inner
                .record
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    pub fn id(&self) -> u64 {
        self.look(|record| record.member_id)
    }

    /// Those with which `init` was told to form the group.
    pub fn founders(&self) -> Members {
        self.look(|record| record.members.clone())
    }

    /// Where the group is found that this member is to be added to; empty for one made by `init`.
    pub fn join(&self) -> Vec<String> {
        self.look(|record| record.join.clone())
    }

    /// The members as the log has them, or, before it has any, those of `init`.
    pub fn members(&self) -> Members {
        let known = self.roster().addresses();
        if known.is_empty() {
            return self.founders();
        }
        known
    }

    /// Whether the log has this member in the group.
    pub fn has_seat(&self) -> bool {
        self.roster().has(self.id())
    }

    pub fn set_roster(&self, roster: Roster) {
        *self
            .inner
            .roster
            .write()
            .unwrap_or_else(PoisonError::into_inner) = roster;
    }

    fn roster(&self) -> RwLockReadGuard<'_, Roster> {
        self.inner
            .roster
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The instance under which `member` is known: the log's word counts before what was noted.
    pub fn instance_of(&self, member: u64) -> Option<String> {
        if let Some(instance) = self.roster().instance_of(member) {
            return Some(instance.clone());
        }
        self.look(|record| record.peers.get(&member).cloned())
    }

    pub fn sender(&self) -> RaftSender {
        self.look(|record| RaftSender {
            group_id: record.group_id.clone().unwrap_or_default(),
            member_id: record.member_id,
            instance_id: record.instance_id.clone(),
        })
    }

    /// A request to member `target`, signed by this one.
    pub fn request(&self, target: u64, payload: Vec<u8>) -> RaftRequest {
        RaftRequest {
            sender: Some(self.sender()),
            target_member_id: target,
            payload,
            target_instance_id: self.instance_of(target).unwrap_or_default(),
        }
    }

    pub fn hello(&self) -> Hello {
        let members = self.members();
        let mut instances: BTreeMap<u64, String> = members
            .keys()
            .filter_map(|member| Some((*member, self.instance_of(*member)?)))
            .collect();
        self.look(|record| instances.insert(record.member_id, record.instance_id.clone()));
        Hello { members, instances }
    }

    /// Becomes something once the group has refused this member.
    pub fn refusal(&self) -> watch::Receiver<Option<Error>> {
        self.inner.refusal.subscribe()
    }

    /// Checks a call from another member; the first one from it is remembered.
    pub async fn check_call(&self, request: &RaftRequest) -> Result<()> {
        let sender = named(request.sender.as_ref())?;
        self.check_group(sender)?;
        let (id, instance) = self.look(|r| (r.member_id, r.instance_id.clone()));
        if request.target_member_id != id {
            return Err(Error::invalid(format!(
                "this is member {id}, not member {}",
                request.target_member_id
            ))
            .hint(
                "Compare the addresses that ClusterStatus shows with where the members listen.",
            ));
        }
        self.admit_caller(sender, &request.target_instance_id)
            .await?;
        // Anybody can claim this: whether the group refuses us, we hear when we call a member.
        let expected = &request.target_instance_id;
        if !expected.is_empty() && *expected != instance {
            return Err(Error::conflict(format!(
                "this is not the instance of member {id} that the call is meant for"
            )));
        }
        Ok(())
    }

    /// Checks that an answer came from the member that was asked.
    pub async fn check_answer(&self, target: u64, sender: Option<&RaftSender>) -> Result<()> {
        let sender = named(sender)?;
        self.check_group(sender)?;
        if sender.member_id != target {
            return Err(Error::invalid(format!(
                "member {} answered in place of member {target}",
                sender.member_id
            )));
        }
        match self.standing(target) {
            Standing::Member => self.admit(target, &sender.instance_id).await,
            // One that is about to be added is asked who it is; who that may be, the caller decides.
            _ => check_instance(target, &sender.instance_id),
        }
    }

    /// Takes note of what it means for this member that `member`, which it called and which
    /// answered as `instance`, has refused it. One that is not known is not believed.
    pub fn heed(&self, member: u64, instance: &str, error: &Error) {
        let is_known = self
            .instance_of(member)
            .is_some_and(|known| known == instance);
        if is_known && error.kind() == ErrorKind::Fenced {
            self.refuse(error.clone());
        }
    }

    /// This member can no longer take part.
    pub fn refuse(&self, error: Error) {
        self.inner.refusal.send_replace(Some(error));
    }

    /// Learns from the hello of another, which was let in, the instances that this one does not
    /// know yet. `is_of_group`: it names a group, so its members need not be those of `init` any more.
    pub async fn learn(&self, hello: &Hello, is_of_group: bool) -> Result<()> {
        if hello.instances.len() > MEMBERS_MAX + 1 {
            return Err(Error::invalid(format!(
                "{} instances are more than {MEMBERS_MAX}",
                hello.instances.len()
            )));
        }
        let (founders, has_group) = self.look(|r| (r.members.clone(), r.group_id.is_some()));
        if !has_group && !is_of_group && hello.members != founders {
            return Err(Error::conflict(format!(
                "the members do not agree on who they are: {:?} here, {:?} there",
                founders, hello.members
            ))
            .hint("Run init with the same --peers on every member, on empty directories."));
        }
        for (member, instance) in &hello.instances {
            if *member == self.id() || self.instance_of(*member).is_some() {
                continue;
            }
            match self.standing(*member) {
                Standing::Member => self.admit(*member, instance).await?,
                Standing::Unknown if is_of_group => self.note(*member, instance).await?,
                // The other one does not know yet that it is gone.
                Standing::Retired => {}
                _ => return Err(stranger(*member)),
            }
        }
        Ok(())
    }

    pub fn has_group(&self) -> bool {
        self.look(|record| record.group_id.is_some())
    }

    /// Notes the name of the group, durably.
    pub async fn learn_group(&self, group_id: &str) -> Result<()> {
        if self.has_group() {
            return Ok(());
        }
        self.change(|record| record.group_id = Some(group_id.to_owned()))
            .await
    }

    fn check_group(&self, sender: &RaftSender) -> Result<()> {
        let ours = self.look(|record| record.group_id.clone());
        match ours {
            Some(ours) if !sender.group_id.is_empty() && sender.group_id != ours => {
                Err(Error::refused(format!(
                    "member {} belongs to group {}, this one to group {ours}",
                    sender.member_id, sender.group_id
                ))
                .hint(
                    "Compare the addresses that ClusterStatus shows with where the members listen.",
                ))
            }
            _ => Ok(()),
        }
    }

    fn standing(&self, member: u64) -> Standing {
        let roster = self.roster();
        let is_known = match roster.is_empty() {
            true => self.look(|record| record.members.contains_key(&member)),
            false => roster.has(member),
        };
        match (is_known, roster.is_retired(member)) {
            _ if member == self.id() => Standing::Ourselves,
            (true, _) => Standing::Member,
            (_, true) => Standing::Retired,
            _ => Standing::Unknown,
        }
    }

    /// Whether `sender`, which names `named` as the instance of this member, may call it.
    async fn admit_caller(&self, sender: &RaftSender, named: &str) -> Result<()> {
        let (member, instance) = (sender.member_id, &sender.instance_id);
        let (ours, has_group) = self.look(|r| (r.instance_id.clone(), r.group_id.is_some()));
        check_instance(member, instance)?;
        let names_group = has_group && !sender.group_id.is_empty();
        match self.standing(member) {
            Standing::Ourselves if *instance == ours => Ok(()),
            Standing::Ourselves => Err(Error::invalid(format!(
                "a call in the name of member {member}, which is this one"
            ))),
            Standing::Retired => Err(removed(member)),
            Standing::Member if has_group && !names_group && self.instance_of(member).is_none() => {
                Err(Error::refused(format!(
                    "member {member} is not known here yet and does not name the group"
                ))
                .hint(
                    "It is let in once it answers at the address that ClusterStatus shows for it.",
                ))
            }
            Standing::Member => self.admit(member, instance).await,
            Standing::Unknown => match self.instance_of(member) {
                Some(known) if known == *instance => Ok(()),
                Some(_) => Err(wiped(member)),
                // The first that speaks for the group to one that was told to join it.
                None if names_group && self.is_joining() => self.note(member, instance).await,
                None if self.is_joining() && !has_group => Err(Error::unavailable(format!(
                    "member {} to be does not know yet which group it is to join",
                    self.id()
                ))
                .hint("It asks the --peers of seawall-coordinator join: see its log.")),
                // Added while this one was away.
                None if names_group && named == ours => Ok(()),
                None => Err(stranger(member)),
            },
        }
    }

    /// Waits to be added: no log of the group has reached this member.
    fn is_joining(&self) -> bool {
        self.roster().is_empty() && self.look(|record| record.members.is_empty())
    }

    /// Takes `instance` as that of `member` when it is the first one, and refuses any other.
    async fn admit(&self, member: u64, instance: &str) -> Result<()> {
        check_instance(member, instance)?;
        if self.instance_of(member).is_none() {
            self.note(member, instance).await?;
        }
        if self.instance_of(member).as_deref() == Some(instance) {
            Ok(())
        } else {
            Err(wiped(member))
        }
    }

    async fn note(&self, member: u64, instance: &str) -> Result<()> {
        check_instance(member, instance)?;
        if self.look(|record| record.peers.len()) >= PEERS_MAX {
            return Err(Error::exhausted(format!(
                "{PEERS_MAX} members have been seen here, no more are noted"
            ))
            .hint("Replace this member by one with an empty data directory."));
        }
        self.change(|record| {
            record
                .peers
                .entry(member)
                .or_insert_with(|| instance.to_owned());
        })
        .await
    }

    async fn change(&self, change: impl FnOnce(&mut Record)) -> Result<()> {
        let _saving = self.inner.saving.lock().await;
        let mut changed = self.look(Clone::clone);
        change(&mut changed);
        let (path, written) = (self.inner.path.clone(), changed.clone());
        blocking(move || save(&path, &written)).await?;
        *self
            .inner
            .record
            .write()
            .unwrap_or_else(PoisonError::into_inner) = changed;
        Ok(())
    }
}

fn named(sender: Option<&RaftSender>) -> Result<&RaftSender> {
    sender.ok_or_else(|| Error::invalid("a call between members that does not say who calls"))
}

/// What another member is to this one.
enum Standing {
    Ourselves,
    Member,
    /// It was one, and will be none again.
    Retired,
    Unknown,
}

fn save(path: &Path, record: &Record) -> Result<()> {
    let text = serde_json::to_vec_pretty(record)
        .map_err(|e| Error::internal(format!("cannot write {}: {e}", path.display())))?;
    let temporary = path.with_extension("tmp");
    let directory = path.parent().unwrap_or(Path::new("."));
    let written = files::write_synced(&temporary, &[&text])
        .and_then(|()| files::rename(&temporary, path))
        .and_then(|()| files::sync_directory(directory));
    written.map_err(|e| Error::io("write", path, &e))
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
