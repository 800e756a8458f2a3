//! `coordinator/backups/`: the state of a coordinator group, each time as one object.
//!
//! It has a clear header, which says whose it is and of when; the state behind it is compressed, and
//! sealed like everything else: encrypted when recipients are configured. What it holds is the
//! coordinator's own affair. Like a manifest it is put last, after the keys that open it.

use std::{
    collections::BTreeMap,
    io::{Cursor, Read as _},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    header::Repository,
    keys::{DataKey, note_recipient},
    layout,
    manifest::open_key,
    object::{ObjectKind, PREFIX_BYTES, Prefix},
    seal::{Sealer, TAG_BYTES},
};
use crate::{
    clock,
    error::{Error, ErrorKind, Result},
};

const VERSION: u32 = 1;
const HEADER_BYTES_MAX: usize = 16 << 10;
/// Bytes of a state, before it is compressed.
pub const STATE_BYTES_MAX: u64 = 1 << 30;
/// No object is larger: what cannot be compressed at all, and what is around it.
const OBJECT_BYTES_MAX: u64 = STATE_BYTES_MAX + (1 << 20);
const LEVEL: i32 = 3;
/// Where the header begins: behind the prefix and its own length.
const HEADER_AT: usize = PREFIX_BYTES + 4;

/// What is to be known of a group's backup without opening it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupBackup {
    version: u32,
    pub name: String,
    pub group_id: String,
    /// The member that wrote it, as leader.
    pub member_id: u64,
    pub term: u64,
    /// The last entry of the group's log that it covers.
    pub last_index: u64,
    pub taken_unix_ms: u64,
    /// Of the program.
    pub written_by: String,
    /// Of the state, before it was compressed.
    pub state_bytes: u64,
    pub encrypted: bool,
}

/// Names of the groups' backups in a repository, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupBackups {
    pub complete: Vec<String>,
    /// Of these there are only keys: they are being put, or were cut off.
    pub unfinished: Vec<String>,
}

impl GroupBackup {
    pub fn new(group_id: &str, member_id: u64, (term, last_index): (u64, u64)) -> Self {
        let taken_unix_ms = clock::now_unix_ms();
        Self {
            version: VERSION,
            name: name(taken_unix_ms, Uuid::new_v4()),
            group_id: group_id.to_owned(),
            member_id,
            term,
            last_index,
            taken_unix_ms,
            written_by: env!("CARGO_PKG_VERSION").to_owned(),
            state_bytes: 0,
            encrypted: false,
        }
    }
}

/// `YYYY-MM-DD.HHMMSS.<8 hexadecimal digits>`, in UTC.
fn name(unix_ms: u64, id: Uuid) -> String {
    let at = clock::written(unix_ms).unwrap_or_default();
    let digits = |from: usize, to: usize| at.get(from..to).unwrap_or("00").to_owned();
    let id = id.simple().to_string();
    format!(
        "{}.{}{}{}.{}",
        at.get(..10).unwrap_or("0000-00-00"),
        digits(11, 13),
        digits(14, 16),
        digits(17, 19),
        &id[..8]
    )
}

/// Whether a group's backup of this name was begun before a moment, by the clock of whoever put it.
pub fn is_group_backup_older(backup: &str, unix_ms: u64) -> bool {
    *backup < *name(unix_ms, Uuid::nil())
}

/// Whether it may become part of a key.
pub fn check_group_backup_name(name: &str) -> Result<()> {
    let shape = "dddd-dd-dd.dddddd.hhhhhhhh";
    let fits = |(c, kind): (char, char)| match kind {
        'd' => c.is_ascii_digit(),
        'h' => c.is_ascii_digit() || ('a'..='f').contains(&c),
        other => c == other,
    };
    if name.len() == shape.len() && name.chars().zip(shape.chars()).all(fits) {
        return Ok(());
    }
    Err(
        Error::invalid(format!("malformed name of a coordinator backup {name:?}"))
            .hint("Names look like 2026-11-21.031500.1f2e3d4c; ListCoordinatorBackups shows them."),
    )
}

impl Repository {
    /// Puts the state of a group, reads it back, and answers what was put. The group must own the
    /// repository.
    pub async fn put_group_state(
        &self,
        mut backup: GroupBackup,
        state: Vec<u8>,
    ) -> Result<GroupBackup> {
        self.check_owner(&backup.group_id).await?;
        let state_bytes = state.len() as u64;
        if state_bytes > STATE_BYTES_MAX {
            return Err(Error::exhausted(format!(
                "the state of the group has {state_bytes} bytes, a backup of it holds at most {STATE_BYTES_MAX}"
            )));
        }
        let key = self.is_encrypting().then(DataKey::generate);
        backup.state_bytes = state_bytes;
        backup.encrypted = key.is_some();
        let prefix = Prefix {
            kind: ObjectKind::GroupState,
            encrypted: key.is_some(),
            repository: self.uuid(),
            session: Uuid::new_v4(),
            id: Uuid::new_v4(),
        };
        if let Some(key) = &key {
            for recipient in self.recipients().iter() {
                let wrapped = recipient.wrap(key, self.uuid(), prefix.session)?;
                let folder = layout::group_backup_keys(&backup.name);
                let object = layout::key_file(folder, prefix.session, &recipient.fingerprint);
                self.store()
                    .put_create(&object, Bytes::from(wrapped))
                    .await?;
                note_recipient(self, recipient).await?;
            }
        }
        let described = backup.clone();
        let object = on_thread(move || encode(&described, &prefix, key.as_ref(), state)).await?;
        let put = Bytes::from(object);
        self.store()
            .put_create(&layout::group_backup(&backup.name), put.clone())
            .await?;
        let there = self.get_group_object(&backup.name).await?;
        if there != put {
            return Err(Error::corrupt(format!(
                "coordinator backup {} was read back otherwise than it was written",
                backup.name
            )));
        }
        Ok(backup)
    }

    /// Which of the groups' backups are here, by a listing.
    pub async fn group_backups(&self) -> Result<GroupBackups> {
        let listed = self.store().list(&layout::group_backups()).await?;
        self.check_there().await?;
        let mut are_complete: BTreeMap<String, bool> = BTreeMap::new();
        let objects = listed.iter().map(|listed| &listed.key);
        for (name, is_state) in objects.filter_map(layout::of_group_backup) {
            if check_group_backup_name(&name).is_ok() {
                *are_complete.entry(name).or_default() |= is_state;
            }
        }
        let mut found = GroupBackups::default();
        for (name, is_complete) in are_complete {
            match is_complete {
                true => found.complete.push(name),
                false => found.unfinished.push(name),
            }
        }
        Ok(found)
    }

    /// What a backup says of itself; [`ErrorKind::NotFound`] when it was never completed. Its header
    /// is believed only when the whole is read.
    pub async fn group_backup(&self, name: &str) -> Result<GroupBackup> {
        let object = self.get_group_object(name).await?;
        Ok(split(name, &object, self.uuid())?.header)
    }

    /// The state in a backup, of which every byte was checked.
    pub async fn get_group_state(&self, name: &str) -> Result<(GroupBackup, Vec<u8>)> {
        let object = self.get_group_object(name).await?;
        let Parts {
            header,
            prefix,
            header_bytes,
        } = split(name, &object, self.uuid())?;
        let key = match prefix.encrypted {
            true => {
                let what = format!("coordinator backup {name}");
                let folder = layout::group_backup_keys(name);
                Some(open_key(self, &what, &folder, prefix.session).await?)
            }
            false => None,
        };
        let described = header.clone();
        let state =
            on_thread(move || open(&described, &prefix, key.as_ref(), &object, header_bytes))
                .await?;
        Ok((header, state))
    }

    /// Deletes a backup. Only for the owner of the repository.
    pub async fn remove_group_backup(&self, name: &str) -> Result<()> {
        check_group_backup_name(name)?;
        self.store()
            .delete(vec![layout::group_backup(name)])
            .await?;
        let folder = layout::group_backup_keys(name);
        let keys = self.store().list(&folder).await?;
        let keys = keys.into_iter().map(|listed| listed.key).collect();
        self.store().delete(keys).await
    }

    async fn get_group_object(&self, name: &str) -> Result<Bytes> {
        check_group_backup_name(name)?;
        let key = layout::group_backup(name);
        match self.store().get(&key, OBJECT_BYTES_MAX).await {
            Err(e) if e.kind() == ErrorKind::NotFound => Err(Error::not_found(format!(
                "repository {} has no coordinator backup {name}",
                self.url()
            ))),
            other => other,
        }
    }
}

/// Prefix; length of the header (4, little-endian) and header as JSON, which the seal covers; the
/// compressed state, sealed; the seal's tag.
fn encode(
    header: &GroupBackup,
    prefix: &Prefix,
    key: Option<&DataKey>,
    state: Vec<u8>,
) -> Result<Vec<u8>> {
    let failed =
        |e: &dyn std::fmt::Display| Error::internal(format!("cannot write a group's backup: {e}"));
    let text = serde_json::to_vec(header).map_err(|e| failed(&e))?;
    let length = u32::try_from(text.len()).map_err(|e| failed(&e))?;
    let mut sealed = zstd::encode_all(Cursor::new(state), LEVEL).map_err(|e| failed(&e))?;
    let tag = Sealer::new(prefix, key)?.seal(0, &text, &mut sealed)?;
    let mut object = Vec::with_capacity(HEADER_AT + text.len() + sealed.len() + TAG_BYTES);
    object.extend_from_slice(&prefix.encode());
    object.extend_from_slice(&length.to_le_bytes());
    object.extend_from_slice(&text);
    object.extend_from_slice(&sealed);
    object.extend_from_slice(&tag);
    Ok(object)
}

struct Parts {
    header: GroupBackup,
    prefix: Prefix,
    header_bytes: usize,
}

fn split(name: &str, object: &[u8], repository: Uuid) -> Result<Parts> {
    let damaged = |why: &str| damaged(name, why);
    let prefix =
        Prefix::decode(object, ObjectKind::GroupState, repository).map_err(|e| damaged(&e))?;
    let length = object
        .get(PREFIX_BYTES..HEADER_AT)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u32::from_le_bytes)
        .ok_or_else(|| damaged("is cut short"))?;
    let header_bytes = usize::try_from(length).unwrap_or(usize::MAX);
    if header_bytes > HEADER_BYTES_MAX {
        return Err(damaged("has a header that is too long"));
    }
    let text = object
        .get(HEADER_AT..HEADER_AT + header_bytes)
        .ok_or_else(|| damaged("is cut short"))?;
    let header: GroupBackup = serde_json::from_slice(text)
        .map_err(|e| damaged(&format!("has a header that cannot be understood: {e}")))?;
    if header.version != VERSION {
        return Err(damaged(&format!(
            "has the unknown version {}",
            header.version
        )));
    }
    if header.name != name || header.encrypted != prefix.encrypted {
        return Err(damaged("is another one"));
    }
    Ok(Parts {
        header,
        prefix,
        header_bytes,
    })
}

fn open(
    header: &GroupBackup,
    prefix: &Prefix,
    key: Option<&DataKey>,
    object: &[u8],
    header_bytes: usize,
) -> Result<Vec<u8>> {
    let damaged = |why: &str| damaged(&header.name, why);
    let (start, sealed) = object.split_at(HEADER_AT + header_bytes);
    let mut sealed = sealed.to_vec();
    let length = Sealer::new(prefix, key)?
        .open_with_tag(0, &start[HEADER_AT..], &mut sealed)
        .map_err(|_| damaged("is damaged: its seal does not fit"))?;
    if header.state_bytes > STATE_BYTES_MAX {
        return Err(damaged("says that it is larger than a state can be"));
    }
    let mut state = Vec::new();
    zstd::Decoder::new(&sealed[..length])
        .and_then(|decoder| decoder.take(header.state_bytes + 1).read_to_end(&mut state))
        .map_err(|e| damaged(&format!("cannot be unpacked: {e}")))?;
    if state.len() as u64 != header.state_bytes {
        return Err(damaged("does not hold as much as it says"));
    }
    Ok(state)
}

fn damaged(name: &str, why: &str) -> Error {
    Error::corrupt(format!("coordinator backup {name} {why}"))
        .hint("Take an older one: ListCoordinatorBackups, or seawall-coordinator restore --backup.")
}

async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal(format!("the thread that seals a state died: {e}")))?
}
