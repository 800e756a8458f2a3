//! Backups of a directory into a recording store, each with what the coordinator would know of it.

use std::{collections::BTreeSet, fs, sync::Arc};

use bytes::Bytes;

use super::{
    super::*,
    recorder::{Change, Recorder},
};
use crate::repository::{layout, store::Store};

const HEADER: &str = r#"{"format": "seawall repository", "version": 2, "chunk_bytes": 1048576,
"repository_id": "6f1e2f9c-2f33-4c6e-9a53-0d2f3a1b4c5d", "created_unix_ms": 1}"#;

pub struct Story {
    directory: tempfile::TempDir,
    pub config: RepositoryConfig,
    pub store: Arc<Recorder>,
    repository: Repository,
    /// Oldest first.
    pub complete: Vec<Reference>,
    given_up: Vec<Reference>,
    next: u32,
}

impl Story {
    pub async fn begin(store: Arc<Recorder>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let identity = generate_identity();
        let file = directory.path().join("identity");
        fs::write(&file, identity.file.as_bytes()).unwrap();
        let config = RepositoryConfig {
            recipients: vec![identity.recipient],
            identity_file: Some(file),
            ..RepositoryConfig::at("memory")
        };
        fs::create_dir(directory.path().join("data")).unwrap();
        let header = Bytes::from_static(HEADER.as_bytes());
        store
            .do_unasked(Change::Put(layout::header(), header))
            .await;
        let repository = open(&store, &config).await;
        store.begin();
        Self {
            directory,
            config,
            store,
            repository,
            complete: Vec::new(),
            given_up: Vec::new(),
            next: 0,
        }
    }

    /// Another process, with another state directory, that finds the store as it was after some
    /// changes of this one: what has no manifest it gives up.
    pub async fn go_on_from(&self, changes: &[Change]) -> Self {
        let store = Recorder::play_back(changes).await;
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        for file in files_in(&self.data()) {
            fs::copy(&file, data.join(file.file_name().unwrap())).unwrap();
        }
        let mut story = Self {
            directory,
            config: self.config.clone(),
            repository: open(&store, &self.config).await,
            store,
            complete: Vec::new(),
            given_up: Vec::new(),
            next: 100,
        };
        for backup in story.repository.scan(&shard()).await.unwrap() {
            match backup.state {
                StoredState::Complete { manifest_hash, .. } => story.complete.push(Reference {
                    name: backup.name,
                    manifest_hash: Some(manifest_hash),
                }),
                StoredState::Incomplete => story.give_up(backup.name).await.unwrap(),
                _ => {}
            }
        }
        story
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A file of a content of its own.
    pub fn write(&self, name: &str, seed: usize) {
        fs::write(self.data().join(name), noise(30_000 + seed)).unwrap();
    }

    fn source(&mut self) -> BackupSource {
        self.next += 1;
        BackupSource {
            shard: shard(),
            name: name(self.next),
            alias: "zone1-101".parse().unwrap(),
            engine: "files".into(),
            details: vec![],
            epoch: 1,
            position: format!("0-1-{}", self.next).parse().unwrap(),
            started_unix_ms: 1,
            token: 1,
            operation: "o".into(),
            roots: vec![SourceRoot {
                name: "data".into(),
                path: self.data(),
                exclude: vec![],
            }],
            signer: None,
            page_check: None,
        }
    }

    fn may(&self) -> MayReferTo {
        let newest_first = self.complete.iter().rev();
        MayReferTo {
            backups: newest_first.chain(&self.given_up).cloned().collect(),
            damaged_packs: vec![],
        }
    }

    /// A backup; when it fails it is given up, as a coordinator would.
    pub async fn back_up(&mut self) -> Result<()> {
        let source = self.source();
        match self.copy(&source, true).await {
            Ok(hash) => {
                self.complete.push(Reference {
                    name: source.name,
                    manifest_hash: Some(hash),
                });
                Ok(())
            }
            Err(error) => {
                self.give_up(source.name).await?;
                Err(error)
            }
        }
    }

    /// A backup that is cut off just before its manifest.
    async fn back_up_in_vain(&mut self) -> Result<()> {
        let source = self.source();
        let copied = self.copy(&source, false).await;
        self.give_up(source.name).await?;
        copied.map(drop)
    }

    /// Answers the manifest's hash.
    async fn copy(&self, source: &BackupSource, put_manifest: bool) -> Result<String> {
        let state = self.directory.path().join("agent");
        fs::create_dir_all(&state).unwrap();
        let writer = Writer::new(&self.repository, &state);
        let may = self.may();
        let session = writer
            .prepare(&source.shard, &source.name, &may.backups)
            .await?;
        let (progress, never) = (Progress::new(), CancellationToken::new());
        let uploaded = writer
            .upload(source, session, &may, 2, &progress, &never)
            .await?;
        let manifest = uploaded.manifest.clone();
        if put_manifest {
            writer.remember(uploaded).await?;
            manifest.put(&self.repository).await?;
            writer.forget_sessions().await?;
        }
        Ok(manifest.hash().to_owned())
    }

    async fn give_up(&mut self, name: BackupName) -> Result<()> {
        self.repository.abandon(&shard(), &name, "cut off").await?;
        self.given_up.push(Reference {
            name,
            manifest_hash: None,
        });
        Ok(())
    }

    pub async fn remove_oldest(&mut self) -> Result<()> {
        let gone = self.complete.remove(0);
        self.repository.abandon(&shard(), &gone.name, "old").await
    }

    /// All of it, in small batches. What is begun upon is not named to a writer any more.
    pub async fn collect(&mut self) -> Result<()> {
        self.given_up.clear();
        let hash = |backup: &Reference| backup.manifest_hash.clone().unwrap_or_default();
        let request = CollectionRequest {
            expected: self
                .complete
                .iter()
                .map(|backup| (backup.name.clone(), hash(backup)))
                .collect(),
            keep: BTreeSet::new(),
            may_go: (0..200).map(name).collect(),
            damaged: BTreeSet::new(),
        };
        let limits = BatchLimits {
            objects: 3,
            bytes: u64::MAX,
        };
        let shard = shard();
        let collect = || self.repository.collect(&shard, &request, limits);
        while collect().await?.more {}
        Ok(())
    }

    /// A first backup, one that is cut off before its manifest, one that takes over from it, the
    /// first removed and collected, another.
    pub async fn run(&mut self) -> Result<()> {
        self.write("a", 1);
        self.write("b", 2);
        self.back_up().await?;
        self.write("c", 3);
        self.back_up_in_vain().await?;
        self.write("d", 4);
        self.back_up().await?;
        self.remove_oldest().await?;
        self.collect().await?;
        self.write("a", 5);
        self.back_up().await
    }
}

pub async fn open(store: &Arc<Recorder>, config: &RepositoryConfig) -> Repository {
    let store = Store::over(Arc::clone(store) as _).patient();
    Repository::open_over(store, config).await.unwrap()
}
