//! A writer that remembers what was acknowledged, so that a test can prove that none of it is lost.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use mysql_async::{Conn, OptsBuilder, prelude::*};
use tokio::task::JoinHandle;

use super::{
    mariadb::Server,
    wait::{PATIENCE, wait_until},
};

/// Whom it comes as: an ordinary application. Administrators may write to a read-only server.
const USER: &str = "app";

/// The table it writes to.
pub const TABLE: &str = "shop.orders";

/// Between two transactions: a light load.
const PACE: Duration = Duration::from_millis(10);

/// Every tenth transaction changes an older row; the others add one.
const UPDATE_EVERY: u64 = 10;

/// Row id and the version of it that was acknowledged last.
pub type Acknowledged = BTreeMap<u64, u64>;

pub struct Load {
    target: Arc<Mutex<PathBuf>>,
    acknowledged: Arc<Mutex<Acknowledged>>,
    failures: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Load {
    /// Makes the table on `primary` and begins to write.
    pub async fn start(primary: &Server) -> Result<Self> {
        let (database, _) = TABLE.split_once('.').context("a table of a database")?;
        primary
            .execute(&[
                &format!("CREATE DATABASE IF NOT EXISTS {database}"),
                &format!(
                    "CREATE TABLE IF NOT EXISTS {TABLE} (id BIGINT UNSIGNED PRIMARY KEY, \
                     version BIGINT UNSIGNED NOT NULL, note VARCHAR(200) NOT NULL)"
                ),
                &format!("CREATE USER IF NOT EXISTS {USER}@localhost"),
                &format!("GRANT SELECT, INSERT, UPDATE ON {database}.* TO {USER}@localhost"),
            ])
            .await?;
        let target = Arc::new(Mutex::new(primary.socket.clone()));
        let acknowledged = Arc::new(Mutex::new(Acknowledged::new()));
        let failures = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn({
            let (target, acknowledged) = (target.clone(), acknowledged.clone());
            let (failures, stop) = (failures.clone(), stop.clone());
            async move {
                let mut next = 0;
                while !stop.load(Ordering::Relaxed) {
                    if write(&target, &acknowledged, &stop, &mut next)
                        .await
                        .is_err()
                    {
                        failures.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
        Ok(Self {
            target,
            acknowledged,
            failures,
            stop,
            task,
        })
    }

    /// From now on to this server, as after a promotion.
    pub fn move_to(&self, primary: &Server) {
        *lock(&self.target) = primary.socket.clone();
    }

    pub fn rows(&self) -> usize {
        lock(&self.acknowledged).len()
    }

    /// How often a transaction or a connection failed.
    pub fn failures(&self) -> usize {
        self.failures.load(Ordering::Relaxed)
    }

    /// Waits until `count` more rows have been acknowledged: the primary takes writes.
    pub async fn wait_progress(&self, count: usize) -> Result<()> {
        let goal = self.rows() + count;
        wait_until("writes are acknowledged", PATIENCE, || async {
            Ok(self.rows() >= goal)
        })
        .await
    }

    pub async fn stop(self) -> Result<Acknowledged> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?;
        let acknowledged = lock(&self.acknowledged).clone();
        Ok(acknowledged)
    }
}

/// Checks that `server` has every acknowledged row, in no older version.
pub async fn check_nothing_is_lost(server: &Server, acknowledged: &Acknowledged) -> Result<()> {
    let rows: Vec<(u64, u64)> = server
        .query(&format!("SELECT id, version FROM {TABLE}"))
        .await?;
    let rows: BTreeMap<u64, u64> = rows.into_iter().collect();
    for (id, version) in acknowledged {
        let found = rows.get(id);
        ensure!(
            found.is_some_and(|found| found >= version),
            "row {id} was acknowledged in version {version}; found: {found:?}"
        );
    }
    Ok(())
}

async fn write(
    target: &Mutex<PathBuf>,
    acknowledged: &Mutex<Acknowledged>,
    stop: &AtomicBool,
    next: &mut u64,
) -> Result<()> {
    let socket = lock(target).clone();
    let options = OptsBuilder::default()
        .socket(Some(socket.display().to_string()))
        .user(Some(USER))
        .max_allowed_packet(Some(16 << 20))
        .wait_timeout(Some(600));
    let mut connection = tokio::time::timeout(Duration::from_secs(2), Conn::new(options)).await??;
    while !stop.load(Ordering::Relaxed) && *lock(target) == socket {
        // Counted before it is sent: what failed without an answer is never sent again.
        let number = *next;
        *next += 1;
        let (id, version) = if number % UPDATE_EVERY == UPDATE_EVERY - 1 {
            (number / 2 / UPDATE_EVERY * UPDATE_EVERY, number)
        } else {
            (number, 0)
        };
        let note = format!("order {number} {}", "x".repeat((number % 150) as usize));
        let statement = format!(
            "INSERT INTO {TABLE} VALUES ({id}, {version}, '{note}') \
             ON DUPLICATE KEY UPDATE version = VALUES(version), note = VALUES(note)"
        );
        tokio::time::timeout(Duration::from_secs(10), connection.query_drop(statement)).await??;
        lock(acknowledged).insert(id, version);
        tokio::time::sleep(PACE).await;
    }
    connection.disconnect().await?;
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
