//! What a restart loses and what is put back; open and closed for writes.

use std::{process::Command, time::Duration};

use super::harness::Server;
use crate::engine::Engine;

#[tokio::test]
async fn i3_settings_changed_while_it_ran_come_back_after_a_restart() {
    let server = Server::primary(1).await;
    server.sql(
        "SET GLOBAL event_scheduler = ON; SET GLOBAL rpl_semi_sync_master_enabled = ON; \
         SET GLOBAL rpl_semi_sync_slave_enabled = ON; SET GLOBAL slave_parallel_threads = 3; \
         SET GLOBAL long_query_time = 2.5; SET GLOBAL slave_parallel_mode = 'conservative'; \
         SET GLOBAL init_connect = 'SET @a = \\'x\\\\\\\\y\\''",
    );
    let look = "SELECT @@global.event_scheduler, @@global.rpl_semi_sync_master_enabled, \
         @@global.rpl_semi_sync_slave_enabled, @@global.slave_parallel_threads, \
         @@global.long_query_time, @@global.slave_parallel_mode, @@global.init_connect";
    let before = server.sql(look);
    let flags = server.engine.flags().await.unwrap();
    assert!(!flags.read_only);
    assert_eq!(flags.variables.len(), 7, "{flags:?}");
    server.engine.stop().await.unwrap();
    server.engine.start().await.unwrap();
    assert_ne!(server.sql(look), before);
    for _ in 0..2 {
        server.engine.restore_flags(&flags).await.unwrap();
        assert_eq!(server.sql(look), before);
    }
    let again = server.engine.flags().await.unwrap();
    assert_eq!(again.variables, flags.variables);
    assert!(again.read_only, "who may write is not decided here");
}

#[tokio::test]
async fn a_value_that_the_server_does_not_take_keeps_nothing_from_coming_back() {
    let server = Server::primary(1).await;
    let mut flags = server.engine.flags().await.unwrap();
    flags.variables = [
        ("NO_SUCH", "1"),
        ("MAX_CONNECTIONS", "many"),
        ("EVENT_SCHEDULER", "ON"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    server.engine.restore_flags(&flags).await.unwrap();
    assert_eq!(server.sql("SELECT @@global.event_scheduler"), "ON");
}

#[tokio::test]
async fn closing_lets_no_open_transaction_commit_and_waits_for_statements_under_way() {
    let server = Server::primary(1).await;
    server.sql(
        "CREATE USER app@localhost; GRANT SELECT, INSERT ON shop.* TO app@localhost; \
         CREATE TABLE shop.slow (a INT PRIMARY KEY)",
    );
    let writer = |statements: &str| {
        Command::new("mariadb")
            .args(["--no-defaults", "-uapp", "--unbuffered"])
            .arg(format!("--socket={}", server.path("sock").display()))
            .arg(format!("--execute={statements}"))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let running = writer("INSERT INTO shop.slow SELECT 1 + SLEEP(1.5)");
    let open = writer("BEGIN; INSERT INTO shop.t VALUES (5); SELECT SLEEP(2.5); COMMIT");
    let sleeping = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%SLEEP(%' \
                    AND user = 'app'";
    for _ in 0..200 {
        if server.sql(sleeping) == "2" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let position = server.engine.close_for_writes().await.unwrap();
    assert_eq!(
        server.sql("SELECT COUNT(*) FROM shop.slow"),
        "1",
        "the statement ended first"
    );
    let running = running.wait_with_output().unwrap();
    assert!(running.status.success(), "{running:?}");
    let open = open.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&open.stderr);
    assert!(
        !open.status.success() && said.contains("read-only"),
        "{said}"
    );
    assert_eq!(server.engine.position().await.unwrap(), position);
    assert_eq!(server.sql("SELECT COUNT(*) FROM shop.t"), "0");
    server.engine.open_for_writes().await.unwrap();
    assert!(!server.engine.health().await.unwrap().read_only);
}

#[tokio::test]
async fn a_close_that_takes_too_long_is_an_error_and_takes_no_effect_later() {
    let server = Server::primary(1).await;
    let mut holder = Command::new("mariadb")
        .args(["--no-defaults", "-uroot"])
        .arg(format!("--socket={}", server.path("sock").display()))
        .arg("--execute=LOCK TABLES shop.t WRITE; SELECT SLEEP(60)")
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let sleeping = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE \
                    'SELECT SLEEP%'";
    for _ in 0..200 {
        if server.sql(sleeping) == "1" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let error = server.engine.close_for_writes().await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!server.engine.health().await.unwrap().read_only);
}
