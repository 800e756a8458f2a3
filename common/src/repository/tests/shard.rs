//! Several backups of one shard that refer to each other's packs, for tests of what deletes them.

use bytes::Bytes;
use uuid::Uuid;

use super::{
    super::{
        keys::DataKey,
        layout,
        manifest::{Body, ManifestHeader, PartRecord, encode_manifest, encode_pack_list},
        object::{ObjectKind, Prefix},
        seal::Sealer,
    },
    *,
};

/// Batches that end only when there is nothing more to delete.
pub const ALL: BatchLimits = BatchLimits {
    objects: usize::MAX,
    bytes: u64::MAX,
};

/// A repository, and what a coordinator would know of its one shard.
pub struct Shard {
    pub ground: Ground,
    pub request: CollectionRequest,
}

impl Shard {
    pub async fn encrypted() -> Self {
        Self {
            ground: Ground::encrypted().await,
            request: CollectionRequest {
                may_go: (0..20).map(name).collect(),
                ..CollectionRequest::default()
            },
        }
    }

    fn repository(&self) -> &Repository {
        &self.ground.repository
    }

    /// What a backup's one file contains: two chunks, the second of which no other backup has.
    pub fn contents(number: u32) -> Vec<u8> {
        let mut contents = noise(1 << 20);
        contents.extend(noise(1000 + number as usize));
        contents
    }

    /// Everything of a backup but its manifest, which is answered.
    pub async fn begin(&self, number: u32) -> PreparedManifest {
        std::fs::write(self.ground.data().join("t"), Self::contents(number)).unwrap();
        let mut source = self.ground.source();
        source.name = name(number);
        self.ground.upload(&source).await.unwrap()
    }

    pub async fn back_up(&mut self, number: u32) {
        let prepared = self.begin(number).await;
        prepared.put(self.repository()).await.unwrap();
        let hash = prepared.hash().to_owned();
        self.request.expected.insert(name(number), hash);
    }

    /// A complete backup with the contents of another, and no pack of its own.
    pub async fn borrow(&mut self, number: u32, from: u32) {
        let manifest = self.manifest(from).await.unwrap();
        let session = Writer::begin(self.repository(), &name(number)).await;
        let mut lists = Vec::new();
        for part in &manifest.header.lists {
            let payload = manifest.get_list(self.repository(), part).await.unwrap();
            let number = lists.len() as u32;
            lists.push(session.put_part(number, ObjectKind::List, &payload).await);
        }
        let packs = encode_pack_list(&manifest.packs).unwrap();
        let next = lists.len() as u32;
        let pack_list = session.put_part(next, ObjectKind::PackList, &packs).await;
        let mut refers_to: Vec<_> = manifest.packs.iter().map(|p| &p.origin.backup).collect();
        refers_to.dedup();
        let header = ManifestHeader {
            name: name(number),
            lists,
            pack_lists: vec![pack_list],
            refers_to: refers_to.into_iter().cloned().collect(),
            ..manifest.header.clone()
        };
        let hash = session.put_manifest(&header, &manifest).await;
        self.request.expected.insert(name(number), hash);
    }

    /// The mark, and what the catalogue makes of it.
    pub async fn remove(&mut self, number: u32) {
        self.repository()
            .abandon(&shard(), &name(number), "why")
            .await
            .unwrap();
        self.request.expected.remove(&name(number));
    }

    pub async fn collect(&self) -> Result<Collected> {
        self.collect_batch(ALL).await
    }

    pub async fn collect_batch(&self, limits: BatchLimits) -> Result<Collected> {
        self.repository()
            .collect(&shard(), &self.request, limits)
            .await
    }

    pub async fn plan(&self) -> Result<BTreeMap<BackupName, LeftOf>> {
        self.repository()
            .plan_collection(&shard(), &self.request)
            .await
    }

    pub async fn manifest(&self, number: u32) -> Result<Manifest> {
        let hash = self.request.expected.get(&name(number));
        let hash = hash.map(String::as_str);
        read_manifest(self.repository(), &shard(), &name(number), hash).await
    }

    /// Restores a backup and answers what its file contains.
    pub async fn restore(&self, number: u32) -> Result<Vec<u8>> {
        let manifest = self.manifest(number).await?;
        let target = self.ground.path("restored");
        let targets = BTreeMap::from([("data".to_owned(), target.clone())]);
        download(
            self.repository(),
            &manifest,
            &targets,
            1,
            &Progress::new(),
            &CancellationToken::new(),
        )
        .await?;
        let contents = std::fs::read(target.join("t")).unwrap();
        std::fs::remove_dir_all(target).unwrap();
        Ok(contents)
    }

    /// The keys of all objects in the repository, in order.
    pub fn objects(&self) -> Vec<String> {
        let root = self.ground.path("repository");
        objects_below(&root).into_keys().collect()
    }

    /// The file of an object on disk.
    pub fn file(&self, key: &str) -> PathBuf {
        self.ground.path("repository").join(key)
    }

    /// The keys of the objects of one kind that lie under a backup's name.
    pub fn objects_of(&self, number: u32, kind: &str) -> Vec<String> {
        let start = format!("keyspaces/commerce/0/{kind}/{}/", name(number));
        let mut objects = self.objects();
        objects.retain(|key| key.starts_with(&start));
        objects
    }
}

/// A session of the test's own.
struct Writer {
    repository: Repository,
    name: BackupName,
    id: Uuid,
    key: DataKey,
}

impl Writer {
    async fn begin(repository: &Repository, name: &BackupName) -> Self {
        let (id, key) = (Uuid::new_v4(), DataKey::generate());
        for recipient in repository.recipients().iter() {
            let wrapped = recipient.wrap(&key, repository.uuid(), id).unwrap();
            let object = layout::key(&shard(), name, id, &recipient.fingerprint);
            let put = repository
                .store()
                .put_create(&object, Bytes::from(wrapped))
                .await;
            put.unwrap();
        }
        Self {
            repository: repository.clone(),
            name: name.clone(),
            id,
            key,
        }
    }

    fn object(&self, kind: ObjectKind) -> (Prefix, Sealer) {
        let prefix = Prefix {
            kind,
            encrypted: kind != ObjectKind::PackList,
            repository: self.repository.uuid(),
            session: self.id,
            id: Uuid::new_v4(),
        };
        let sealer = Sealer::new(&prefix, Some(&self.key)).unwrap();
        (prefix, sealer)
    }

    async fn put_part(&self, number: u32, kind: ObjectKind, payload: &[u8]) -> PartRecord {
        let (prefix, sealer) = self.object(kind);
        let mut sealed = payload.to_vec();
        let tag = sealer.seal(u64::from(number), &[], &mut sealed).unwrap();
        let object = [&prefix.encode()[..], &sealed, &tag].concat();
        let part = PartRecord {
            number,
            bytes: object.len() as u64,
            hash: blake3::hash(&object).to_hex().to_string(),
        };
        let key = layout::part(&shard(), &self.name, number);
        let store = self.repository.store();
        store.put_create(&key, Bytes::from(object)).await.unwrap();
        part
    }

    async fn put_manifest(&self, header: &ManifestHeader, of: &Manifest) -> String {
        let body = Body {
            operation: of.operation.clone(),
            token: of.token,
            details: of.details.clone(),
            roots: of.roots.clone(),
            users: of.users.clone(),
            groups: of.groups.clone(),
            damaged_pages: Vec::new(),
        };
        let (prefix, sealer) = self.object(ObjectKind::Manifest);
        let object = encode_manifest(&prefix, &sealer, header, &body, None).unwrap();
        let hash = blake3::hash(&object).to_hex().to_string();
        let key = layout::manifest(&shard(), &self.name);
        let store = self.repository.store();
        store.put_create(&key, Bytes::from(object)).await.unwrap();
        hash
    }
}
