//! Backups of one directory after each other, each by an agent with a state directory, under names
//! of their own: what a coordinator does with them, without one.

use super::*;

pub(super) struct Line {
    pub ground: Ground,
    /// Complete ones, oldest first.
    pub complete: Vec<Reference>,
    pub given_up: Vec<Reference>,
    pub damaged_packs: Vec<uuid::Uuid>,
    pub page_check: Option<std::sync::Arc<dyn PageCheck>>,
    next: u32,
}

impl Line {
    pub fn new(ground: Ground) -> Self {
        Self {
            ground,
            complete: Vec::new(),
            given_up: Vec::new(),
            damaged_packs: Vec::new(),
            page_check: None,
            next: 0,
        }
    }

    /// The source of the next backup.
    pub fn next(&mut self) -> BackupSource {
        self.next += 1;
        BackupSource {
            name: name(self.next),
            page_check: self.page_check.clone(),
            ..self.ground.source()
        }
    }

    pub fn writer(&self, agent: &str) -> Writer {
        self.writer_of(&self.ground.repository, agent)
    }

    pub fn writer_of(&self, repository: &Repository, agent: &str) -> Writer {
        let state = self.ground.path(agent);
        std::fs::create_dir_all(&state).unwrap();
        Writer::new(repository, &state)
    }

    pub fn may_refer_to(&self) -> MayReferTo {
        let newest_first = self.complete.iter().rev();
        MayReferTo {
            backups: newest_first.chain(&self.given_up).cloned().collect(),
            damaged_packs: self.damaged_packs.clone(),
        }
    }

    /// A backup by this agent, with whatever it may refer to.
    pub async fn try_backup(&mut self, writer: &Writer) -> Result<PreparedManifest> {
        let source = self.next();
        let may = self.may_refer_to();
        let session = writer
            .prepare(&source.shard, &source.name, &may.backups)
            .await?;
        let (progress, never) = (Progress::new(), CancellationToken::new());
        let uploaded = writer
            .upload(&source, session, &may, 3, &progress, &never)
            .await?;
        let done = progress.snapshot();
        assert_eq!(done.bytes_done, done.bytes_total, "what is known counts");
        let manifest = uploaded.manifest.clone();
        writer.remember(uploaded).await?;
        manifest.put(&self.ground.repository).await?;
        writer.forget_sessions().await?;
        self.complete.push(Reference {
            name: source.name,
            manifest_hash: Some(manifest.hash().to_owned()),
        });
        Ok(manifest)
    }

    pub async fn back_up(&mut self, agent: &str) -> PreparedManifest {
        let writer = self.writer(agent);
        self.try_backup(&writer).await.unwrap()
    }

    /// An attempt that ends once `packs` packs are in storage, and is given up.
    pub async fn cut_off(&mut self, agent: &str, packs: usize) -> BackupName {
        let writer = self.writer(agent);
        let (source, may) = (self.next(), self.may_refer_to());
        let session = writer
            .prepare(&source.shard, &source.name, &may.backups)
            .await
            .unwrap();
        let (progress, cancel) = (Progress::new(), CancellationToken::new());
        let transfer = writer.upload(&source, session, &may, 1, &progress, &cancel);
        let cut = async {
            while self.packs_of(&source.name).len() < packs {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            cancel.cancel();
        };
        let faults = &self.ground.repository.store().faults;
        faults.arm("repository.put", "slow");
        let (ended, ()) = tokio::join!(transfer, cut);
        faults.arm("repository.put", "off");
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Cancelled);
        let repository = &self.ground.repository;
        repository
            .abandon(&shard(), &source.name, "cut off")
            .await
            .unwrap();
        self.given_up.push(Reference {
            name: source.name.clone(),
            manifest_hash: None,
        });
        source.name
    }

    /// Files of the packs that lie under a backup's name.
    pub fn packs_of(&self, name: &BackupName) -> Vec<PathBuf> {
        let directory = format!("repository/keyspaces/commerce/0/packs/{name}");
        match self.ground.path(&directory) {
            directory if directory.is_dir() => files_in(&directory)
                .into_iter()
                .filter(|file| !file.to_string_lossy().contains('#'))
                .collect(),
            _ => Vec::new(),
        }
    }

    pub fn bytes_of(&self, name: &BackupName) -> u64 {
        let packs = self.packs_of(name);
        packs.iter().map(|p| p.metadata().unwrap().len()).sum()
    }

    /// The backup comes back as the directory is now.
    pub async fn comes_back(&self, name: &BackupName) {
        self.comes_back_as(name, &self.ground.data()).await;
    }

    pub async fn comes_back_as(&self, name: &BackupName, expected: &Path) {
        let manifest = read_manifest(&self.ground.repository, &shard(), name, None)
            .await
            .unwrap();
        let target = self.ground.path("restored");
        let targets = BTreeMap::from([("data".to_owned(), target.clone())]);
        let (progress, never) = (Progress::new(), CancellationToken::new());
        download(
            &self.ground.repository,
            &manifest,
            &targets,
            3,
            &progress,
            &never,
        )
        .await
        .unwrap();
        for file in files_in(expected) {
            let restored = target.join(file.file_name().unwrap());
            assert!(
                std::fs::read(&file).unwrap() == std::fs::read(restored).unwrap(),
                "{} differs in {name}",
                file.display()
            );
        }
        std::fs::remove_dir_all(&target).unwrap();
    }
}
