//! `seawallctl repository` on a real repository, with no coordinator in sight.

use std::path::{Path, PathBuf};

use seawall_common::{
    ids::{BackupName, ShardId},
    repository::{
        BackupSource, Progress, Repository, RepositoryConfig, SourceRoot, generate_identity, upload,
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
            signer: None,
            roots: vec![root("data"), root("redo")],
            page_check: None,
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

#[tokio::test]
async fn a_repository_lists_its_backups_without_a_coordinator() {
    let ground = Ground::new(true).await;
    for number in [2, 1, 3, 4] {
        ground.back_up(number).await;
    }
    let abandoned = name(4);
    ground
        .repository
        .abandon(&shard(), &abandoned, "not wanted")
        .await
        .unwrap();
    std::fs::remove_file(ground.manifest(2)).unwrap();
    let before = ground.everything();

    let listed = ground
        .run(&["list", "commerce/0", "-o", "json"])
        .await
        .json();
    assert_eq!(listed["repository_id"], ground.repository.id());
    assert_eq!(listed["owner"]["group_id"], "group-1");
    let row =
        |backup: &serde_json::Value| json!([backup["name"], backup["state"], backup["position"]]);
    let rows: Vec<_> = listed["backups"]
        .as_array()
        .unwrap()
        .iter()
        .map(row)
        .collect();
    assert_eq!(
        rows,
        [
            json!([name(1), "complete", "0-1-1"]),
            json!([name(3), "complete", "0-1-3"]),
            json!([name(4), "removed", null]),
            json!([name(2), "incomplete", null]),
        ]
    );
    let first = &listed["backups"][0];
    assert_eq!(first["encrypted"], true);
    assert_eq!(first["files"], 2);
    assert_eq!(first["logical_bytes"], 10);
    assert!(first["stored_bytes"].as_u64().unwrap() > 100);
    assert_eq!(listed["backups"][2]["note"], "not wanted");

    let all = ground.run(&["list", "-o", "name"]).await;
    assert!(
        all.result().contains(&format!("commerce/0 {}", name(3))),
        "{all:?}"
    );
    let table = ground.run(&["list"]).await;
    let line = table.result().lines().nth(1).unwrap();
    for word in ["commerce/0", name(1).as_str(), "complete", "0-1-1", "10 B"] {
        assert!(line.contains(word), "{word} is not in {line}");
    }
    // Without the identity too: what is listed is clear.
    let url = ground.repository.url();
    let keyless = run(
        NOBODY,
        &["repository", "list", "--repository", url, "-o", "name"],
    )
    .await;
    assert_eq!(keyless.result(), all.result());
    assert!(
        ground.everything() == before,
        "the repository was written to"
    );
}

#[tokio::test]
async fn the_newest_backup_is_restored_with_what_to_do_next() {
    let ground = Ground::new(true).await;
    for number in [3, 1, 2] {
        ground.back_up(number).await;
    }
    let before = ground.everything();
    let (target, redo) = (ground.path("target"), ground.path("redo-here"));
    let root = format!("redo={}", redo.display());
    let args = [
        "restore",
        "commerce/0",
        "--target",
        target.to_str().unwrap(),
        "--root",
        &root,
    ];

    let dry = ground.run(&[&args[..], &["--dry-run"]].concat()).await;
    assert!(dry.result().starts_with("would restore"), "{dry:?}");
    assert!(!target.exists() && !redo.exists());

    let done = ground
        .run(&[&args[..], &["-o", "json"]].concat())
        .await
        .json();
    assert_eq!(done["name"], name(3).as_str());
    assert_eq!(
        (&done["position"], &done["epoch"]),
        (&json!("0-1-3"), &json!(2))
    );
    assert_eq!(
        std::fs::read(target.join("data/commerce/t.ibd")).unwrap(),
        b"rows 3"
    );
    assert_eq!(std::fs::read(redo.join("ib_logfile0")).unwrap(), b"redo");
    let steps = done["next_steps"].to_string();
    for step in [
        "10.11.6",
        &format!("datadir={}", target.join("data").display()),
        &format!("innodb_log_group_home_dir={}", redo.display()),
        "gtid_slave_pos = '0-1-3'",
    ] {
        assert!(steps.contains(step), "{step} is not in {steps}");
    }
    let unchecked = done["not_checked"].to_string();
    assert!(
        unchecked.contains("catalogue") && unchecked.contains("who wrote it"),
        "{unchecked}"
    );

    let again = ground.run(&args).await;
    assert!(again.failure(1).contains("is not empty"), "{again:?}");
    let (other, first) = (ground.path("other"), name(1));
    let named = [
        "restore",
        "commerce/0",
        first.as_str(),
        "--target",
        other.to_str().unwrap(),
    ];
    let table = ground.run(&named).await;
    assert!(
        table.result().contains("position: 0-1-1 (epoch 2)"),
        "{table:?}"
    );
    assert_eq!(
        std::fs::read(other.join("data/commerce/t.ibd")).unwrap(),
        b"rows 1"
    );
    assert!(
        ground.everything() == before,
        "the repository was written to"
    );
}

#[tokio::test]
async fn i6_a_restore_of_what_is_damaged_leaves_nothing_to_start_on() {
    let ground = Ground::new(false).await;
    ground.back_up(1).await;
    let packs = ground.path("repository/keyspaces/commerce/0/packs");
    let pack = std::fs::read_dir(packs.join(name(1).as_str()))
        .unwrap()
        .next()
        .unwrap();
    let pack = pack.unwrap().path();
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[70] ^= 1;
    std::fs::write(&pack, &bytes).unwrap();
    std::fs::create_dir(ground.path("targets")).unwrap();
    let target = ground.path("targets/t");
    let args = [
        "restore",
        "commerce/0",
        "--target",
        target.to_str().unwrap(),
    ];
    let failed = ground.run(&args).await;
    let object = pack.file_name().unwrap().to_str().unwrap();
    assert!(failed.failure(1).contains(object), "{failed:?}");
    assert_eq!(files_below(&ground.path("targets")), 0);
}

#[tokio::test]
async fn what_cannot_be_restored_is_told_apart() {
    let ground = Ground::new(true).await;
    let target = ground.path("t");
    let restore = |more: &[&str]| {
        let mut args = vec!["restore", "commerce/0"];
        args.extend(more);
        args.extend(["--target", target.to_str().unwrap()]);
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let fails = async |more: &[&str], code: i32, says: &str| {
        let args = restore(more);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let ended = ground.run(&args).await;
        assert_eq!(ended.code, code, "{ended:#?}");
        let line = ended.stderr.lines().last().unwrap();
        assert!(line.contains(says), "{says} is not in {line}");
    };
    fails(&[], 1, "has no backup").await;
    ground.back_up(1).await;
    fails(&[name(2).as_str()], 1, "has no backup").await;
    fails(&["--root", "logs=/x"], 2, "no root \"logs\"").await;
    let manifest = std::fs::read(ground.manifest(1)).unwrap();
    std::fs::write(ground.manifest(1), &manifest[..100]).unwrap();
    fails(&[], 1, "no backup that can be restored").await;
    std::fs::write(ground.manifest(1), &manifest).unwrap();
    ground
        .repository
        .abandon(&shard(), &name(1), "not wanted")
        .await
        .unwrap();
    fails(&[name(1).as_str()], 1, "was removed: not wanted").await;
    fails(&[], 1, "has no backup").await;

    let url = ground.repository.url();
    let nowhere = run(
        NOBODY,
        &["repository", "list", "--repository", "file:///nowhere/x"],
    )
    .await;
    assert!(
        nowhere.failure(1).contains("there is no repository"),
        "{nowhere:?}"
    );
    let none = run(NOBODY, &["repository", "list"]).await;
    assert!(none.failure(2).contains("--repository"), "{none:?}");
    ground.back_up(3).await;
    let target = target.to_str().unwrap();
    let args = [
        "repository",
        "restore",
        "commerce/0",
        "--target",
        target,
        "--repository",
        url,
    ];
    let keyless = run(NOBODY, &args).await;
    assert!(keyless.failure(1).contains("identity"), "{keyless:?}");
    assert!(!ground.path("t").exists());
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

#[tokio::test]
async fn a_whole_repository_is_clean_and_what_was_not_checked_is_told() {
    let ground = Ground::new(true).await;
    ground.back_up(1).await;
    ground.back_up(2).await;
    let before = ground.everything();
    let whole = parsed(&run_alone(&ground, &["check", "--read-data", "-o", "json"], true).await);
    assert_eq!(whole["clean"], true, "{whole:#}");
    // All that nobody can tell without pins.
    let unchecked = whole["not_checked"].as_array().unwrap();
    assert_eq!(unchecked.len(), 1, "{whole:#}");
    assert!(unchecked[0].as_str().unwrap().contains("who wrote"));
    for backup in whole["backups"].as_array().unwrap() {
        assert!(backup["chunks_checked"].as_u64().unwrap() > 0, "{backup:#}");
        assert_eq!(backup["packs"], backup["packs_read"]);
    }
    let keyless = run_alone(&ground, &["check", "--read-data", "-o", "json"], false).await;
    assert_eq!(keyless.code, 0, "{keyless:#?}");
    let keyless = parsed(&keyless);
    let unchecked = keyless["not_checked"].to_string();
    assert!(
        unchecked.contains(name(1).as_str()) && unchecked.contains("identity"),
        "{unchecked}"
    );
    assert_eq!(keyless["backups"][0]["chunks_checked"], 0);
    assert!(keyless["backups"][0]["packs_read"].as_u64().unwrap() > 0);
    let table = run_alone(&ground, &["check", "commerce/0", name(1).as_str()], true).await;
    assert!(table.result().ends_with("no damage found"), "{table:?}");
    assert!(
        ground.everything() == before,
        "the repository was written to"
    );
}

#[tokio::test]
async fn i8_every_sort_of_damage_is_found_by_a_check_and_named() {
    let ground = Ground::new(false).await;
    ground
        .repository
        .put_epoch(
            &shard(),
            &seawall_common::repository::EpochRecord {
                number: 2,
                alias: "zone1-102".parse().unwrap(),
                server_id: 102,
                start_position: "0-1-1".parse().unwrap(),
                began_unix_ms: 1,
                before: 1,
            },
        )
        .await
        .unwrap();
    ground.back_up(1).await;
    let first = name(1);
    let packs = format!("packs/{first}");
    let parts = format!("backups/{first}/parts");
    let check = async |read_data: bool| {
        let mut args = vec!["check", "-o", "json"];
        if read_data {
            args.push("--read-data");
        }
        let ended = run_alone(&ground, &args, true).await;
        (ended.code, parsed(&ended))
    };
    assert_eq!(check(false).await.0, 0);
    for (file, at) in [
        (ground.manifest(1), 300),
        (ground.first_in(&parts), 80),
        (ground.first_in(&packs), 70),
        (ground.object(&format!("epochs/{:020}", 2)), 0),
        (
            ground.path("repository").join(format!("owners/{:020}", 1)),
            0,
        ),
    ] {
        let whole = std::fs::read(&file).unwrap();
        flip(&file, at);
        let (code, found) = check(true).await;
        assert_eq!(code, 1, "{}: {found:#}", file.display());
        let damage = found["damage"].to_string();
        assert!(
            damage.contains(&ground.key(&file)),
            "{}: {damage}",
            file.display()
        );
        std::fs::write(&file, whole).unwrap();
    }
    let pack = ground.first_in(&packs);
    let whole = std::fs::read(&pack).unwrap();
    std::fs::remove_file(&pack).unwrap();
    let (code, found) = check(false).await;
    assert_eq!(code, 1, "a missing pack needs no data to be read");
    assert!(
        found["damage"].to_string().contains(&ground.key(&pack)),
        "{found:#}"
    );
    std::fs::write(&pack, whole).unwrap();

    let manifest = std::fs::read(ground.manifest(1)).unwrap();
    std::fs::remove_file(ground.manifest(1)).unwrap();
    let (code, found) = check(false).await;
    let damage = found["damage"].to_string();
    assert!(
        code == 1 && damage.contains(&ground.key(&ground.manifest(1))),
        "{damage}"
    );
    std::fs::write(ground.manifest(1), manifest).unwrap();
    assert_eq!(check(true).await.0, 0);
}

#[tokio::test]
async fn what_nobody_needs_and_what_nobody_knows_is_counted_and_is_no_damage() {
    let ground = Ground::new(true).await;
    for number in 1..4 {
        ground.back_up(number).await;
    }
    ground
        .repository
        .abandon(&shard(), &name(2), "old")
        .await
        .unwrap();
    // Cut off: neither manifest nor the list of packs.
    std::fs::remove_file(ground.manifest(3)).unwrap();
    let parts = ground.object(&format!("backups/{}/parts", name(3)));
    std::fs::remove_dir_all(parts).unwrap();
    std::fs::write(ground.object("stray"), b"12345").unwrap();
    std::fs::create_dir(ground.path("repository/other")).unwrap();
    std::fs::write(ground.path("repository/other/file"), b"123").unwrap();
    let ended = run_alone(&ground, &["check", "-o", "json"], true).await;
    let found = parsed(&ended);
    assert_eq!(
        (ended.code, &found["clean"]),
        (0, &json!(true)),
        "{found:#}"
    );
    assert_eq!(found["unknown"]["objects"], 2, "{found:#}");
    assert!(found["unknown"]["named"].to_string().contains("other/file"));
    let left = found["unneeded"]["named"].to_string();
    assert!(left.contains(name(2).as_str()), "{left}");
    assert!(
        !left.contains(name(1).as_str()) && !left.contains(name(3).as_str()),
        "{left}"
    );
    assert!(found["unneeded"]["bytes"].as_u64().unwrap() > 500);
    let unfinished = found["unfinished"]["named"].to_string();
    assert!(unfinished.contains(name(3).as_str()), "{unfinished}");
    assert!(found["notes"].to_string().contains(name(3).as_str()));
}

#[tokio::test]
async fn a_check_compares_with_the_catalogue_of_a_coordinator_that_is_named() {
    use seawall_proto::v1::BackupState;
    let ground = Ground::new(false).await;
    ground.back_up(1).await;
    ground.back_up(2).await;
    let mut altered = crate::fake::backup(name(2).as_str(), BackupState::Complete);
    altered.manifest_hash = "00ff".into();
    let mut of_table = crate::fake::backup("2026-10-01.000000.zone1-102", BackupState::Complete);
    of_table.manifest_hash = String::new();
    let coordinator = crate::fake::Coordinator::start(crate::fake::Script {
        backups: vec![altered, of_table],
        ..Default::default()
    });
    let url = ground.repository.url();
    let args = ["repository", "check", "-o", "json", "--repository", url];
    let ended = run(&coordinator.url(), &args).await;
    let found = parsed(&ended);
    let differences = found["catalogue"].as_array().unwrap();
    let of = |name: &str| differences.iter().find(|d| d["name"] == name).unwrap();
    assert!(
        of(name(2).as_str())["what"]
            .to_string()
            .contains("not the one that the catalogue")
    );
    assert!(
        of("2026-10-01.000000.zone1-102")["what"]
            .to_string()
            .contains("missing")
    );
    let unknown = of(name(1).as_str());
    assert_eq!(unknown["damage"], false, "{unknown:#}");
    assert_eq!((ended.code, &found["clean"]), (1, &json!(false)));
    let nobody = run(
        NOBODY,
        &[
            "repository",
            "check",
            "--repository",
            url,
            "--timeout",
            "1s",
        ],
    )
    .await;
    assert_eq!(nobody.code, 3, "{nobody:#?}");
}
