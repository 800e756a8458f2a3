//! Backups of a coordinator group's state, and bounds of timestamps.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const STATE: &[u8] =
    b"{\"what\": \"the group's own affair, long enough to be compressed compressed compressed\"}";

async fn put(ground: &Ground) -> GroupBackup {
    let repository = &ground.repository;
    repository.claim("group", false).await.unwrap();
    let backup = GroupBackup::new("group", 2, (7, 812));
    let put = repository.put_group_state(backup, STATE.to_vec()).await;
    put.unwrap()
}

async fn stored(ground: &Ground) -> GroupBackups {
    ground.repository.group_backups().await.unwrap()
}

fn object(ground: &Ground, name: &str) -> PathBuf {
    ground.path(&format!("repository/coordinator/backups/{name}/state"))
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn the_state_of_a_group_comes_back_as_it_was_put_and_is_listed() {
    for ground in [Ground::new().await, Ground::encrypted().await] {
        let first = put(&ground).await;
        check_group_backup_name(&first.name).unwrap();
        let (header, state) = ground
            .repository
            .get_group_state(&first.name)
            .await
            .unwrap();
        assert_eq!((&header, state.as_slice()), (&first, STATE));
        assert_eq!(
            (header.term, header.last_index, header.member_id),
            (7, 812, 2)
        );
        assert_eq!(header.encrypted, ground.repository.is_encrypting());
        let bytes = std::fs::read(object(&ground, &first.name)).unwrap();
        assert!(bytes.windows(6).all(|window| window != &STATE[10..16]) || !header.encrypted);

        let second = put(&ground).await;
        let mut expected = vec![first.name.clone(), second.name.clone()];
        expected.sort();
        assert_eq!(stored(&ground).await.complete, expected);
        let described = ground.repository.group_backup(&second.name).await.unwrap();
        assert_eq!(described, second);
        let options = InspectOptions::default();
        let (progress, never) = (Progress::new(), CancellationToken::new());
        let inspected = inspect(&ground.repository, &options, &progress, &never)
            .await
            .unwrap();
        assert_eq!(inspected.unknown.named, Vec::<String>::new());

        ground
            .repository
            .remove_group_backup(&first.name)
            .await
            .unwrap();
        assert_eq!(
            stored(&ground).await,
            GroupBackups {
                complete: vec![second.name],
                unfinished: Vec::new(),
            },
            "nothing is left of the other"
        );
        let gone = ground.repository.get_group_state(&first.name).await;
        assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn i2_a_backup_of_which_only_the_keys_are_there_is_none_and_its_keys_can_go() {
    let ground = Ground::encrypted().await;
    let [cut_off, whole] = [put(&ground).await, put(&ground).await];
    std::fs::remove_file(object(&ground, &cut_off.name)).unwrap();
    std::fs::create_dir_all(ground.path("repository/coordinator/backups/odd")).unwrap();
    std::fs::write(ground.path("repository/coordinator/backups/odd/state"), "").unwrap();
    let found = stored(&ground).await;
    assert_eq!(found.complete, [whole.name]);
    assert_eq!(found.unfinished, std::slice::from_ref(&cut_off.name));
    let read = ground.repository.group_backup(&cut_off.name).await;
    assert_eq!(read.unwrap_err().kind(), ErrorKind::NotFound);
    let removed = ground.repository.remove_group_backup(&cut_off.name).await;
    removed.unwrap();
    assert_eq!(stored(&ground).await.unfinished, [""; 0]);
}

#[tokio::test]
async fn which_of_two_backups_of_a_group_is_older_their_names_say() {
    let name = "2026-11-26.071500.1f2e3d4c";
    // 2026-11-26T07:15:00Z.
    let at_unix_ms = 1_795_677_300_000;
    assert!(!is_group_backup_older(name, at_unix_ms));
    assert!(is_group_backup_older(name, at_unix_ms + 1000));
    assert!(!is_group_backup_older(name, 0));
}

#[tokio::test]
async fn i8_whatever_is_altered_in_the_state_of_a_group_is_noticed() {
    for ground in [Ground::new().await, Ground::encrypted().await] {
        let backup = put(&ground).await;
        let path = object(&ground, &backup.name);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            change(&path, |bytes| bytes[at] ^= 1);
            let read = ground.repository.get_group_state(&backup.name).await;
            assert!(read.is_err(), "byte {at} of {}", whole.len());
            change(&path, |bytes| *bytes = whole.clone());
        }
        for length in [0, 10, 64, 70, whole.len() - 1] {
            change(&path, |bytes| bytes.truncate(length));
            let read = ground.repository.get_group_state(&backup.name).await;
            assert_eq!(
                read.unwrap_err().kind(),
                ErrorKind::Corrupt,
                "{length} bytes"
            );
            change(&path, |bytes| *bytes = whole.clone());
        }
        // Exchanged with another one.
        let other = put(&ground).await;
        std::fs::rename(object(&ground, &other.name), &path).unwrap();
        let read = ground.repository.get_group_state(&backup.name).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[tokio::test]
async fn the_state_of_a_group_is_put_by_the_owner_and_opened_by_a_recipient() {
    let ground = Ground::encrypted().await;
    let backup = put(&ground).await;
    let stranger = GroupBackup::new("another", 1, (1, 1));
    let refused = ground.repository.put_group_state(stranger, STATE.to_vec());
    assert_eq!(refused.await.unwrap_err().kind(), ErrorKind::Refused);
    let config = RepositoryConfig {
        identity_file: None,
        ..ground.config.clone()
    };
    let blind = Repository::open(&config).await.unwrap();
    let closed = blind.get_group_state(&backup.name).await.unwrap_err();
    assert!(closed.message().contains("no identity"), "{closed}");
    assert_eq!(blind.group_backup(&backup.name).await.unwrap(), backup);
    for name in [
        "../x",
        "",
        "2026-11-21.031500",
        "2026-11-21.031500.1F2E3D4C",
    ] {
        assert!(check_group_backup_name(name).is_err(), "{name:?}");
    }
}

#[tokio::test]
async fn i1_a_bound_is_put_by_the_owner_alone_and_the_highest_is_found() {
    let ground = Ground::new().await;
    let repository = &ground.repository;
    assert_eq!(repository.highest_bound().await.unwrap(), 0);
    repository.put_bound("group", 7).await.unwrap();
    repository.put_bound("group", 1_000_000_000).await.unwrap();
    repository.put_bound("group", 7).await.unwrap();
    assert_eq!(repository.highest_bound().await.unwrap(), 1_000_000_000);
    let odd = ground.path("repository/coordinator/bounds/99999999999999999999");
    std::fs::write(odd, "").unwrap();
    assert_eq!(repository.highest_bound().await.unwrap(), 1_000_000_000);

    // Whoever is no owner any more writes none that counts.
    repository.claim("another", true).await.unwrap();
    let refused = repository.put_bound("group", 2_000_000_000).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(repository.highest_bound().await.unwrap(), 1_000_000_000);
}
