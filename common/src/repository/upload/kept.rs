//! What a writer keeps in its agent's state directory: the key of the session under way, and of
//! those that were cut off, until nobody can go on from them; and the indexes of known chunks.
//!
//! `sessions/<backup>/<session>` (0600, on the disk before anything is sealed with it): `bytes[8]`
//! magic, repository id, session id, `u8` 1 if encrypted, `bytes[32]` key, `bytes[32]` BLAKE3 of
//! all before. A key that was damaged here would make a backup that nobody can open.

use std::{
    collections::BTreeMap,
    fs::{DirBuilder, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use uuid::Uuid;
use zeroize::Zeroizing;

use super::session::Session;
use crate::{
    error::{Error, Result},
    ids::BackupName,
    repository::{keys::DataKey, known::Reference},
};

const MAGIC: &[u8; 8] = b"SWLSESS1";
const PLAIN_BYTES: usize = 8 + 16 + 16 + 1 + 32;
const FILE_BYTES: usize = PLAIN_BYTES + 32;

#[derive(Clone, Debug)]
pub(super) struct Kept {
    directory: PathBuf,
}

impl Kept {
    pub fn new(state_dir: &Path) -> Self {
        Self {
            directory: state_dir.to_owned(),
        }
    }

    /// Where the indexes lie; made when it is not there.
    pub fn known(&self) -> Result<PathBuf> {
        let directory = self.directory.join("known");
        make(&directory)?;
        Ok(directory)
    }

    fn sessions(&self) -> PathBuf {
        self.directory.join("sessions")
    }

    fn sessions_of(&self, name: &BackupName) -> PathBuf {
        self.sessions().join(name.as_str())
    }

    /// Whether a session of this backup was begun here.
    pub fn has_begun(&self, name: &BackupName) -> bool {
        self.sessions_of(name).is_dir()
    }

    /// Durable when this returns.
    pub fn save(&self, name: &BackupName, session: &Session) -> Result<()> {
        let directory = self.sessions_of(name);
        make(&directory)?;
        let path = directory.join(session.id.simple().to_string());
        let bytes = encode(session);
        let failed = |e: std::io::Error| Error::io("write", &path, &e);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        for path in [&directory, &self.sessions(), &self.directory] {
            File::open(path)
                .and_then(|d| d.sync_all())
                .map_err(|e| Error::io("sync", path, &e))?;
        }
        Ok(())
    }

    /// A session that was begun here.
    pub fn load(&self, repository: Uuid, name: &BackupName, id: Uuid) -> Result<Session> {
        let path = self.sessions_of(name).join(id.simple().to_string());
        let bytes = read(&path)?;
        decode(&bytes)
            .filter(|session| session.id == id && session.repository() == repository)
            .ok_or_else(|| {
                Error::corrupt(format!("{} is damaged or foreign", path.display()))
                    .hint("Start the backup again.")
            })
    }

    /// The keys of all sessions that were begun here and can be read.
    pub fn keys(&self, repository: Uuid) -> Result<BTreeMap<Uuid, DataKey>> {
        let mut keys = BTreeMap::new();
        for backup in entries(&self.sessions())? {
            for path in entries(&backup)? {
                let session = decode(&read(&path)?);
                match session.filter(|session| session.repository() == repository) {
                    Some(session) => {
                        keys.extend(session.key().map(|key| (session.id, key.clone())));
                    }
                    // Cut off while it was written: nothing was sealed with it.
                    None => tracing::warn!("{} is damaged or foreign", path.display()),
                }
            }
        }
        Ok(keys)
    }

    /// Forgets the sessions from which nobody can go on any more.
    pub fn forget_others(&self, references: &[Reference], own: &BackupName) -> Result<()> {
        for directory in entries(&self.sessions())? {
            let name = directory.file_name().and_then(|name| name.to_str());
            let is_named = name == Some(own.as_str())
                || references.iter().any(|reference| {
                    reference.manifest_hash.is_none() && name == Some(reference.name.as_str())
                });
            if !is_named {
                remove(&directory)?;
            }
        }
        Ok(())
    }

    /// A backup is complete: nobody has to go on from here any more, and who has this directory shall
    /// not be able to read.
    pub fn forget_all(&self) -> Result<()> {
        remove(&self.sessions())
    }
}

fn make(directory: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|e| Error::io("make directory", directory, &e))
}

fn remove(directory: &Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", directory, &e))
        }
        _ => Ok(()),
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e: std::io::Error| Error::io("read directory", directory, &e);
    match std::fs::read_dir(directory) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed
            .map_err(failed)?
            .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
            .collect(),
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES + 1));
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|e| Error::io("read", path, &e))?;
    Ok(bytes)
}

fn encode(session: &Session) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES));
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(session.repository().as_bytes());
    bytes.extend_from_slice(session.id.as_bytes());
    bytes.push(u8::from(session.is_encrypted()));
    bytes.extend_from_slice(session.key().map_or(&[0; 32][..], |key| &key.bytes()[..]));
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Session> {
    let (plain, hash) = bytes.split_at_checked(PLAIN_BYTES)?;
    if blake3::hash(plain).as_bytes()[..] != *hash || plain[..8] != MAGIC[..] {
        return None;
    }
    let uuid = |at: usize| Some(Uuid::from_bytes(*plain.get(at..)?.first_chunk()?));
    let key = match plain.get(40)? {
        0 => None,
        1 => Some(DataKey::new(Zeroizing::new(
            *plain.get(41..)?.first_chunk()?,
        ))),
        _ => return None,
    };
    Some(Session::again(uuid(8)?, uuid(24)?, key))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_session_is_read_as_it_was_kept_and_a_damaged_one_is_no_session() {
        let directory = tempfile::tempdir().unwrap();
        let kept = Kept::new(directory.path());
        let name: BackupName = "2026-11-21.031500.zone1-101".parse().unwrap();
        let repository = Uuid::from_u128(1);
        for key in [None, Some(DataKey::generate())] {
            let session = Session::again(repository, Uuid::new_v4(), key.clone());
            kept.save(&name, &session).unwrap();
            let again = kept.load(repository, &name, session.id).unwrap();
            assert_eq!(
                again.key().map(DataKey::bytes),
                key.as_ref().map(DataKey::bytes)
            );
            assert!(kept.load(Uuid::from_u128(2), &name, session.id).is_err());
            let path = kept
                .sessions_of(&name)
                .join(session.id.simple().to_string());
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            let whole = std::fs::read(&path).unwrap();
            for at in 0..whole.len() {
                let mut altered = whole.clone();
                altered[at] ^= 1;
                std::fs::write(&path, altered).unwrap();
                assert!(
                    kept.load(repository, &name, session.id).is_err(),
                    "byte {at}"
                );
            }
            std::fs::write(&path, &whole).unwrap();
        }
        assert_eq!(kept.keys(repository).unwrap().len(), 1, "one is encrypted");
        kept.forget_others(&[], &name).unwrap();
        assert!(kept.has_begun(&name));
        let reference = |manifest_hash| Reference {
            name: name.clone(),
            manifest_hash,
        };
        let other: BackupName = "2026-11-22.031500.zone1-101".parse().unwrap();
        kept.forget_others(&[reference(None)], &other).unwrap();
        assert!(kept.has_begun(&name), "an attempt that can be gone on with");
        kept.forget_others(&[reference(Some("ab".into()))], &other)
            .unwrap();
        assert!(!kept.has_begun(&name));
    }
}
