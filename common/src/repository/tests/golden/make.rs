//! How they were made: once for each version of the format, into a place where nothing is yet, by
//! `cargo test --workspace --all-features --lib make_the_golden -- --ignored --nocapture`.

use std::process::Command;

use super::{tree::plant, *};

const AT_UNIX_MS: u64 = 1_792_000_000_000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is made once"]
async fn make_the_golden_repository() {
    let root = place().join("format-2");
    fs::create_dir(&root).expect("nothing may be there yet");
    let signer = WriterKey::generate().unwrap();
    fs::write(root.join("writer"), format!("{}\n", signer.public())).unwrap();
    let mut recipients = make_identities(&root.join("identities"));
    let locked = generate_identity();
    recipients.push(locked.recipient.clone());
    for kind in KINDS {
        let path = repository_at(kind);
        fs::create_dir(&path).unwrap();
        let config = RepositoryConfig {
            recipients: match kind {
                "encrypted" => recipients.clone(),
                _ => vec![],
            },
            identity_file: (kind == "encrypted").then(|| identity_file("x25519")),
            ..config(kind)
        };
        let repository = Repository::create_or_open(&config).await.unwrap();
        if kind == "encrypted" {
            let passphrase = Passphrase::new(PASSPHRASE, "it").unwrap();
            let put = repository.put_identity(LOCKED, &locked, &passphrase);
            put.await.unwrap();
        }
        fill(&repository, kind, &signer).await;
        let probes = path.join("probes");
        if probes.exists() {
            fs::remove_dir_all(probes).unwrap();
        }
    }
    println!("FROZEN: {}", hash());
}

/// One file for each kind of key; answers their public halves.
fn make_identities(directory: &Path) -> Vec<String> {
    fs::create_dir(directory).unwrap();
    let identity = generate_identity();
    fs::write(directory.join("x25519"), identity.file.as_bytes()).unwrap();
    let mut recipients = vec![identity.recipient];
    for (kind, bits) in [("ed25519", "256"), ("rsa", "2048")] {
        let file = directory.join(format!("ssh-{kind}"));
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", kind, "-b", bits, "-N", "", "-C", "golden", "-f"])
            .arg(&file)
            .status();
        assert!(made.unwrap().success());
        let public = file.with_extension("pub");
        let text = fs::read_to_string(&public).unwrap();
        let words: Vec<&str> = text.split_whitespace().take(2).collect();
        recipients.push(words.join(" "));
        fs::remove_file(public).unwrap();
    }
    recipients
}

async fn fill(repository: &Repository, kind: &str, signer: &WriterKey) {
    repository.claim("golden", false).await.unwrap();
    let epoch = EpochRecord {
        number: 1,
        alias: "zone1-101".parse().unwrap(),
        server_id: 101,
        start_position: "".parse().unwrap(),
        began_unix_ms: AT_UNIX_MS,
        before: 0,
    };
    repository.put_epoch(&shard(), &epoch).await.unwrap();
    let state = tempfile::tempdir().unwrap();
    let writer = Writer::new(repository, state.path());
    let mut may_refer_to = Vec::new();
    for backup in 1..=3 {
        let signer = is_signed(kind, backup).then(|| signer.clone());
        let uploaded = upload(&writer, backup, signer, &may_refer_to).await;
        let manifest = uploaded.manifest.clone();
        let others = may_refer_to.iter().map(|r: &Reference| r.name.clone());
        let others: Vec<BackupName> = others.collect();
        assert_eq!(manifest.header().refers_to, others, "of backup {backup}");
        let manifest_hash = match backup {
            GIVEN_UP => {
                let (shard, name) = (shard(), name(backup));
                let given_up = repository.abandon(&shard, &name, "it was cut off");
                given_up.await.unwrap();
                None
            }
            _ => {
                writer.remember(uploaded).await.unwrap();
                manifest.put(repository).await.unwrap();
                Some(manifest.hash().to_owned())
            }
        };
        may_refer_to.push(Reference {
            name: name(backup),
            manifest_hash,
        });
    }
}

async fn upload(
    writer: &Writer,
    backup: u32,
    signer: Option<WriterKey>,
    may_refer_to: &[Reference],
) -> Uploaded {
    let directory = tempfile::tempdir().unwrap();
    plant(directory.path(), backup);
    let source = BackupSource {
        shard: shard(),
        name: name(backup),
        alias: "zone1-101".parse().unwrap(),
        engine: "files".into(),
        details: vec![("version".into(), "1".into())],
        epoch: 1,
        position: format!("0-1-{backup}").parse().unwrap(),
        started_unix_ms: AT_UNIX_MS,
        token: u64::from(backup),
        operation: "golden".into(),
        roots: ["data", "redo"]
            .map(|root| SourceRoot {
                name: root.into(),
                path: directory.path().join(root),
                exclude: vec![],
            })
            .into(),
        signer,
        page_check: None,
    };
    let may = MayReferTo {
        backups: may_refer_to.to_vec(),
        damaged_packs: vec![],
    };
    let session = writer
        .prepare(&source.shard, &source.name, &may.backups)
        .await
        .unwrap();
    let (progress, never) = (Progress::new(), CancellationToken::new());
    writer
        .upload(&source, session, &may, 1, &progress, &never)
        .await
        .unwrap()
}
