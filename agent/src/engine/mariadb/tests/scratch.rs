//! Restore tests on copies: of servers that are laid out otherwise, with tables of every kind, and
//! with a server that dies or hangs while it is looked at.

use std::{fs, path::Path, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use seawall_common::{Error, ErrorKind};
use tempfile::TempDir;

use super::{copies::copy_by, harness::Server};
use crate::engine::{
    Checked, Engine, Say, ScratchGround, ScratchServer,
    process::{Launcher, ProcessId},
};

/// Every kind of table that has rows, and what must not be taken for one.
const OBJECTS: &str = "USE shop; \
    INSERT INTO t SELECT seq FROM seq_1_to_500; \
    CREATE TABLE versioned (id INT PRIMARY KEY, v INT) WITH SYSTEM VERSIONING; \
    INSERT INTO versioned VALUES (1, 1), (2, 1); UPDATE versioned SET v = 2; \
    CREATE SEQUENCE numbers; SELECT NEXTVAL(numbers); \
    CREATE TABLE myisam (id INT PRIMARY KEY) ENGINE=MyISAM; INSERT INTO myisam VALUES (1); \
    CREATE DEFINER='gone'@'nowhere' VIEW orphaned AS SELECT a FROM t; \
    CREATE TABLE base (a INT); CREATE VIEW baseless AS SELECT a FROM base; DROP TABLE base";

/// A copy of `server`, which is stopped for it, with what its engine notes at a backup.
async fn copied(server: &Server) -> (TempDir, ScratchGround) {
    let set = server.engine.copy_set().await.unwrap();
    let checksums = server.engine.checksums().await.unwrap();
    assert!(
        checksums.noted.len() >= 4,
        "few checksums: {:?}",
        checksums.noted
    );
    server.engine.stop().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let ground = ScratchGround {
        directory: directory.path().to_owned(),
        roots: vec![("data".to_owned(), directory.path().join("root0"))],
        details: [set.details.clone(), checksums.noted.clone()].concat(),
    };
    copy_by(&set, ground.root("data").unwrap());
    (directory, ground)
}

/// A server that has such options and tables of every kind, stopped, and a copy of it.
async fn copied_from(layout: &[String]) -> (Server, TempDir, ScratchGround) {
    let server = Server::laid_out(1, layout);
    server.engine.start().await.unwrap();
    server.engine.open_for_writes().await.unwrap();
    server.sql("CREATE DATABASE shop; CREATE TABLE shop.t (a INT PRIMARY KEY)");
    server.sql(OBJECTS);
    let (directory, ground) = copied(&server).await;
    (server, directory, ground)
}

fn process_of(ground: &ScratchGround) -> ProcessId {
    Launcher::new(&ground.directory).process().unwrap()
}

fn signal(process: ProcessId, signal: Signal) {
    kill(Pid::from_raw(process.pid), signal).unwrap();
}

/// What was found, and what kept the rest from being looked at.
async fn looked_at(server: &dyn ScratchServer, say: Say<'_>) -> (Checked, Result<(), Error>) {
    let mut checked = Checked::default();
    let looked = server.check(&mut checked, say).await;
    (checked, looked)
}

async fn tested(tester: &Server, ground: &ScratchGround) -> Checked {
    let server = tester.engine.start_scratch(ground).await.unwrap();
    let (checked, looked) = looked_at(&*server, &|_| {}).await;
    looked.unwrap();
    let process = process_of(ground);
    server.stop().await.unwrap();
    assert!(!process.is_alive(), "it still runs");
    checked
}

#[tokio::test]
async fn a_good_copy_of_a_server_that_is_laid_out_otherwise_passes() {
    let layout = [
        "--innodb-page-size=32768",
        "--innodb-data-file-path=system1:12M;system2:12M:autoextend",
        "--innodb-undo-tablespaces=2",
        "--innodb-checksum-algorithm=strict_crc32",
        "--lower-case-table-names=1",
    ]
    .map(str::to_owned);
    let (_server, _directory, ground) = copied_from(&layout).await;
    assert!(ground.root("data").unwrap().join("system2").exists());
    // By an agent whose own server has everything as it comes.
    let tester = Server::new(2);
    let checked = tested(&tester, &ground).await;
    assert_eq!(checked.problems, Vec::<String>::new());
}

#[tokio::test]
async fn tables_of_every_kind_pass_and_a_view_that_is_of_no_use_does_not_fail_a_good_copy() {
    let server = Server::primary(1).await;
    server.sql(OBJECTS);
    let view = server.try_sql("SELECT * FROM shop.orphaned");
    assert!(!view.status.success(), "the view works: {view:?}");
    let (_directory, ground) = copied(&server).await;
    for table in ["shop.t", "shop.versioned", "shop.numbers", "shop.myisam"] {
        let detail = ground.detail(&format!("checksum {table}"));
        assert!(detail.is_some(), "no checksum of {table} was noted");
    }
    let checked = tested(&server, &ground).await;
    assert_eq!(checked.problems, Vec::<String>::new());
    assert!(
        checked.summary.contains("checksums compared"),
        "{}",
        checked.summary
    );
}

#[tokio::test]
async fn a_server_that_dies_of_a_table_fails_the_test_and_one_that_hangs_is_got_rid_of() {
    let server = Server::primary(1).await;
    server.sql(OBJECTS);
    let (_directory, ground) = copied(&server).await;
    let at_table = |what: String, send: Signal| {
        if what.starts_with("checking shop.versioned") {
            let process = process_of(&ground);
            signal(process, send);
            // It takes its time to write down why it dies, and serves meanwhile.
            while send != Signal::SIGSTOP && process.is_alive() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    };

    let scratch = server.engine.start_scratch(&ground).await.unwrap();
    let process = process_of(&ground);
    let say = |what| at_table(what, Signal::SIGSEGV);
    let (checked, looked) = looked_at(&*scratch, &say).await;
    looked.unwrap();
    assert_eq!(checked.problems_total, 1, "{checked:?}");
    let ended = "the database ended while its tables were checked";
    assert!(checked.problems[0].contains(ended), "{checked:?}");
    scratch.stop().await.unwrap();
    assert!(!process.is_alive());

    // Somebody shuts it down: it does so in order, and that says nothing of the backup.
    let scratch = server.engine.start_scratch(&ground).await.unwrap();
    let say = |what| at_table(what, Signal::SIGTERM);
    let (checked, looked) = looked_at(&*scratch, &say).await;
    assert_eq!(checked.problems_total, 0, "{checked:?}");
    let error = looked.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.message().contains("could not be tested"), "{error}");
    scratch.stop().await.unwrap();

    let scratch = server.engine.start_scratch(&ground).await.unwrap();
    let process = process_of(&ground);
    let say = |what| at_table(what, Signal::SIGSTOP);
    // As when the operation is over its time: nobody waits any longer.
    let limit = Duration::from_secs(3);
    let hung = tokio::time::timeout(limit, looked_at(&*scratch, &say)).await;
    assert!(hung.is_err(), "{hung:?}");
    assert!(process.is_alive());
    scratch.stop().await.unwrap();
    assert!(!process.is_alive());
    fs::remove_dir_all(ground.root("data").unwrap()).unwrap();
}

/// Has the server open no more files from here on.
fn open_no_more_files(process: ProcessId) {
    let pid = process.pid.to_string();
    let status = std::process::Command::new("prlimit")
        .args(["--pid", &pid, "--nofile=10"])
        .status();
    assert!(status.unwrap().success());
}

fn cut(file: &Path, length: u64) {
    let file = fs::File::options().write(true).open(file).unwrap();
    assert!(file.metadata().unwrap().len() > length, "it is short");
    file.set_len(length).unwrap();
}

#[tokio::test]
async fn damage_that_was_found_stands_when_the_test_cannot_go_on() {
    let server = Server::primary(1).await;
    server.sql(OBJECTS);
    server.sql(
        "USE shop; CREATE TABLE a (a INT PRIMARY KEY) SELECT seq AS a FROM seq_1_to_5000; \
         CREATE TABLE z (a INT PRIMARY KEY) ENGINE=MyISAM",
    );
    let (_directory, ground) = copied(&server).await;
    cut(&ground.root("data").unwrap().join("shop/a.ibd"), 70_000);

    // Before its last table it has no more open files; before the first checksum it is killed.
    let no_more_files = |what: &str, process| {
        if what.starts_with("checking shop.z") {
            open_no_more_files(process);
        }
    };
    let killed = |what: &str, process: ProcessId| {
        if what.starts_with("comparing") && process.is_alive() {
            signal(process, Signal::SIGKILL);
        }
    };
    type Harm<'a> = &'a (dyn Fn(&str, ProcessId) + Send + Sync);
    let harms: [(Harm<'_>, &str); 2] =
        [(&no_more_files, "Too many open files"), (&killed, "killed")];
    for (harm, why) in harms {
        let scratch = server.engine.start_scratch(&ground).await.unwrap();
        let process = process_of(&ground);
        let say = |what: String| harm(&what, process);
        let (checked, looked) = looked_at(&*scratch, &say).await;
        let error = looked.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert_eq!(checked.problems_total, 1, "{checked:?}");
        assert!(
            checked.problems[0].starts_with("CHECK TABLE shop.a: "),
            "{checked:?}"
        );
        scratch.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_does_not_start_on_short_files_says_that_the_backup_is_damaged() {
    let layout = ["--innodb-undo-tablespaces=2".to_owned()];
    let (server, _directory, ground) = copied_from(&layout).await;
    let data = ground.root("data").unwrap();
    for (name, length) in [("undo001", 0), ("undo001", 65_536), ("ib_logfile0", 12_288)] {
        let file = data.join(name);
        let whole = fs::read(&file).unwrap();
        cut(&file, length);
        let error = server.engine.start_scratch(&ground).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {error}");
        fs::write(&file, whole).unwrap();
    }
    let checked = tested(&server, &ground).await;
    assert_eq!(checked.problems, Vec::<String>::new());
}

#[tokio::test]
async fn files_that_are_named_by_their_whole_path_are_looked_for_in_the_copy() {
    let mut server = Server::primary(1).await;
    server.sql(OBJECTS);
    server.engine.stop().await.unwrap();
    let whole = format!(
        "--innodb-data-file-path={}:12M:autoextend",
        server.data_dir().join("ibdata1").display()
    );
    server.settings.start_command.push(whole);
    server
        .settings
        .start_command
        .push("--innodb-data-home-dir=".to_owned());
    server.reopen();
    server.engine.start().await.unwrap();
    let (_directory, ground) = copied(&server).await;
    // Nothing of the server's own is opened: its file may be as it likes.
    let own = server.data_dir().join("ibdata1");
    fs::rename(&own, own.with_extension("away")).unwrap();
    let checked = tested(&server, &ground).await;
    assert_eq!(checked.problems, Vec::<String>::new());
    assert!(!own.exists(), "it was made anew");

    let mut elsewhere = ground.clone();
    for (name, value) in &mut elsewhere.details {
        if name == "innodb_data_file_path" {
            *value = "/srv/other/ibdata1:12M:autoextend".to_owned();
        }
    }
    let error = server.engine.start_scratch(&elsewhere).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.message().contains("/srv/other/ibdata1"), "{error}");
}
