//! Keys: identities that were made, recipients, writers.

use seawall_common::repository;
use seawall_proto::v1;
use serde::Serialize;

use super::known;

#[derive(Debug, Serialize)]
pub struct Identity {
    pub identity_file: Option<String>,
    /// Its name, when it lies in the repository.
    pub identity: Option<String>,
    pub recipient: String,
}

#[derive(Debug, Serialize)]
struct ClosedSession {
    keyspace: String,
    shard: String,
    backup: String,
    error: String,
}

#[derive(Debug, Serialize)]
pub struct AddedRecipient {
    fingerprint: String,
    recipient: String,
    added: u64,
    present: u64,
    failed: Vec<ClosedSession>,
}

impl From<&repository::AddedRecipient> for AddedRecipient {
    fn from(added: &repository::AddedRecipient) -> Self {
        Self {
            fingerprint: added.fingerprint.clone(),
            recipient: added.recipient.clone(),
            added: added.added,
            present: added.present,
            failed: added
                .failed
                .iter()
                .map(|(shard, backup, error)| ClosedSession {
                    keyspace: shard.keyspace().to_owned(),
                    shard: shard.shard().to_owned(),
                    backup: backup.to_string(),
                    error: error.to_string(),
                })
                .collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Recipient {
    fingerprint: String,
    recipient: Option<String>,
    identities: Vec<String>,
    sessions: u64,
}

#[derive(Debug, Serialize)]
pub struct Recipients {
    sessions: u64,
    recipients: Vec<Recipient>,
}

impl From<&repository::RecipientUses> for Recipients {
    fn from(uses: &repository::RecipientUses) -> Self {
        Self {
            sessions: uses.sessions,
            recipients: uses
                .recipients
                .iter()
                .map(|one| Recipient {
                    fingerprint: one.fingerprint.clone(),
                    recipient: one.recipient.clone(),
                    identities: one.identities.clone(),
                    sessions: one.sessions,
                })
                .collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Writer {
    alias: String,
    writer_key: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Writers {
    writers: Vec<Writer>,
}

impl From<&[v1::Tablet]> for Writers {
    fn from(tablets: &[v1::Tablet]) -> Self {
        Self {
            writers: tablets
                .iter()
                .map(|tablet| Writer {
                    alias: tablet.alias.clone(),
                    writer_key: known(&tablet.writer_key),
                })
                .collect(),
        }
    }
}
