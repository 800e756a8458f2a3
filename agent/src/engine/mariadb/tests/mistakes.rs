//! Wrong settings: one clear line each.

use std::time::Duration;

use seawall_common::ErrorKind;

use super::harness::Server;
use crate::engine::{Engine, EngineSettings, mariadb::MariaDb};

fn refused(change: impl FnOnce(&mut EngineSettings)) -> String {
    let server = Server::without_data(1);
    let mut settings = server.settings.clone();
    change(&mut settings);
    let error = MariaDb::open(&settings, &server.path("state"))
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn a_setting_that_is_missing_or_names_nothing_is_told_at_once() {
    let text = refused(|s| s.defaults_file = Some("/no/such.cnf".into()));
    assert!(
        text.starts_with("engine.defaults_file: cannot read /no/such.cnf"),
        "{text}"
    );
    let text = refused(|s| s.start_command = vec!["mariadbdd".to_owned()]);
    assert!(
        text.contains("engine.start_command: there is no program \"mariadbdd\""),
        "{text}"
    );
    let text = refused(|s| s.start_command.clear());
    assert!(text.contains("engine.systemd_unit"), "{text}");
    let text = refused(|s| s.systemd_unit = Some("mariadb".to_owned()));
    assert!(text.contains("both given"), "{text}");
    let text = refused(|s| s.data_dir = Some("/no/such/parent/data".into()));
    assert!(
        text.contains("/no/such/parent is not a directory"),
        "{text}"
    );
    let text = refused(|s| s.socket = None);
    assert!(text.contains("engine.socket is missing"), "{text}");
    let text = refused(|s| s.password_file = Some("/no/such/password".into()));
    assert!(text.contains("engine.password_file: cannot read"), "{text}");
    let text = refused(|s| s.replication.user = None);
    assert!(
        text.contains("engine.replication.user is missing"),
        "{text}"
    );
}

#[tokio::test]
async fn a_start_command_that_ends_at_once_is_quoted_with_its_last_line() {
    let mut server = Server::new(1);
    server.settings.start_command = [
        "sh",
        "-c",
        "echo starting; echo cannot find my hat >&2; exit 3",
    ]
    .map(str::to_owned)
    .into();
    server.reopen();
    let text = server.engine.start().await.unwrap_err().to_string();
    assert!(
        text.contains("exit status: 3") && text.contains("cannot find my hat"),
        "{text}"
    );
    assert!(text.contains("database.log"), "{text}");
}

#[tokio::test]
async fn a_setting_that_the_server_does_not_know_is_told_before_it_is_started() {
    let mut server = Server::new(1);
    server
        .settings
        .start_command
        .push("--no-such-setting=1".to_owned());
    server.reopen();
    let text = server.engine.start().await.unwrap_err().to_string();
    assert!(
        text.contains("unknown variable 'no-such-setting=1'"),
        "{text}"
    );
}

#[tokio::test]
async fn a_server_that_would_use_other_files_is_not_started() {
    let mut server = Server::new(1);
    server
        .settings
        .start_command
        .push("--datadir=/var/lib/mysql".to_owned());
    server.reopen();
    let text = server.engine.start().await.unwrap_err().to_string();
    assert!(
        text.contains("the server's configuration says /var/lib/mysql"),
        "{text}"
    );
}

#[tokio::test]
async fn a_wrong_password_is_named_and_the_right_one_is_taken() {
    let mut server = Server::new(1);
    server.engine.start().await.unwrap();
    server.sql("SET sql_log_bin = 0; ALTER USER root@localhost IDENTIFIED BY 'q''u\\\\ite'");
    let text = server.engine.health().await.unwrap_err().to_string();
    assert!(text.contains("user \"root\" was refused"), "{text}");
    std::fs::write(server.path("password"), "wrong\n").unwrap();
    server.settings.password_file = Some(server.path("password"));
    server.reopen();
    let error = server.engine.start().await.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(
        text.contains("Access denied for user 'root'@'localhost'"),
        "{text}"
    );
    assert!(
        text.contains("password file") && !text.contains("wrong"),
        "{text}"
    );
    std::fs::write(server.path("password"), "q'u\\ite\n").unwrap();
    assert!(server.engine.health().await.unwrap().read_only);
    server.engine.stop().await.unwrap();
}

#[tokio::test]
async fn an_administrator_known_by_the_operating_system_needs_no_password() {
    let server = Server::new(1);
    server.engine.start().await.unwrap();
    server.sql(
        "SET sql_log_bin = 0; ALTER USER root@localhost IDENTIFIED VIA mysql_native_password \
         USING 'invalid' OR unix_socket",
    );
    assert!(server.engine.health().await.unwrap().read_only);
}

#[tokio::test]
async fn a_server_without_an_answer_on_our_socket_is_named_with_its_process() {
    let mut server = Server::new(1);
    server.engine.start().await.unwrap();
    let pid = server.process().unwrap().pid;
    // Its own record is not there, as after an installation by hand.
    std::fs::remove_file(server.path("state").join("database.pid")).unwrap();
    server.settings.start_timeout = Duration::from_millis(400);
    server.settings.socket = Some(server.path("other"));
    let last = server.settings.start_command.len();
    server
        .settings
        .start_command
        .insert(last, format!("--socket={}", server.path("other").display()));
    server.reopen();
    let text = server.engine.start().await.unwrap_err().to_string();
    assert!(text.contains(&format!("process {pid} holds")), "{text}");
}

#[tokio::test]
async fn a_server_that_was_started_open_is_closed_and_refused() {
    let mut server = Server::new(1);
    let command = server.settings.start_command.join(" ");
    // A script that loses its arguments.
    server.settings.start_command =
        vec!["sh".to_owned(), "-c".to_owned(), format!("exec {command}")];
    server.reopen();
    let text = server.engine.start().await.unwrap_err().to_string();
    assert!(text.contains("did not start read-only"), "{text}");
    assert_eq!(server.sql("SELECT @@global.read_only"), "1");
}

#[tokio::test]
async fn a_systemd_unit_must_have_a_closed_start_in_its_configuration() {
    let mut server = Server::new(1);
    let words = server.settings.start_command.split_off(0);
    let arguments: Vec<&str> = words[2..]
        .iter()
        .filter_map(|w| w.strip_prefix("--"))
        .collect();
    let configuration = format!("[mariadbd]\n{}\n", arguments.join("\n"));
    let file = server.path("my.cnf");
    std::fs::write(&file, &configuration).unwrap();
    // Stands for systemctl: starts and stops what the unit would.
    let script = server.path("systemctl");
    std::fs::write(
        &script,
        format!(
            "#!/bin/sh\ncase $1 in start) setsid mariadbd --defaults-file={} >{} 2>&1 & ;;\n\
             stop) kill $(cat {}) ;;\nesac\n",
            file.display(),
            server.path("unit.log").display(),
            server.path("pid").display()
        ),
    )
    .unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    server.settings.defaults_file = Some(file.clone());
    server.settings.systemd_unit = Some("mariadb@1".to_owned());
    server.reopen();
    server.engine.systemctl = script.display().to_string();
    let text = server.engine.start().await.unwrap_err().to_string();
    assert!(text.contains("mariadb@1 does not set read-only"), "{text}");
    std::fs::write(
        &file,
        format!("{configuration}read-only\nskip-slave-start\n"),
    )
    .unwrap();
    server.engine.start().await.unwrap();
    assert!(server.engine.health().await.unwrap().read_only);
    let process = server.process().unwrap();
    server.engine.stop().await.unwrap();
    assert!(!process.is_alive());
}
