use std::os::unix::fs::MetadataExt;

use super::*;

/// Kind, mode, size, modification time, content or target.
pub(super) type Item = (char, u32, u64, (i64, i64), Vec<u8>);

/// All that is below a directory.
pub(super) fn inventory(root: &Path) -> BTreeMap<PathBuf, Item> {
    let mut found = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let time = (meta.mtime(), meta.mtime_nsec());
            let entry = if meta.is_dir() {
                directories.push(path.clone());
                ('d', meta.mode(), 0, time, vec![])
            } else if meta.is_symlink() {
                let target = path.read_link().unwrap();
                (
                    'l',
                    0,
                    0,
                    (0, 0),
                    target.into_os_string().into_encoded_bytes(),
                )
            } else {
                let content = std::fs::read(&path).unwrap_or_default();
                ('f', meta.mode(), meta.len(), time, content)
            };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), entry);
        }
    }
    found
}

async fn everything_comes_back(ground: &Ground) {
    fill(&ground.data());
    let mut expected = inventory(&ground.data());
    for left_out in ["tmp", "tmp/x", "mysql-bin.000001", "mysql.sock"] {
        assert!(expected.remove(Path::new(left_out)).is_some());
    }
    let prepared = ground.back_up().await;
    let header = prepared.header();
    assert_eq!(header.files, 308);
    let target = ground.restore().await.unwrap();
    let restored = inventory(&target);
    assert_eq!(
        restored.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (path, entry) in &expected {
        assert!(restored[path] == *entry, "{} differs", path.display());
    }
    let mode = |path: &Path| path.metadata().unwrap().mode();
    assert_eq!(mode(&target), mode(&ground.data()));
    for hole in ["sparse", "zeros"] {
        let blocks = target.join(hole).metadata().unwrap().blocks();
        assert!(blocks * 512 <= 2 << 20, "{hole} has {blocks} blocks");
    }
    let packed: u64 = ground
        .packs()
        .iter()
        .map(|p| p.metadata().unwrap().len())
        .sum();
    assert!(
        (4 << 20..6 << 20).contains(&packed),
        "the zeros were stored, or the text not compressed: {packed} bytes"
    );
    assert!(header.stored_bytes > packed);
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_everything_comes_back_as_it_was() {
    everything_comes_back(&Ground::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_everything_comes_back_as_it_was_when_encrypted() {
    let ground = Ground::encrypted().await;
    everything_comes_back(&ground).await;
    let clear = b"commerce commerce";
    for file in ground
        .packs()
        .iter()
        .chain(&files_in(&ground.objects("backups").join("parts")))
    {
        let bytes = std::fs::read(file).unwrap();
        let found = bytes.windows(clear.len()).any(|w| w == clear)
            || bytes.windows(8).any(|w| w == b"t001.frm");
        assert!(!found, "{} has clear text", file.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifest_says_what_was_backed_up() {
    let ground = Ground::encrypted().await;
    fill(&ground.data());
    let prepared = ground.back_up().await;
    let manifest = ground.manifest().await.unwrap();
    assert_eq!(manifest.hash, prepared.hash());
    assert_eq!(manifest.header, *prepared.header());
    assert_eq!(manifest.detail("version"), Some("10.11.6"));
    assert_eq!((manifest.token, manifest.operation.as_str()), (7, "019"));
    assert_eq!(manifest.roots[0].name, "data");
    assert!(manifest.data_bytes("data") < manifest.header.logical_bytes);
    assert!(manifest.header.encrypted);
    assert_eq!(manifest.packs.len(), ground.packs().len());
    let found = ground.repository.scan(&shard()).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].state,
        StoredState::Complete {
            header: Box::new(prepared.header().clone()),
            manifest_hash: prepared.hash().to_owned(),
        }
    );
    assert_eq!(ground.repository.shards().await.unwrap(), [shard()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_ends_at_its_totals() {
    let ground = Ground::new().await;
    fill(&ground.data());
    let (up, down) = (Progress::new(), Progress::new());
    let never = CancellationToken::new();
    let prepared = upload(&ground.repository, &ground.source(), 2, &up, &never)
        .await
        .unwrap();
    prepared.put(&ground.repository).await.unwrap();
    let manifest = ground.manifest().await.unwrap();
    let targets = BTreeMap::from([("data".to_owned(), ground.path("r"))]);
    download(&ground.repository, &manifest, &targets, 2, &down, &never)
        .await
        .unwrap();
    for progress in [up.snapshot(), down.snapshot()] {
        assert_eq!(progress.bytes_done, prepared.header().logical_bytes);
        assert_eq!(progress.bytes_total, progress.bytes_done);
        assert_eq!((progress.files_done, progress.files_total), (308, 308));
    }
    let stages = |progress: &Progress| progress.spent().into_iter().map(|(name, _)| name).collect();
    let (up, down): (Vec<_>, Vec<_>) = (stages(&up), stages(&down));
    let backup = [
        "read",
        "hash",
        "look_up",
        "compress",
        "seal",
        "wait_for_store",
        "put",
    ];
    assert_eq!(up, backup);
    let restore = ["hash", "get", "unseal", "decompress", "write", "sync"];
    assert_eq!(down, restore);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_packs_and_roots_come_back() {
    let ground = Ground::encrypted().await;
    std::fs::create_dir(ground.path("redo")).unwrap();
    let big = noise(45 << 20);
    std::fs::write(ground.data().join("big"), &big).unwrap();
    std::fs::write(ground.path("redo/ib_logfile0"), b"redo").unwrap();
    let mut source = ground.source();
    source.roots.push(SourceRoot {
        name: "redo".into(),
        path: ground.path("redo"),
        exclude: vec![],
    });
    ground
        .upload(&source)
        .await
        .unwrap()
        .put(&ground.repository)
        .await
        .unwrap();
    assert!(ground.packs().len() >= 2);
    let manifest = ground.manifest().await.unwrap();
    let mut targets = BTreeMap::from([("data".to_owned(), ground.path("r1"))]);
    let restore = async |targets: &BTreeMap<_, _>| {
        download(
            &ground.repository,
            &manifest,
            targets,
            4,
            &Progress::new(),
            &CancellationToken::new(),
        )
        .await
    };
    let error = restore(&targets).await.unwrap_err();
    assert!(error.message().contains("\"redo\""), "{error}");
    targets.insert("redo".to_owned(), ground.path("r2"));
    restore(&targets).await.unwrap();
    assert!(std::fs::read(ground.path("r1/big")).unwrap() == big);
    assert_eq!(
        std::fs::read(ground.path("r2/ib_logfile0")).unwrap(),
        b"redo"
    );
    let error = restore(&targets).await.unwrap_err();
    assert!(error.message().contains("is not empty"), "{error}");
}
