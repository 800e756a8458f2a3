//! `list` and `restore`.

use super::*;

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

#[tokio::test]
async fn an_identity_file_that_others_can_read_is_told_of_in_one_line_and_used() {
    let ground = Ground::new(true).await;
    ground.back_up(1).await;
    let file = ground.identity.clone().unwrap();
    let quiet = ground.run(&["list", "-o", "name"]).await;
    assert_eq!(quiet.stderr, "", "{quiet:?}");
    set_mode(&file, 0o644);
    let told = ground.run(&["list", "-o", "name"]).await;
    assert_eq!(told.result(), quiet.result());
    let warning = told.stderr.trim_end();
    assert_eq!(warning.lines().count(), 1, "{told:?}");
    let says = format!("seawallctl: WARNING: identity file {}", file.display());
    assert!(warning.starts_with(&says), "{warning}");
    assert!(warning.contains("mode 0644"), "{warning}");
}

#[tokio::test]
async fn a_configuration_of_another_program_is_refused_and_says_what_to_do() {
    let ground = Ground::new(false).await;
    let file = ground.path("agent.toml");
    let list = async |text: &str| {
        std::fs::write(&file, text).unwrap();
        let file = file.display().to_string();
        let args = ["repository", "list", "--config", &file];
        run(NOBODY, &args).await
    };
    let refused = list("alias = \"zone1-101\"\n[repository]\nurl = \"file:///x\"\n").await;
    let line = refused.failure(2);
    assert!(line.contains("unknown key \"alias\""), "{line}");
    assert!(line.contains("copy that of the agent's"), "{line}");
    // A slip of the finger is none of another program's.
    let slip = list("[repository]\nurll = \"file:///x\"\n").await;
    let line = slip.failure(2);
    assert!(line.contains("Did you mean \"repository.url\"?"), "{line}");
    let slip = list("[repositry]\nurl = \"file:///x\"\n").await;
    let line = slip.failure(2);
    assert!(line.contains("Did you mean \"repository\"?"), "{line}");
    assert!(!line.contains("the agent's"), "{line}");
}
