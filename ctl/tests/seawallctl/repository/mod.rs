//! `seawallctl repository` on a real repository, with no coordinator in sight.

mod check;
mod restore;
mod resumed;

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use seawall_common::{
    ids::{BackupName, ShardId},
    repository::{
        BackupSource, PageCheck, Progress, Repository, RepositoryConfig, SourceRoot, WriterKey,
        generate_identity, upload,
    },
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::fake::{Ended, run};

/// Where nobody listens: whoever asks a coordinator fails.
const NOBODY: &str = "http://127.0.0.1:1";

/// A repository with backups of `commerce/0`, by number: a higher one is of a later position.
struct Ground {
    directory: tempfile::TempDir,
    repository: Repository,
    identity: Option<PathBuf>,
}

impl Ground {
    async fn new(encrypted: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config =
            RepositoryConfig::at(format!("file://{}/repository", directory.path().display()));
        let mut identity = None;
        if encrypted {
            let file = directory.path().join("identity");
            let pair = generate_identity();
            std::fs::write(&file, pair.file.as_bytes()).unwrap();
            set_mode(&file, 0o600);
            config.recipients = vec![pair.recipient];
            identity = Some(file);
        }
        let repository = Repository::create_or_open(&config).await.unwrap();
        repository.claim("group-1", false).await.unwrap();
        std::fs::create_dir_all(directory.path().join("data/commerce")).unwrap();
        std::fs::create_dir(directory.path().join("redo")).unwrap();
        Self {
            directory,
            repository,
            identity,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn back_up(&self, number: u64) {
        std::fs::write(self.path("data/commerce/t.ibd"), format!("rows {number}")).unwrap();
        self.back_up_as_it_is(number, None).await;
    }

    async fn back_up_as_it_is(&self, number: u64, page_check: Option<Arc<dyn PageCheck>>) {
        self.back_up_by(None, number, page_check).await;
    }

    /// Signed, if there is a key.
    async fn back_up_by(
        &self,
        signer: Option<WriterKey>,
        number: u64,
        page_check: Option<Arc<dyn PageCheck>>,
    ) {
        std::fs::write(self.path("redo/ib_logfile0"), b"redo").unwrap();
        let root = |name: &str| SourceRoot {
            name: name.into(),
            path: self.path(name),
            exclude: vec![],
        };
        let source = BackupSource {
            shard: shard(),
            name: name(number),
            alias: "zone1-102".parse().unwrap(),
            engine: "mariadb".into(),
            details: vec![("version".into(), "10.11.6-MariaDB".into())],
            epoch: 2,
            position: format!("0-1-{number}").parse().unwrap(),
            started_unix_ms: 1_792_000_000_000,
            token: 1,
            operation: "o-1".into(),
            signer,
            roots: vec![root("data"), root("redo")],
            page_check,
        };
        upload(
            &self.repository,
            &source,
            2,
            &Progress::new(),
            &CancellationToken::new(),
        )
        .await
        .unwrap()
        .put(&self.repository)
        .await
        .unwrap();
    }

    async fn run(&self, args: &[&str]) -> Ended {
        let url = self.repository.url();
        let mut line = vec!["repository"];
        line.extend(args);
        line.extend(["--repository", url]);
        let identity = self
            .identity
            .as_ref()
            .map(|file| file.display().to_string());
        if let Some(identity) = &identity {
            line.extend(["--repository-identity-file", identity]);
        }
        run(NOBODY, &line).await
    }

    /// Everything below the repository, to see that nothing was touched.
    fn everything(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut all = Vec::new();
        let mut directories = vec![self.path("repository")];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    let bytes = std::fs::read(&path).unwrap();
                    all.push((path, bytes));
                }
            }
        }
        all.sort();
        all
    }

    fn manifest(&self, number: u64) -> PathBuf {
        self.path("repository/keyspaces/commerce/0/backups")
            .join(name(number).as_str())
            .join("manifest")
    }
}

fn shard() -> ShardId {
    "commerce/0".parse().unwrap()
}

fn name(number: u64) -> BackupName {
    let alias = "zone1-102".parse().unwrap();
    // Later positions have earlier names: the order must not come from them.
    BackupName::new(1_792_000_100_000 - number * 1000, &alias, 0).unwrap()
}

fn files_below(directory: &Path) -> usize {
    std::fs::read_dir(directory).map_or(0, Iterator::count)
}

impl Ground {
    /// A file of the shard, as the repository keys it.
    fn object(&self, key: &str) -> PathBuf {
        self.path("repository/keyspaces/commerce/0").join(key)
    }

    fn first_in(&self, directory: &str) -> PathBuf {
        let mut files: Vec<_> = std::fs::read_dir(self.object(directory))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .collect();
        files.sort();
        files.swap_remove(0)
    }

    fn key(&self, file: &Path) -> String {
        let key = file.strip_prefix(self.path("repository")).unwrap();
        key.to_str().unwrap().to_owned()
    }
}

fn set_mode(file: &Path, mode: u32) {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn flip(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

/// The program against nobody: `run` names a coordinator, and that is asked.
async fn run_alone(ground: &Ground, args: &[&str], identity: bool) -> Ended {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_seawallctl"));
    command
        .env_remove("SEAWALL_COORDINATOR")
        .arg("repository")
        .args(args);
    command.args(["--repository", ground.repository.url()]);
    if let Some(file) = ground.identity.as_ref().filter(|_| identity) {
        command.arg("--repository-identity-file").arg(file);
    }
    command.output().await.unwrap().into()
}

fn parsed(ended: &Ended) -> serde_json::Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended:#?}"))
}
