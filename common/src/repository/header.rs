//! `seawall.json`: that a repository is here, in which format, and which one it is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    chunk::CHUNK_BYTES,
    config::RepositoryConfig,
    keys::{Identities, Keys, NobodyToAsk, Prompt, Recipients},
    layout,
    manifest::ManifestHeader,
    probe,
    store::Store,
    throttle::Throttle,
};
use crate::{
    clock,
    error::{Error, ErrorKind, Result},
};

/// The version of the format that this program writes, and the newest that it reads.
pub(super) const FORMAT_VERSION: u32 = 2;
const FORMAT_NAME: &str = "seawall repository";
const HEADER_BYTES_MAX: u64 = 64 << 10;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    format: String,
    version: u32,
    repository_id: Uuid,
    chunk_bytes: u32,
    created_unix_ms: u64,
}

/// An open repository; a clone is the same one.
#[derive(Clone, Debug)]
pub struct Repository(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    url: String,
    id: Uuid,
    id_text: String,
    store: Store,
    is_probed: AtomicBool,
    keys: Keys,
}

impl Repository {
    /// Opens the repository, and makes it where there is none yet. For the coordinator.
    pub async fn create_or_open(config: &RepositoryConfig) -> Result<Self> {
        let mut keys = Keys::read(config, &NobodyToAsk).await?;
        let store = Store::open(config, true).await?;
        match read(&store, &config.url).await {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            found => {
                let header = found?;
                keys.find(&store, config, &NobodyToAsk).await?;
                return Ok(Self::new(config, store, keys, &header));
            }
        }
        // Nothing is made where it could not be kept.
        probe::probe(&store, &config.url).await?;
        let header = Header {
            format: FORMAT_NAME.to_owned(),
            version: FORMAT_VERSION,
            repository_id: Uuid::new_v4(),
            chunk_bytes: CHUNK_BYTES as u32,
            created_unix_ms: clock::now_unix_ms(),
        };
        let mut bytes = serde_json::to_vec_pretty(&header)
            .map_err(|e| Error::internal(format!("cannot write the repository's header: {e}")))?;
        bytes.push(b'\n');
        // Another creator may have been first: its header is the one that counts.
        store
            .put_if_absent(&layout::header(), Bytes::from(bytes))
            .await
            .map_err(|e| e.context(format_args!("cannot create repository {}", config.url)))?;
        let header = read(&store, &config.url).await?;
        keys.find(&store, config, &NobodyToAsk).await?;
        let repository = Self::new(config, store, keys, &header);
        repository.0.is_probed.store(true, Ordering::Relaxed);
        Ok(repository)
    }

    /// Makes sure, once, that the store can do what a repository needs of it. For whoever is going
    /// to write to it and to delete from it.
    pub async fn probe(&self) -> Result<()> {
        if !self.0.is_probed.load(Ordering::Relaxed) {
            probe::probe(self.store(), self.url()).await?;
            self.0.is_probed.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Opens a repository that must be there: without a header it is [`ErrorKind::NotFound`],
    /// never "no backup yet".
    pub async fn open(config: &RepositoryConfig) -> Result<Self> {
        Self::open_asking(config, &NobodyToAsk).await
    }

    /// The same for a program with a person before it, who is asked for a passphrase when one is
    /// needed and not configured.
    pub async fn open_asking(config: &RepositoryConfig, prompt: &dyn Prompt) -> Result<Self> {
        let mut keys = Keys::read(config, prompt).await?;
        let store = Store::open(config, false).await?;
        let header = read(&store, &config.url).await?;
        keys.find(&store, config, prompt).await?;
        Ok(Self::new(config, store, keys, &header))
    }

    /// The repository in a store of a test's own.
    #[cfg(test)]
    pub(super) async fn open_over(store: Store, config: &RepositoryConfig) -> Result<Self> {
        let keys = Keys::read(config, &NobodyToAsk).await?;
        let header = read(&store, &config.url).await?;
        Ok(Self::new(config, store, keys, &header))
    }

    fn new(config: &RepositoryConfig, store: Store, keys: Keys, header: &Header) -> Self {
        Self(Arc::new(Inner {
            url: config.url.clone(),
            id: header.repository_id,
            id_text: header.repository_id.to_string(),
            store,
            is_probed: AtomicBool::new(false),
            keys,
        }))
    }

    /// An error when nothing, or another repository, lies where this one was opened: a mount point
    /// without its file system answers every listing with "nothing", and that must not be believed.
    pub(super) async fn check_there(&self) -> Result<()> {
        let gone = |how: &str| {
            let url = self.url();
            Error::unavailable(format!("repository {url} {how}"))
                .hint("Is its file system mounted?")
        };
        match read(self.store(), self.url()).await {
            Ok(header) if header.repository_id == self.uuid() => Ok(()),
            Ok(_) => Err(gone("is another one by now")),
            Err(e) if e.kind() == ErrorKind::NotFound => Err(gone("is not there any more")),
            Err(e) => Err(e),
        }
    }

    /// The repository's own id, a UUID.
    pub fn id(&self) -> &str {
        &self.0.id_text
    }

    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// Whether what is written from here is encrypted.
    pub fn is_encrypting(&self) -> bool {
        !self.0.keys.recipients.is_empty()
    }

    /// Limits all data that is transferred to and from here; there is one repository in a process.
    pub fn throttle(&self) -> &Throttle {
        self.store().throttle()
    }

    /// How long one request to the store may be on its way, when no data goes with it.
    pub fn request_timeout(&self) -> Duration {
        self.store().request_timeout()
    }

    pub(super) fn uuid(&self) -> Uuid {
        self.0.id
    }

    pub(super) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(super) fn recipients(&self) -> &Recipients {
        &self.0.keys.recipients
    }

    pub(super) fn identities(&self) -> Option<&Identities> {
        self.0.keys.identities.as_ref()
    }

    /// Whether the settings pin the writers whose backups are restored.
    pub fn pins_writers(&self) -> bool {
        !self.0.keys.trusted_writers.is_empty()
    }

    /// Whether a backup was signed by a pinned writer; without pins, anybody will do. `header` has
    /// been read from a manifest whose signature fits.
    ///
    /// What is not is [`ErrorKind::Refused`], not damage: another reader may pin other writers, and
    /// a pin that was forgotten must not mark a backup as broken for everybody.
    pub fn check_writer(&self, header: &ManifestHeader) -> Result<()> {
        let trusted = &self.0.keys.trusted_writers;
        trusted.check(&header.writer_key).map_err(|why| {
            let key = layout::manifest(&header.shard, &header.name);
            Error::refused(format!("object {key} {why}")).hint(
                "If that writer is yours, add its key, which ListWriters shows, to repository.trusted_writers; if not, take the backup out of use with MarkBackupBroken.",
            )
        })
    }
}

fn unknown_version(url: &str, version: u64) -> Error {
    let hint = if version < u64::from(FORMAT_VERSION) {
        "It comes from before the first release and cannot be converted: give repository.url a new place and take new backups."
    } else {
        "Use a newer Seawall."
    };
    Error::refused(format!(
        "repository {url} has format version {version}, this program knows {FORMAT_VERSION}"
    ))
    .hint(hint)
}

async fn read(store: &Store, url: &str) -> Result<Header> {
    let bytes = match store.get(&layout::header(), HEADER_BYTES_MAX).await {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(Error::not_found(format!(
                "there is no repository at {url}: no seawall.json"
            ))
            .hint("Check repository.url; the coordinator creates a repository, nobody else."));
        }
        other => other?,
    };
    parse(&bytes, url)
}

/// Reads `seawall.json`.
pub(super) fn parse(bytes: &[u8], url: &str) -> Result<Header> {
    let damaged = |why: String| Error::corrupt(format!("repository {url}: seawall.json {why}"));
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|e| damaged(format!("is not valid JSON: {e}")))?;
    if value.get("format").and_then(|f| f.as_str()) != Some(FORMAT_NAME) {
        return Err(damaged("does not describe a Seawall repository".into()));
    }
    let version = value.get("version").and_then(serde_json::Value::as_u64);
    match version {
        Some(v) if v == u64::from(FORMAT_VERSION) => {}
        Some(v) => return Err(unknown_version(url, v)),
        None => return Err(damaged("names no version".into())),
    }
    let header: Header =
        serde_json::from_value(value).map_err(|e| damaged(format!("cannot be understood: {e}")))?;
    if header.chunk_bytes as usize != CHUNK_BYTES {
        return Err(damaged(format!(
            "has a chunk size of {} bytes, this program knows {CHUNK_BYTES}",
            header.chunk_bytes
        )));
    }
    Ok(header)
}
