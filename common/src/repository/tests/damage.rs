use super::*;

async fn backed_up(encrypted: bool) -> Ground {
    let ground = if encrypted {
        Ground::encrypted().await
    } else {
        Ground::new().await
    };
    std::fs::write(ground.data().join("t.ibd"), noise(5 << 20)).unwrap();
    std::fs::write(ground.data().join("u.ibd"), "row ".repeat(1 << 20)).unwrap();
    ground.back_up().await;
    ground
}

fn alter(file: &Path, at: u64) {
    let handle = std::fs::File::options()
        .read(true)
        .write(true)
        .open(file)
        .unwrap();
    let mut byte = [0];
    handle.read_exact_at(&mut byte, at).unwrap();
    handle.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// The restore fails as damaged and names the object.
async fn is_noticed(ground: &Ground, object: &Path, what: &str) {
    let error = match ground.restore().await {
        Err(error) => error,
        Ok(_) => panic!("{what}: restored"),
    };
    let key = object.strip_prefix(ground.path("repository")).unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
    assert!(
        error.message().contains(key.to_str().unwrap()),
        "{what}: {error} does not name {}",
        key.display()
    );
    let _ = std::fs::remove_dir_all(ground.path("restored"));
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_an_altered_pack_is_noticed_and_named() {
    for encrypted in [false, true] {
        let ground = backed_up(encrypted).await;
        for pack in ground.packs() {
            // Within its first chunk: the beginning is not fetched, it is known.
            alter(&pack, 5000);
            is_noticed(&ground, &pack, "altered").await;
            alter(&pack, 5000);
        }
        ground.restore().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_the_error_of_a_damaged_pack_names_the_file_too() {
    let ground = backed_up(true).await;
    for pack in ground.packs() {
        alter(&pack, 5000);
    }
    let error = ground.restore().await.unwrap_err();
    assert!(error.message().contains(".ibd"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_a_cut_missing_or_exchanged_pack_is_noticed_and_named() {
    let ground = Ground::encrypted().await;
    std::fs::write(ground.data().join("t.ibd"), noise(70 << 20)).unwrap();
    ground.back_up().await;
    let packs = ground.packs();
    let (first, second) = (&packs[0], &packs[1]);
    let whole = std::fs::read(first).unwrap();

    std::fs::write(first, &whole[..whole.len() - 1]).unwrap();
    is_noticed(&ground, first, "cut").await;
    assert!(!ground.path("restored").exists(), "it was begun");
    std::fs::remove_file(first).unwrap();
    is_noticed(&ground, first, "missing").await;
    // The other pack's bytes under this name, with the length that is expected.
    let mut other = std::fs::read(second).unwrap();
    other.resize(whole.len(), 0);
    std::fs::write(first, &other).unwrap();
    is_noticed(&ground, first, "exchanged").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_every_altered_byte_of_a_manifest_is_noticed() {
    for encrypted in [false, true] {
        let ground = backed_up(encrypted).await;
        let manifest = ground.objects("backups").join("manifest");
        let bytes = std::fs::metadata(&manifest).unwrap().len();
        // The last 100 bytes are the place for a signature, which nobody wrote.
        for at in (0..bytes - 100).step_by(7) {
            alter(&manifest, at);
            let error = ground.manifest().await.unwrap_err();
            let kind = error.kind();
            assert!(
                kind == ErrorKind::Corrupt,
                "byte {at} of {bytes}: {kind:?} {error}"
            );
            alter(&manifest, at);
        }
        ground.manifest().await.unwrap();
        let whole = std::fs::read(&manifest).unwrap();
        for cut in [0, 10, 64, 70, 500, whole.len() - 1] {
            std::fs::write(&manifest, &whole[..cut]).unwrap();
            is_noticed(&ground, &manifest, "cut").await;
            let found = ground.repository.scan(&shard()).await.unwrap();
            assert!(
                matches!(found[0].state, StoredState::Broken { .. }),
                "cut at {cut}: {:?}",
                found[0].state
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_an_altered_cut_missing_or_exchanged_part_is_noticed() {
    let ground = backed_up(true).await;
    let parts = files_in(&ground.objects("backups").join("parts"));
    assert_eq!(parts.len(), 2, "a list and a pack list");
    for part in &parts {
        let whole = std::fs::read(part).unwrap();
        for at in [0, 20, 70, whole.len() as u64 - 1] {
            alter(part, at);
            is_noticed(&ground, part, "altered").await;
            alter(part, at);
        }
        std::fs::write(part, &whole[..whole.len() - 1]).unwrap();
        is_noticed(&ground, part, "cut").await;
        std::fs::remove_file(part).unwrap();
        is_noticed(&ground, part, "missing").await;
        std::fs::write(part, &whole).unwrap();
    }
    let spare = ground.path("spare");
    std::fs::rename(&parts[0], &spare).unwrap();
    std::fs::rename(&parts[1], &parts[0]).unwrap();
    std::fs::rename(&spare, &parts[1]).unwrap();
    assert_eq!(
        ground.manifest().await.unwrap_err().kind(),
        ErrorKind::Corrupt
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_a_manifest_under_another_name_or_in_another_repository_is_noticed() {
    let ground = backed_up(false).await;
    let to = ground.path(&format!(
        "repository/keyspaces/commerce/0/backups/{}",
        name(1)
    ));
    std::fs::create_dir(&to).unwrap();
    std::fs::copy(
        ground.objects("backups").join("manifest"),
        to.join("manifest"),
    )
    .unwrap();
    let error = read_manifest(&ground.repository, &shard(), &name(1), None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);

    let other = Ground::new().await;
    let to = other.path("repository/keyspaces");
    std::process::Command::new("cp")
        .arg("-r")
        .args([&ground.path("repository/keyspaces"), &to])
        .status()
        .unwrap();
    let error = other.manifest().await.unwrap_err();
    assert!(error.message().contains("another repository"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_a_manifest_that_the_catalogue_does_not_know_is_refused() {
    let ground = backed_up(false).await;
    let hash = ground.manifest().await.unwrap().hash;
    let read =
        async |hash: &str| read_manifest(&ground.repository, &shard(), &name(0), Some(hash)).await;
    read(&hash).await.unwrap();
    let error = read(&"0".repeat(64)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains(&hash), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_backup_without_its_identity_is_one_clear_error() {
    let ground = backed_up(true).await;
    let open = async |identity: Option<PathBuf>| {
        let config = RepositoryConfig {
            identity_file: identity,
            ..ground.config.clone()
        };
        let repository = Repository::open(&config).await?;
        read_manifest(&repository, &shard(), &name(0), None).await
    };
    let error = open(None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(
        error.to_string().contains("repository.identity_file"),
        "{error}"
    );

    let other = ground.path("other.txt");
    std::fs::write(&other, generate_identity().file.as_bytes()).unwrap();
    let error = open(Some(other)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.message().contains("does not open backup"), "{error}");

    for (content, kind, says) in [
        ("", ErrorKind::Invalid, "holds no private key"),
        ("age-encryption.org/v1\n", ErrorKind::Invalid, "passphrase"),
        (
            "hello\n",
            ErrorKind::Corrupt,
            "does not hold a valid private key",
        ),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n",
            ErrorKind::Corrupt,
            "does not hold a valid SSH",
        ),
    ] {
        let file = ground.path("bad.txt");
        std::fs::write(&file, content).unwrap();
        let error = open(Some(file)).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.message().contains(says), "{error}");
    }
    let error = open(Some(ground.path("nowhere"))).await.unwrap_err();
    assert!(
        error.message().contains("cannot read identity file"),
        "{error}"
    );

    for file in files_in(&ground.objects("packs").join("keys")) {
        std::fs::remove_file(file).unwrap();
    }
    let error = ground.manifest().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_of_another_recipient_that_cannot_be_used_is_passed_over() {
    let ground = backed_up(true).await;
    let own = files_in(&ground.objects("packs").join("keys")).remove(0);
    // So many that one of them comes before the own one, in whatever order they are listed.
    for other in 0..32 {
        let other = own.with_extension(format!("{other:016x}"));
        std::fs::write(other, noise(17 << 10)).unwrap();
    }
    ground.restore().await.unwrap();
    std::fs::remove_file(own).unwrap();
    let error = ground.manifest().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("at most 16384"), "{error}");
}
