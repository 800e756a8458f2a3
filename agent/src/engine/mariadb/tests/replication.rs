//! Following a primary, changing it, and coming back as a replica.

use std::time::Duration;

use super::harness::{REPLICATION_PASSWORD, Server};
use crate::engine::Engine;

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_replica_follows_its_primary_and_pointing_it_again_changes_nothing() {
    let primary = Server::primary(1).await;
    let replica = Server::replica(2, &primary).await;
    primary.sql("INSERT INTO shop.t VALUES (1), (2)");
    replica.catch_up(&primary).await;
    assert_eq!(replica.sql("SELECT COUNT(*) FROM shop.t"), "2");
    let health = replica.engine.health().await.unwrap();
    let replication = &health.replication;
    assert!(replication.configured && replication.running && replication.wanted);
    assert_eq!(replication.source, Some(primary.address()));
    assert!(replication.lag.is_some() && replication.error.is_none());
    assert_eq!(health.position, primary.engine.position().await.unwrap());

    let connections = || primary.sql("SHOW GLOBAL STATUS LIKE 'Com_register_slave'");
    let before = connections();
    replica
        .engine
        .replicate_from(&primary.address(), true)
        .await
        .unwrap();
    assert_eq!(connections(), before);

    replica.engine.stop_replication().await.unwrap();
    replica
        .engine
        .replicate_from(&primary.address(), false)
        .await
        .unwrap();
    let replication = replica.engine.health().await.unwrap().replication;
    assert!(replication.configured && !replication.running && !replication.wanted);
    replica
        .engine
        .replicate_from(&primary.address(), true)
        .await
        .unwrap();
    replica
        .engine
        .replicate_from(&primary.address(), false)
        .await
        .unwrap();
    assert!(!replica.engine.health().await.unwrap().replication.wanted);
}

#[tokio::test]
async fn a_demoted_primary_rejoins_behind_its_successor() {
    let a = Server::primary(1).await;
    let b = Server::replica(2, &a).await;
    let c = Server::replica(3, &a).await;
    a.sql("INSERT INTO shop.t VALUES (1)");
    // Twice round: in the second reign gtid_slave_pos of the old primary is stale.
    for (old, new, key) in [(&a, &b, 10), (&b, &a, 20), (&a, &b, 30)] {
        let last = old.engine.close_for_writes().await.unwrap();
        assert!(new.engine.wait_for(&last, LIMIT).await.unwrap());
        new.engine.open_for_writes().await.unwrap();
        new.engine.ensure_replication_user().await.unwrap();
        assert!(!new.engine.health().await.unwrap().replication.configured);
        new.sql(&format!("INSERT INTO shop.t VALUES ({key})"));
        for replica in [old, &c] {
            replica.follow(new).await;
            new.sql(&format!(
                "INSERT INTO shop.t VALUES ({key} + {})",
                replica.port
            ));
            replica.catch_up(new).await;
        }
    }
    let rows = b.sql("SELECT COUNT(*) FROM shop.t");
    assert_eq!(rows, "10");
    assert_eq!(a.sql("SELECT COUNT(*) FROM shop.t"), rows);
    c.catch_up(&b).await;
    assert_eq!(
        c.sql("CHECKSUM TABLE shop.t"),
        b.sql("CHECKSUM TABLE shop.t")
    );
    for server in [&a, &c] {
        let health = server.engine.health().await.unwrap();
        assert!(health.read_only && health.replication.running, "{health:?}");
    }
}

#[tokio::test]
async fn waiting_ends_with_the_time_and_with_the_error_that_stopped_replication() {
    let primary = Server::primary(1).await;
    let replica = Server::replica(2, &primary).await;
    let position = primary.engine.position().await.unwrap();
    let far = "0-1-1000000".parse().unwrap();
    assert!(primary.engine.wait_for(&position, LIMIT).await.unwrap());
    let short = Duration::from_millis(300);
    assert!(!replica.engine.wait_for(&far, short).await.unwrap());
    // A row that is only here stops the applying side.
    replica.sql("SET sql_log_bin = 0; INSERT INTO shop.t VALUES (7)");
    primary.sql("INSERT INTO shop.t VALUES (7)");
    let goal = primary.engine.position().await.unwrap();
    let error = replica
        .engine
        .wait_for(&goal, LIMIT)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("Duplicate entry"), "{error}");
    let replication = replica.engine.health().await.unwrap().replication;
    assert!(replication.wanted && !replication.running);
    assert!(replication.error.unwrap().contains("Duplicate entry"));
}

#[tokio::test]
async fn i10_what_only_the_binary_log_has_of_a_primary_is_not_taken_for_applied() {
    let primary = Server::primary(1).await;
    let replica = Server::replica(2, &primary).await;
    let before = primary.engine.position().await.unwrap();
    primary.sql("INSERT INTO shop.t VALUES (1)");
    replica.catch_up(&primary).await;
    replica.engine.stop_replication().await.unwrap();
    // As after a crash in which the tables lost what the log kept.
    replica.sql("SET sql_log_bin = 0; DELETE FROM shop.t");
    replica.sql(&format!("SET GLOBAL gtid_slave_pos = '{before}'"));
    assert_eq!(replica.engine.position().await.unwrap(), before);
    replica
        .engine
        .replicate_from(&primary.address(), true)
        .await
        .unwrap();
    let goal = primary.engine.position().await.unwrap();
    let error = replica
        .engine
        .wait_for(&goal, LIMIT)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("out-of-order"), "{error}");
}

#[tokio::test]
async fn a_position_is_read_from_another_server_with_the_replication_user() {
    let primary = Server::primary(1).await;
    let replica = Server::replica(2, &primary).await;
    let read = replica
        .engine
        .position_of(&primary.address())
        .await
        .unwrap();
    assert_eq!(read, primary.engine.position().await.unwrap());
    std::fs::write(replica.path("repl.password"), "another").unwrap();
    let error = replica
        .engine
        .position_of(&primary.address())
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("\"repl\" was refused by database 127.0.0.1"),
        "{text}"
    );
    primary.engine.stop().await.unwrap();
    let error = replica
        .engine
        .position_of(&primary.address())
        .await
        .unwrap_err();
    assert!(error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_mended_replication_password_is_taken_up() {
    let primary = Server::primary(1).await;
    let replica = Server::new(2);
    replica.engine.start().await.unwrap();
    std::fs::write(replica.path("repl.password"), "another").unwrap();
    replica
        .engine
        .replicate_from(&primary.address(), true)
        .await
        .unwrap();
    let mut refused = false;
    for _ in 0..200 {
        let error = replica.engine.health().await.unwrap().replication.error;
        refused = error.is_some_and(|text| text.contains("Access denied"));
        if refused {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(refused);
    std::fs::write(replica.path("repl.password"), REPLICATION_PASSWORD).unwrap();
    replica.follow(&primary).await;
}

#[tokio::test]
async fn replication_state_that_cannot_be_read_is_forgotten() {
    let primary = Server::primary(1).await;
    let replica = Server::replica(2, &primary).await;
    replica.engine.stop().await.unwrap();
    for entry in std::fs::read_dir(replica.data_dir()).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("relay.")
        {
            std::fs::remove_file(path).unwrap();
        }
    }
    replica.engine.start().await.unwrap();
    primary.sql("INSERT INTO shop.t VALUES (3)");
    replica.follow(&primary).await;
    assert_eq!(replica.sql("SELECT COUNT(*) FROM shop.t"), "1");
}

#[tokio::test]
async fn the_replication_user_is_made_once_and_only_on_a_primary() {
    let primary = Server::primary(1).await;
    let position = primary.engine.position().await.unwrap();
    primary.engine.ensure_replication_user().await.unwrap();
    assert_eq!(primary.engine.position().await.unwrap(), position);
    primary.engine.close_for_writes().await.unwrap();
    assert!(primary.engine.ensure_replication_user().await.is_err());
    let own = primary.address();
    assert!(primary.engine.replicate_from(&own, true).await.is_err());
}
