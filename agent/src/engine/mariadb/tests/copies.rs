//! Cold copies: what is in them, and a server that goes on from one.

use std::{fs, path::Path};

use seawall_common::{ErrorKind, position::Position};

use super::harness::{Server, copy};
use crate::engine::{CopySet, DataState, Engine};

/// A copy by the rules of a copy set: everything below its one root but what is excluded.
pub fn copy_by(set: &CopySet, to: &Path) {
    let [root] = set.roots.as_slice() else {
        panic!("{set:?}");
    };
    copy(&root.path, to);
    for entry in walkdir::WalkDir::new(to).min_depth(1).contents_first(true) {
        let entry = entry.unwrap();
        let name = entry.path().strip_prefix(to).unwrap().to_str().unwrap();
        let excluded = root
            .exclude
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(beginning) => name.starts_with(beginning),
                None => name == pattern,
            });
        if excluded {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Backs `server` up by a plain copy and starts it as another server.
async fn restored(server: &Server, server_id: u32) -> (Server, Position) {
    server.engine.stop_replication().await.unwrap();
    let set = server.engine.copy_set().await.unwrap();
    let position = server.engine.position().await.unwrap();
    server.engine.stop().await.unwrap();
    let guard = server.engine.guard_stopped().await.unwrap();
    let other = Server::without_data(server_id);
    copy_by(&set, &other.data_dir());
    guard.check().await.unwrap();
    drop(guard);
    server.engine.start().await.unwrap();
    other.engine.start().await.unwrap();
    (other, position)
}

#[tokio::test]
async fn a_copy_leaves_out_what_belongs_to_the_copied_server_alone() {
    let primary = Server::primary(1).await;
    let replica = Server::replica(2, &primary).await;
    primary.sql("CREATE DATABASE relaylogs; CREATE TABLE relaylogs.bin (a INT)");
    replica.catch_up(&primary).await;
    let set = replica.engine.copy_set().await.unwrap();
    let detail = |name: &str| {
        set.details
            .iter()
            .find(|(n, _)| n == name)
            .unwrap()
            .1
            .clone()
    };
    assert!(detail("version").starts_with("10."), "{:?}", set.details);
    assert_eq!(
        (detail("server_id"), detail("innodb_page_size")),
        ("2".into(), "16384".into())
    );
    let roots = replica.engine.roots().await.unwrap();
    assert_eq!(roots, [("data".to_owned(), replica.data_dir())]);

    let (other, _) = restored(&replica, 3).await;
    other.engine.stop().await.unwrap();
    let all = names(&replica.data_dir());
    for file in [
        "master.info",
        "relay-log.info",
        "relay.index",
        "bin.index",
        "bin.000001",
    ] {
        assert!(
            all.iter().any(|name| name == file),
            "{file} is not in {all:?}"
        );
    }
    let target = replica.path("copied");
    copy_by(&set, &target);
    let copied = names(&target);
    for file in [
        "bin.state",
        "relaylogs",
        "shop",
        "ibdata1",
        "ib_logfile0",
        "mysql",
    ] {
        // The copied server runs again: its state is not there now.
        assert!(
            file == "bin.state" || copied.iter().any(|n| n == file),
            "{file}: {copied:?}"
        );
    }
    let left_out = |name: &str| name.ends_with(".info") || name.starts_with("relay.");
    assert!(!copied.iter().any(|name| left_out(name)), "{copied:?}");
    assert!(
        !copied.iter().any(|name| name.starts_with("bin.")),
        "{copied:?}"
    );
    assert!(other.data_dir().join("bin.state").exists());
}

#[tokio::test]
async fn a_copy_of_a_replica_goes_on_from_its_position() {
    let primary = Server::primary(1).await;
    let replica = Server::replica(2, &primary).await;
    primary.sql("INSERT INTO shop.t VALUES (1)");
    replica.catch_up(&primary).await;
    let (other, position) = restored(&replica, 3).await;
    let health = other.engine.health().await.unwrap();
    assert!(!health.replication.configured && health.read_only);
    assert_eq!(health.position, position);
    for _ in 0..2 {
        other.engine.adopt(&position).await.unwrap();
    }
    assert_eq!(other.engine.position().await.unwrap(), position);
    assert_eq!(other.engine.health().await.unwrap().server_id, 3);
    primary.sql("INSERT INTO shop.t VALUES (2)");
    other.follow(&primary).await;
    assert_eq!(
        other.sql("CHECKSUM TABLE shop.t"),
        primary.sql("CHECKSUM TABLE shop.t")
    );
    assert_next_own_number_is_right(&other).await;
}

#[tokio::test]
async fn a_copy_of_a_primary_goes_on_from_its_position() {
    let primary = Server::primary(1).await;
    primary.sql("INSERT INTO shop.t VALUES (1)");
    for without_state in [false, true] {
        let (other, position) = restored(&primary, 3).await;
        primary.engine.open_for_writes().await.unwrap();
        if without_state {
            other.engine.stop().await.unwrap();
            for name in names(&other.data_dir())
                .iter()
                .filter(|n| n.starts_with("bin."))
            {
                fs::remove_file(other.data_dir().join(name)).unwrap();
            }
            other.engine.start().await.unwrap();
            assert!(other.engine.position().await.unwrap().is_empty());
        }
        for _ in 0..2 {
            other.engine.adopt(&position).await.unwrap();
        }
        assert_eq!(
            other.sql("SELECT @@global.gtid_slave_pos"),
            position.to_string()
        );
        primary.sql(&format!("INSERT INTO shop.t VALUES (2 + {without_state})"));
        other.follow(&primary).await;
        assert_eq!(
            other.sql("CHECKSUM TABLE shop.t"),
            primary.sql("CHECKSUM TABLE shop.t")
        );
        assert_next_own_number_is_right(&other).await;
    }
}

#[tokio::test]
async fn binary_logs_of_an_earlier_life_are_no_part_of_a_copys_history() {
    let primary = Server::primary(1).await;
    let replica = Server::replica(2, &primary).await;
    let log_dir = replica.path("old-logs");
    fs::create_dir(&log_dir).unwrap();
    let argument = format!("--log-bin={}", log_dir.join("bin").display());
    let mut other = Server::without_data(3);
    other.settings.start_command.push(argument);
    other.reopen();
    let (copied, position) = restored(&replica, 4).await;
    copied.engine.stop().await.unwrap();
    copy(&copied.data_dir(), &other.data_dir());
    // Its first life goes further than the copy that it is restored from.
    other.engine.start().await.unwrap();
    other.engine.adopt(&position).await.unwrap();
    other.engine.open_for_writes().await.unwrap();
    other.sql("INSERT INTO shop.t VALUES (100), (101); INSERT INTO shop.t VALUES (102)");
    other.engine.stop().await.unwrap();
    fs::remove_dir_all(other.data_dir()).unwrap();
    copy(&copied.data_dir(), &other.data_dir());
    other.engine.start().await.unwrap();
    assert!(!position.covers(&other.engine.position().await.unwrap()));
    other.engine.adopt(&position).await.unwrap();
    assert_eq!(other.engine.position().await.unwrap(), position);
    primary.sql("INSERT INTO shop.t VALUES (1)");
    other.follow(&primary).await;
    assert_eq!(
        other.sql("CHECKSUM TABLE shop.t"),
        primary.sql("CHECKSUM TABLE shop.t")
    );
}

async fn assert_next_own_number_is_right(server: &Server) {
    let before = server.engine.position().await.unwrap();
    server.engine.open_for_writes().await.unwrap();
    server.sql("INSERT INTO shop.t VALUES (999)");
    let after = server.engine.position().await.unwrap();
    let sequence = |position: &Position| position.gtids().next().unwrap().sequence;
    assert_eq!(
        sequence(&after),
        sequence(&before) + 1,
        "{before} -> {after}"
    );
    assert_eq!(after.gtids().next().unwrap().server_id, 3);
}

#[tokio::test]
async fn directories_that_lie_elsewhere_are_roots_and_files_that_do_are_refused() {
    let mut server = Server::without_data(1);
    for name in ["redo", "undo"] {
        fs::create_dir(server.path(name)).unwrap();
    }
    let redo = format!(
        "--innodb-log-group-home-dir={}",
        server.path("redo").display()
    );
    let undo = format!("--innodb-undo-directory={}", server.path("undo").display());
    server.settings.start_command.extend([redo, undo]);
    server.reopen();
    server.engine.initialize().await.unwrap();
    let expected = [
        ("data".to_owned(), server.data_dir()),
        ("redo".to_owned(), server.path("redo")),
        ("undo".to_owned(), server.path("undo")),
    ];
    assert_eq!(server.engine.roots().await.unwrap(), expected);
    assert!(server.path("redo").join("ib_logfile0").exists());
    server.engine.start().await.unwrap();
    assert_eq!(server.engine.copy_set().await.unwrap().roots.len(), 3);
    server.sql(&format!(
        "CREATE DATABASE far; CREATE TABLE far.away (a INT) DATA DIRECTORY = '{}'",
        server.path("elsewhere").display()
    ));
    let error = server.engine.copy_set().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    let text = error.to_string();
    assert!(
        text.contains("far/away.isl") && text.contains("elsewhere"),
        "{text}"
    );

    let same = format!("--innodb-undo-directory={}", server.path("redo").display());
    server.settings.start_command.push(same);
    server.reopen();
    assert_eq!(server.engine.roots().await.unwrap()[1].0, "redo-undo");
    let around = format!("--innodb-undo-directory={}", server.path("").display());
    server.settings.start_command.push(around);
    server.reopen();
    assert!(server.engine.roots().await.is_err());
}

#[tokio::test]
async fn a_prepared_transaction_is_told_in_the_details() {
    let server = Server::primary(1).await;
    server.sql("XA START 'a'; INSERT INTO shop.t VALUES (9); XA END 'a'; XA PREPARE 'a'");
    let details = server.engine.copy_set().await.unwrap().details;
    let detail = |name: &str| &details.iter().find(|(n, _)| n == name).unwrap().1;
    assert_eq!(detail("prepared_transactions"), "1");
    assert_eq!(detail("prepared"), "'a'");
}

#[tokio::test]
async fn a_new_database_is_made_whole_with_its_password_and_never_over_data() {
    let mut server = Server::without_data(1);
    fs::write(server.path("password"), "it's \\secret\n").unwrap();
    server.settings.password_file = Some(server.path("password"));
    server.reopen();
    assert_eq!(server.engine.data_state().await.unwrap(), DataState::Empty);
    // A first attempt that was cut off.
    fs::create_dir(server.data_dir()).unwrap();
    fs::create_dir(server.data_dir().join("mysql")).unwrap();
    fs::write(server.data_dir().join("ibdata1"), "half").unwrap();
    fs::write(server.data_dir().join("seawall-initializing"), "").unwrap();
    server.engine.initialize().await.unwrap();
    server.engine.initialize().await.unwrap();
    assert!(!server.path("state").join("accounts.sql").exists());
    assert_eq!(
        server.engine.data_state().await.unwrap(),
        DataState::SystemOnly
    );
    server.engine.start().await.unwrap();
    assert!(server.engine.position().await.unwrap().is_empty());
    assert_eq!(
        server.sql("SELECT COUNT(*) FROM mysql.user WHERE User IN ('', 'root')"),
        "1"
    );
    server.engine.open_for_writes().await.unwrap();
    server.sql("CREATE DATABASE shop; CREATE TABLE shop.t (a INT)");
    assert_eq!(
        server.engine.data_state().await.unwrap(),
        DataState::UserData
    );
    server.engine.stop().await.unwrap();
    let error = server.engine.initialize().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
}
