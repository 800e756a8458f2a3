//! Which sessions have a key file for which recipient: adds the files of a recipient, removes them,
//! and counts them. No data is touched, nothing is overwritten.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use uuid::Uuid;

use super::recipient::{Recipient, known_recipient, note_recipient};
use crate::{
    error::{Error, ErrorKind, Result},
    ids::{BackupName, ShardId},
    repository::{header::Repository, layout, manifest::load_key},
};

/// Requests in flight at once.
const AT_ONCE: usize = 16;

/// A session that is encrypted, and the fingerprints of those who have a key file of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SessionKeys {
    shard: ShardId,
    backup: BackupName,
    session: Uuid,
    fingerprints: BTreeSet<String>,
}

/// A recipient, and how many of the repository's sessions have a key file for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientUse {
    pub fingerprint: String,
    /// The public key as text, where the repository knows it.
    pub recipient: Option<String>,
    /// Names of the identities in the repository that belong to it.
    pub identities: Vec<String>,
    pub sessions: u64,
}

/// Everybody who has, or had, a key file; and how many sessions there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientUses {
    pub recipients: Vec<RecipientUse>,
    pub sessions: u64,
}

/// What became of a new recipient's key files.
#[derive(Clone, Debug)]
pub struct AddedRecipient {
    pub fingerprint: String,
    pub recipient: String,
    pub added: u64,
    /// Were there before.
    pub present: u64,
    /// Sessions that the identity does not open, and why.
    pub failed: Vec<(ShardId, BackupName, Error)>,
}

/// What one batch of a removal did in a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemovedKeys {
    pub deleted: u64,
    /// Sessions of which it has the last key file: it stays, or nobody could ever open them again.
    pub kept: u64,
    /// Still to be deleted, by the next batch.
    pub left: u64,
}

/// A recipient's key files under one backup's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyFiles {
    /// A removal of the recipient would delete them.
    pub going: u64,
    /// It would keep them: each is the last one of its session.
    pub staying: u64,
}

/// 16 hexadecimal digits, as key files and ListRecipients name a recipient.
pub fn check_fingerprint(text: &str) -> Result<()> {
    let is_good = text.len() == 16
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if is_good {
        return Ok(());
    }
    Err(Error::invalid(format!("malformed fingerprint {text:?}"))
        .hint("It has 16 hexadecimal digits: ListRecipients shows it."))
}

/// The fingerprint of a recipient that is given by its public key, or by its fingerprint.
pub fn fingerprint_of(text: &str) -> Result<String> {
    let text = text.trim();
    if check_fingerprint(text).is_ok() {
        return Ok(text.to_owned());
    }
    Recipient::parse(text).map(|recipient| recipient.fingerprint)
}

impl Repository {
    pub async fn recipient_uses(&self) -> Result<RecipientUses> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let mut sessions = 0;
        for shard in self.shards().await? {
            for session in self.session_keys(&shard).await? {
                sessions += 1;
                for fingerprint in session.fingerprints {
                    *counts.entry(fingerprint).or_default() += 1;
                }
            }
        }
        for fingerprint in self.store().folder(&layout::recipients()).await?.objects {
            if check_fingerprint(&fingerprint).is_ok() {
                counts.entry(fingerprint).or_default();
            }
        }
        let mut identities: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for identity in self.stored_identities().await? {
            if let Ok(recipient) = Recipient::parse(&identity.recipient) {
                let names = identities.entry(recipient.fingerprint).or_default();
                names.push(identity.name);
            }
        }
        let mut recipients = Vec::with_capacity(counts.len());
        for (fingerprint, sessions) in counts {
            let recipient = known_recipient(self, &fingerprint).await?;
            recipients.push(RecipientUse {
                recipient: recipient.map(|known| known.text()),
                identities: identities.remove(&fingerprint).unwrap_or_default(),
                fingerprint,
                sessions,
            });
        }
        Ok(RecipientUses {
            recipients,
            sessions,
        })
    }

    /// Opens every session's data key with the repository's identity and writes the key files that
    /// the new recipient lacks. May be repeated: what is there stays. `progress` is told how many of
    /// how many sessions have been looked at.
    pub async fn add_recipient(
        &self,
        text: &str,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<AddedRecipient> {
        let recipient = Recipient::parse(text)?;
        let mut sessions = Vec::new();
        for shard in self.shards().await? {
            sessions.extend(self.session_keys(&shard).await?);
        }
        note_recipient(self, &recipient).await?;
        let mut added = AddedRecipient {
            fingerprint: recipient.fingerprint.clone(),
            recipient: recipient.text(),
            added: 0,
            present: 0,
            failed: Vec::new(),
        };
        let total = sessions.len() as u64;
        let recipient = &recipient;
        let mut tries = futures::stream::iter(&sessions)
            .map(|session| async move { (session, self.add_key_file(session, recipient).await) })
            .buffered(AT_ONCE);
        for done in 1.. {
            match tries.next().await {
                None => break,
                Some((_, Ok(true))) => added.added += 1,
                Some((_, Ok(false))) => added.present += 1,
                Some((session, Err(e))) => {
                    let SessionKeys { shard, backup, .. } = session;
                    added.failed.push((shard.clone(), backup.clone(), e));
                }
            }
            progress(done, total);
        }
        Ok(added)
    }

    /// Whether one was written; `false`: it was there.
    async fn add_key_file(&self, of: &SessionKeys, recipient: &Recipient) -> Result<bool> {
        if of.fingerprints.contains(&recipient.fingerprint) {
            return match self.has_good_key_of(of, &recipient.fingerprint).await? {
                true => Ok(false),
                false => Err(Error::corrupt(format!(
                    "the key file that is there for {} is damaged",
                    recipient.fingerprint
                ))
                .hint("Nothing is overwritten: take a new backup, which writes keys of its own.")),
            };
        }
        let data_key = load_key(self, &of.shard, &of.backup, of.session).await?;
        let wrapped = recipient.wrap(&data_key, self.uuid(), of.session)?;
        let key = layout::key(&of.shard, &of.backup, of.session, &recipient.fingerprint);
        // Another one's of the same name opens as well.
        self.store().put_if_absent(&key, Bytes::from(wrapped)).await
    }

    /// Deletes at most `batch` key files of a recipient in a shard; never the last one of a session.
    /// Only for the owner, under the delete side of the shard's lock, one recipient at a time.
    pub async fn remove_recipient(
        &self,
        shard: &ShardId,
        fingerprint: &str,
        batch: usize,
    ) -> Result<RemovedKeys> {
        check_fingerprint(fingerprint)?;
        let mut removed = RemovedKeys::default();
        let mut keys = Vec::new();
        let sessions = self.sessions_of(shard, fingerprint).await?;
        removed.left = sessions.len() as u64;
        let mut looked_at = self.look_who_else_opens(sessions, fingerprint);
        while keys.len() < batch
            && let Some((session, goes)) = looked_at.try_next().await?
        {
            removed.left -= 1;
            if goes {
                let (backup, session) = (&session.backup, session.session);
                keys.push(layout::key(shard, backup, session, fingerprint));
            } else {
                removed.kept += 1;
            }
        }
        drop(looked_at);
        removed.deleted = keys.len() as u64;
        self.store().delete(keys).await?;
        Ok(removed)
    }

    /// What [`Repository::remove_recipient`] would do in a shard, all batches together, backup by
    /// backup. Deletes nothing.
    pub async fn plan_recipient_removal(
        &self,
        shard: &ShardId,
        fingerprint: &str,
    ) -> Result<BTreeMap<BackupName, KeyFiles>> {
        check_fingerprint(fingerprint)?;
        let sessions = self.sessions_of(shard, fingerprint).await?;
        let mut looked_at = self.look_who_else_opens(sessions, fingerprint);
        let mut plan: BTreeMap<BackupName, KeyFiles> = BTreeMap::new();
        while let Some((session, goes)) = looked_at.try_next().await? {
            let files = plan.entry(session.backup).or_default();
            files.going += u64::from(goes);
            files.staying += u64::from(!goes);
        }
        Ok(plan)
    }

    /// The sessions that a recipient has a key file of.
    async fn sessions_of(&self, shard: &ShardId, fingerprint: &str) -> Result<Vec<SessionKeys>> {
        let mut sessions = self.session_keys(shard).await?;
        sessions.retain(|session| session.fingerprints.contains(fingerprint));
        Ok(sessions)
    }

    /// Each session, in order, and whether it can be opened without this recipient.
    fn look_who_else_opens<'a>(
        &'a self,
        sessions: Vec<SessionKeys>,
        fingerprint: &'a str,
    ) -> impl Stream<Item = Result<(SessionKeys, bool)>> + Unpin + 'a {
        futures::stream::iter(sessions)
            .map(move |session| async move {
                let goes = self.opens_without(&session, fingerprint).await?;
                Ok((session, goes))
            })
            .buffered(AT_ONCE)
    }

    /// Whether somebody else has a key file of the session that looks whole.
    async fn opens_without(&self, of: &SessionKeys, fingerprint: &str) -> Result<bool> {
        for other in of.fingerprints.iter().filter(|f| *f != fingerprint) {
            if self.has_good_key_of(of, other).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn has_good_key_of(&self, of: &SessionKeys, fingerprint: &str) -> Result<bool> {
        self.has_good_key_file(&of.shard, &of.backup, of.session, fingerprint)
            .await
    }

    /// The shards in which a recipient has key files.
    pub async fn shards_of_recipient(&self, fingerprint: &str) -> Result<Vec<ShardId>> {
        check_fingerprint(fingerprint)?;
        let mut shards = Vec::new();
        for shard in self.shards().await? {
            let sessions = self.session_keys(&shard).await?;
            if sessions
                .iter()
                .any(|session| session.fingerprints.contains(fingerprint))
            {
                shards.push(shard);
            }
        }
        Ok(shards)
    }

    /// The encrypted sessions of a shard, those of backups that were given up among them.
    async fn session_keys(&self, shard: &ShardId) -> Result<Vec<SessionKeys>> {
        let folders = self.store().folder(&layout::packs(shard)).await?.folders;
        let names: Vec<BackupName> = folders.iter().filter_map(|n| n.parse().ok()).collect();
        let sessions: Vec<Vec<SessionKeys>> = futures::stream::iter(names)
            .map(|backup| async move {
                let files = self.store().folder(&layout::keys(shard, &backup)).await?;
                Ok::<_, Error>(sessions_of(shard, &backup, &files.objects))
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        self.check_there().await?;
        Ok(sessions.into_iter().flatten().collect())
    }
}

fn sessions_of(shard: &ShardId, backup: &BackupName, files: &[String]) -> Vec<SessionKeys> {
    let mut found: BTreeMap<Uuid, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        match parse(file) {
            Some((session, fingerprint)) => {
                found.entry(session).or_default().insert(fingerprint);
            }
            None => tracing::warn!("{file:?} of backup {backup} of {shard} is no key file"),
        }
    }
    found
        .into_iter()
        .map(|(session, fingerprints)| SessionKeys {
            shard: shard.clone(),
            backup: backup.clone(),
            session,
            fingerprints,
        })
        .collect()
}

/// `<session id>.<fingerprint>.age`
fn parse(file: &str) -> Option<(Uuid, String)> {
    let (session, fingerprint) = file.strip_suffix(".age")?.split_once('.')?;
    let session: Uuid = session.parse().ok()?;
    check_fingerprint(fingerprint).ok()?;
    Some((session, fingerprint.to_owned()))
}

impl AddedRecipient {
    /// What went wrong with the sessions that stayed closed; `None`: nothing.
    pub fn failure(&self) -> Option<Error> {
        let (shard, backup, error) = self.failed.first()?;
        let kind = match error.kind() {
            ErrorKind::Corrupt => ErrorKind::Corrupt,
            _ => ErrorKind::Refused,
        };
        let more = match self.failed.len() {
            1 => String::new(),
            many => format!(" (and {} more)", many - 1),
        };
        Some(
            Error::new(
                kind,
                format!(
                    "backup {backup} of {shard} stays closed{more}: {}",
                    error.message()
                ),
            )
            .hint("Run it again with an identity that opens them."),
        )
    }
}
