//! `check`: every sort of damage, and what is none.

use super::*;

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
