//! Reading a backup back finds and names every damage, and takes nothing else for damage.

use super::*;

/// Two packs at least, a file in both forms, one that is found twice.
async fn backed_up(encrypted: bool) -> Ground {
    backed_up_with(encrypted, 40 << 20).await
}

async fn backed_up_with(encrypted: bool, bytes: usize) -> Ground {
    let ground = match encrypted {
        true => Ground::encrypted().await,
        false => Ground::new().await,
    };
    std::fs::write(ground.data().join("noise.ibd"), noise(bytes)).unwrap();
    std::fs::write(ground.data().join("rows.ibd"), "row ".repeat(1 << 20)).unwrap();
    ground.back_up().await;
    ground
}

fn at_depth(depth: Depth) -> VerifyOptions {
    VerifyOptions {
        depth,
        ..VerifyOptions::full(2)
    }
}

async fn try_verify(ground: &Ground, options: &VerifyOptions) -> Result<VerifyReport> {
    verify(
        &ground.repository,
        &shard(),
        &name(0),
        None,
        options,
        &Progress::new(),
        &CancellationToken::new(),
    )
    .await
}

async fn verified(ground: &Ground) -> VerifyReport {
    try_verify(ground, &VerifyOptions::full(2)).await.unwrap()
}

fn key_of(ground: &Ground, object: &Path) -> String {
    let key = object.strip_prefix(ground.path("repository")).unwrap();
    key.to_str().unwrap().to_owned()
}

fn names(report: &VerifyReport, key: &str) -> bool {
    report.damage.iter().any(|damage| damage.object == key)
}

/// Everything that the backup reaches.
fn objects(ground: &Ground) -> Vec<PathBuf> {
    let backup = ground.objects("backups");
    let packs = ground.objects("packs");
    let keys = packs.join("keys");
    let mut all = vec![backup.join("manifest")];
    all.extend(files_in(&backup.join("parts")));
    all.extend(files_in(&packs));
    if keys.exists() {
        all.extend(files_in(&keys));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_backup_passes_and_everything_of_it_was_read() {
    for encrypted in [false, true] {
        let ground = backed_up(encrypted).await;
        let report = verified(&ground).await;
        assert!(report.passed(), "{}", report.summary());
        let packs = ground.packs();
        assert_eq!(report.packs, packs.len() as u64);
        assert_eq!(report.packs_read, report.packs);
        let bytes: u64 = objects(&ground)
            .iter()
            .map(|object| std::fs::metadata(object).unwrap().len())
            .sum();
        assert_eq!(report.bytes_read, bytes);
        assert!(report.chunks >= 41, "{report:?}");
        assert_eq!(report.unchecked, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_every_object_that_is_altered_cut_or_missing_is_named() {
    for encrypted in [false, true] {
        let ground = backed_up_with(encrypted, 5 << 20).await;
        let hash = ground.manifest().await.unwrap().hash;
        for object in objects(&ground) {
            let key = key_of(&ground, &object);
            let whole = std::fs::read(&object).unwrap();
            let last = whole.len() - 1;
            // Of a key file what only its recipient's own stanza covers is left alone.
            let is_key = key.ends_with(".age");
            let places = match is_key {
                true => vec![0, 9, last - 30, last],
                false => vec![0, 9, 40, 70, last / 3, last / 2, last - 30, last],
            };
            let altered = places.into_iter().map(|at| {
                let mut bytes = whole.clone();
                bytes[at] ^= 4;
                (format!("altered at {at}"), Some(bytes))
            });
            let cut = [0, 1, last / 2, last]
                .map(|at| (format!("cut at {at}"), Some(whole[..at].to_vec())));
            let longer = ("longer".to_owned(), Some([&whole[..], b"x"].concat()));
            let missing = ("missing".to_owned(), None);
            for (what, bytes) in altered.into_iter().chain(cut).chain([longer, missing]) {
                match bytes {
                    Some(bytes) => std::fs::write(&object, bytes).unwrap(),
                    None => std::fs::remove_file(&object).unwrap(),
                }
                let report = verify(
                    &ground.repository,
                    &shard(),
                    &name(0),
                    Some(&hash),
                    &VerifyOptions::full(2),
                    &Progress::new(),
                    &CancellationToken::new(),
                )
                .await
                .unwrap();
                let folder = key.rsplit_once('/').unwrap().0;
                let is_named = report.damage.iter().any(|d| {
                    d.object == key || (what == "missing" && d.object.starts_with(folder))
                });
                assert!(is_named, "{key} {what}: {}", report.summary());
                assert!(!report.passed());
            }
            std::fs::write(&object, whole).unwrap();
        }
        assert!(verified(&ground).await.passed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_after_damage_and_names_the_files_that_are_lost() {
    let ground = backed_up(true).await;
    let packs = ground.packs();
    let first = std::fs::read(&packs[0]).unwrap();
    let mut altered = first.clone();
    altered[5000] ^= 1;
    std::fs::write(&packs[0], altered).unwrap();
    std::fs::remove_file(&packs[1]).unwrap();
    let report = verified(&ground).await;
    assert_eq!(report.damaged_objects, 2, "{}", report.summary());
    for pack in &packs[..2] {
        let key = key_of(&ground, pack);
        let damage = report.damage.iter().find(|d| d.object == key).unwrap();
        let id = pack.file_name().unwrap().to_str().unwrap();
        assert_eq!(damage.pack.unwrap().simple().to_string(), id);
    }
    assert!(
        report.lost_files.contains(&"data/noise.ibd".to_owned()),
        "{report:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_chunks_are_whole_is_not_called_lost() {
    let ground = backed_up(false).await;
    // The chunk of the other file, wherever it lies.
    for pack in ground.packs() {
        let whole = std::fs::read(&pack).unwrap();
        let mut altered = whole.clone();
        altered[5000] ^= 1;
        std::fs::write(&pack, &altered).unwrap();
        let report = verified(&ground).await;
        assert_eq!(report.lost, 1, "{}", report.summary());
        std::fs::write(&pack, &whole).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_identity_hashes_tell_of_damaged_packs() {
    let ground = backed_up(true).await;
    let config = RepositoryConfig {
        identity_file: None,
        ..ground.config.clone()
    };
    let blind = Repository::open(&config).await.unwrap();
    let look = async |depth| {
        verify(
            &blind,
            &shard(),
            &name(0),
            None,
            &at_depth(depth),
            &Progress::new(),
            &CancellationToken::new(),
        )
        .await
    };
    assert!(look(Depth::Hashes).await.unwrap().passed());
    assert!(look(Depth::Listed).await.unwrap().passed());
    let error = look(Depth::Chunks).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");

    for pack in ground.packs() {
        let whole = std::fs::read(&pack).unwrap();
        for at in [0, 100, whole.len() / 2, whole.len() - 100, whole.len() - 1] {
            let mut altered = whole.clone();
            altered[at] ^= 1;
            std::fs::write(&pack, &altered).unwrap();
            let report = look(Depth::Hashes).await.unwrap();
            assert!(
                names(&report, &key_of(&ground, &pack)),
                "byte {at}: {}",
                report.summary()
            );
            assert!(look(Depth::Listed).await.unwrap().passed(), "not read");
        }
        std::fs::write(&pack, &whole[1..]).unwrap();
        let report = look(Depth::Listed).await.unwrap();
        assert!(names(&report, &key_of(&ground, &pack)));
        std::fs::write(&pack, &whole).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_identity_is_no_damage() {
    let ground = backed_up(true).await;
    let other = ground.path("other.txt");
    std::fs::write(&other, generate_identity().file.as_bytes()).unwrap();
    let config = RepositoryConfig {
        identity_file: Some(other),
        ..ground.config.clone()
    };
    let stranger = Repository::open(&config).await.unwrap();
    let error = verify(
        &stranger,
        &shard(),
        &name(0),
        None,
        &VerifyOptions::full(1),
        &Progress::new(),
        &CancellationToken::new(),
    )
    .await
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.message().contains("does not open backup"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_reads_some_packs_and_looks_at_the_sizes_of_all() {
    let ground = backed_up(true).await;
    let packs = ground.packs();
    let share = |seed| VerifyOptions {
        percent: 1,
        seed,
        ..VerifyOptions::full(2)
    };
    let mut damaged = std::fs::read(&packs[0]).unwrap();
    damaged[5000] ^= 1;
    std::fs::write(&packs[0], &damaged).unwrap();
    let mut found = 0;
    for seed in 0..8 {
        let report = try_verify(&ground, &share(seed)).await.unwrap();
        assert_eq!(
            (report.packs_read, report.percent, report.seed),
            (1, 1, seed)
        );
        found += usize::from(!report.passed());
    }
    assert!(
        (1..16).contains(&found),
        "{found} of 16 shares met the damaged pack"
    );

    let again = try_verify(&ground, &share(7)).await.unwrap();
    assert_eq!(try_verify(&ground, &share(7)).await.unwrap(), again);

    std::fs::write(&packs[0], &damaged[1..]).unwrap();
    for seed in 0..2 {
        let report = try_verify(&ground, &share(seed)).await.unwrap();
        assert!(names(&report, &key_of(&ground, &packs[0])));
    }
    for percent in [0, 101] {
        let options = VerifyOptions {
            percent,
            ..VerifyOptions::full(1)
        };
        let error = try_verify(&ground, &options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_gone_is_an_error_and_no_damage() {
    let ground = backed_up(false).await;
    std::fs::rename(ground.path("repository"), ground.path("elsewhere")).unwrap();
    let error = try_verify(&ground, &VerifyOptions::full(1))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_called_off_ends_as_cancelled_and_what_is_removed_is_not_there() {
    let ground = backed_up(false).await;
    let cancel = CancellationToken::new();
    cancel.cancel();
    let error = verify(
        &ground.repository,
        &shard(),
        &name(0),
        None,
        &VerifyOptions::full(1),
        &Progress::new(),
        &cancel,
    )
    .await
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    ground
        .repository
        .abandon(&shard(), &name(0), "old")
        .await
        .unwrap();
    let error = try_verify(&ground, &VerifyOptions::full(1))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_key_file_damages_the_packs_that_it_opens() {
    let ground = backed_up(true).await;
    let keys = files_in(&ground.objects("packs").join("keys"));
    let mut wrapped = std::fs::read(&keys[0]).unwrap();
    *wrapped.last_mut().unwrap() ^= 1;
    std::fs::write(&keys[0], wrapped).unwrap();
    let report = verified(&ground).await;
    assert!(names(&report, &key_of(&ground, &keys[0])), "{report:?}");
    let told: Vec<String> = report
        .damage
        .iter()
        .filter_map(|damage| Some(damage.pack?.simple().to_string()))
        .collect();
    for pack in ground.packs() {
        let id = pack.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(told.contains(&id), "{id} is not in {told:?}");
    }
}
