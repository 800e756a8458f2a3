//! Keys of every kind, right, wrong and damaged.

mod identities;
mod opening;
mod passphrases;
mod stored;
mod writers;

use std::path::{Path, PathBuf};

use super::*;
use crate::{error::Result, repository::RepositoryConfig};

/// The passphrase of everything that is locked here.
const PASSPHRASE: &str = "correct horse";

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text, "the test's passphrase").unwrap()
}

/// The settings of somebody who has the identity in a file, and its passphrase in another.
struct Reader {
    directory: tempfile::TempDir,
    config: RepositoryConfig,
}

impl Reader {
    fn new(identity: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("identity");
        std::fs::write(&file, identity).unwrap();
        let config = RepositoryConfig {
            identity_file: Some(file),
            ..RepositoryConfig::default()
        };
        Self { directory, config }
    }

    fn knowing(mut self, passphrase: &str) -> Self {
        let file = self.path("passphrase");
        std::fs::write(&file, format!("{passphrase}\n")).unwrap();
        self.config.passphrase_file = Some(file);
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn keys(&self) -> Result<Keys> {
        Keys::read(&self.config, &NobodyToAsk).await
    }

    async fn identities(&self) -> Result<Identities> {
        Ok(self.keys().await?.identities.unwrap())
    }
}

/// A kind of key: the public half, the private half as it is, and locked.
struct KindOfKey {
    what: &'static str,
    recipient: String,
    open: Vec<u8>,
    locked: Vec<u8>,
}

async fn all_kinds() -> Vec<KindOfKey> {
    let generated = generate_identity();
    let locked = lock_identity(&generated, &passphrase(PASSPHRASE)).await;
    let x25519 = KindOfKey {
        what: "X25519",
        recipient: generated.recipient.clone(),
        open: generated.file.as_bytes().to_vec(),
        locked: locked.unwrap(),
    };
    vec![x25519, ssh("ed25519"), ssh("rsa")]
}

fn ssh(name: &'static str) -> KindOfKey {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/repository/keys/tests/data");
    let read = |suffix: &str| std::fs::read(data.join(format!("{name}{suffix}"))).unwrap();
    KindOfKey {
        what: name,
        recipient: String::from_utf8(read(".pub")).unwrap(),
        open: read(""),
        locked: read(".locked"),
    }
}
