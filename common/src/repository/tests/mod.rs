//! The repository as a whole, on a real directory.

mod broken;
mod collection;
mod damage;
mod faults;
mod forged;
mod forged_lists;
mod format;
mod golden;
mod group_state;
mod hanging;
mod incremental;
mod key_files;
mod line;
mod matrix;
mod probing;
mod recipients;
mod recorded;
mod records;
mod removals;
mod resumed;
mod round_trip;
mod shard;
mod signatures;
mod store_faults;
mod taken_over;
mod throttled;
mod trees;
mod verify;
mod walking;
mod wire;

use std::{
    collections::BTreeMap,
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    error::{ErrorKind, Result},
    ids::{BackupName, ShardId},
};

/// A repository in a directory of its own, and a directory to back up.
struct Ground {
    directory: tempfile::TempDir,
    config: RepositoryConfig,
    repository: Repository,
}

impl Ground {
    async fn new() -> Self {
        Self::with(|_| RepositoryConfig::default()).await
    }

    /// Encrypted for a fresh identity, which the reader has.
    async fn encrypted() -> Self {
        Self::with(|directory| {
            let identity = generate_identity();
            let file = directory.join("identity.txt");
            std::fs::write(&file, identity.file.as_bytes()).unwrap();
            RepositoryConfig {
                recipients: vec![identity.recipient],
                identity_file: Some(file),
                ..RepositoryConfig::default()
            }
        })
        .await
    }

    async fn with(config: impl FnOnce(&Path) -> RepositoryConfig) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config(directory.path());
        config.url = format!("file://{}/repository", directory.path().display());
        let repository = Repository::create_or_open(&config).await.unwrap();
        std::fs::create_dir(directory.path().join("data")).unwrap();
        Self {
            directory,
            config,
            repository,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    fn source(&self) -> BackupSource {
        BackupSource {
            shard: shard(),
            name: name(0),
            alias: "zone1-101".parse().unwrap(),
            engine: "files".into(),
            details: vec![("version".into(), "10.11.6".into())],
            epoch: 3,
            position: "0-1-100".parse().unwrap(),
            started_unix_ms: 1_792_000_000_000,
            token: 7,
            operation: "019".into(),
            signer: None,
            roots: vec![SourceRoot {
                name: "data".into(),
                path: self.data(),
                exclude: vec!["tmp".into(), "mysql-bin.*".into()],
            }],
            page_check: None,
        }
    }

    async fn upload(&self, source: &BackupSource) -> Result<PreparedManifest> {
        upload(
            &self.repository,
            source,
            3,
            &Progress::new(),
            &CancellationToken::new(),
        )
        .await
    }

    /// A complete backup of the data directory.
    async fn back_up(&self) -> PreparedManifest {
        let prepared = self.upload(&self.source()).await.unwrap();
        prepared.put(&self.repository).await.unwrap();
        prepared
    }

    async fn manifest(&self) -> Result<Manifest> {
        read_manifest(&self.repository, &shard(), &name(0), None).await
    }

    async fn restore(&self) -> Result<PathBuf> {
        let manifest = self.manifest().await?;
        let target = self.path("restored");
        let targets = BTreeMap::from([("data".to_owned(), target.clone())]);
        download(
            &self.repository,
            &manifest,
            &targets,
            3,
            &Progress::new(),
            &CancellationToken::new(),
        )
        .await?;
        Ok(target)
    }

    /// Into "restored", with what lies here already.
    async fn restore_over(&self, destination: &Destination) -> Result<Fetched> {
        let manifest = self.manifest().await?;
        let destinations = Destinations::from([("data".to_owned(), destination.clone())]);
        let (progress, never) = (Progress::new(), CancellationToken::new());
        restore(
            &self.repository,
            &manifest,
            &destinations,
            3,
            &progress,
            &never,
        )
        .await
    }

    /// The files of the backup's packs, on disk.
    fn packs(&self) -> Vec<PathBuf> {
        files_in(&self.objects("packs"))
    }

    /// Directory with the backup's packs, or with its manifest ("backups").
    fn objects(&self, kind: &str) -> PathBuf {
        self.path(&format!(
            "repository/keyspaces/commerce/0/{kind}/{}",
            name(0)
        ))
    }
}

fn shard() -> ShardId {
    "commerce/0".parse().unwrap()
}

fn name(suffix: u32) -> BackupName {
    BackupName::new(1_792_000_000_123, &"zone1-101".parse().unwrap(), suffix).unwrap()
}

fn files_in(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

/// Everything below the root of a repository in a directory: the keys, in order, with their files.
fn objects_below(root: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let key = path.strip_prefix(root).unwrap().to_str().unwrap();
                found.insert(key.to_owned(), path);
            }
        }
    }
    found
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new()
        .update(&bytes.to_le_bytes())
        .finalize_xof()
        .fill(&mut noise);
    noise
}

/// Everything that a backup has to bring back.
fn fill(directory: &Path) {
    let write = |name: &str, bytes: &[u8]| std::fs::write(directory.join(name), bytes).unwrap();
    write("empty", b"");
    write("small", b"x");
    write("ibdata1", &noise(3 << 20));
    write("text", "commerce ".repeat(300_000).as_bytes());
    write("exactly", &noise(1 << 20));
    std::fs::create_dir_all(directory.join("a/b/c")).unwrap();
    std::fs::create_dir(directory.join("a.empty")).unwrap();
    for i in 0..300 {
        write(&format!("a/b/t{i:03}.frm"), format!("table {i}").as_bytes());
    }
    write("a/b/c/deep", &noise(100));
    let sparse = std::fs::File::create(directory.join("sparse")).unwrap();
    sparse.set_len(20 << 20).unwrap();
    sparse.write_all_at(b"in the middle", 9 << 20).unwrap();
    let zeros = vec![0; 2 << 20];
    write("zeros", &zeros);
    std::os::unix::fs::symlink("../small", directory.join("a/link")).unwrap();
    // Left out: patterns, and what is no file.
    std::fs::create_dir(directory.join("tmp")).unwrap();
    write("tmp/x", b"x");
    write("mysql-bin.000001", b"x");
    let _socket = std::os::unix::net::UnixListener::bind(directory.join("mysql.sock")).unwrap();
    let mode = |name: &str, mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(directory.join(name), permissions).unwrap();
    };
    mode("small", 0o640);
    mode("a/b", 0o2750);
    mode("a", 0o500);
}
