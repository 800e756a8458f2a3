//! Pause points: named places where a test can hold, fail or kill a process.
//!
//! In a release build [`reach`] is nothing. With the feature `fault-injection` a test arms a
//! point before the start (`SEAWALL_FAULTS="agent.copy.middle=pause;repository.put=fail-once"`) or
//! while the process runs (`PUT /faults/<name>` with the action as the body, on the HTTP port),
//! and sees in `GET /faults` which points have been reached.
//!
//! Actions: `pause` (until the point is armed with `off`), `fail` (every time), `fail-once`
//! (the first time), `off`. Names of points: `<program>.<step>.<begin|middle|end>`.

#[cfg(feature = "fault-injection")]
mod armed {
    use std::{
        collections::{BTreeMap, BTreeSet},
        sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    };

    use axum::{Json, Router, extract::Path, routing};
    use tokio::sync::Notify;

    use crate::error::{Error, Result};

    #[derive(Default)]
    struct Points {
        actions: BTreeMap<String, String>,
        reached: BTreeSet<String>,
    }

    static CHANGED: LazyLock<Notify> = LazyLock::new(Notify::new);
    static POINTS: LazyLock<Mutex<Points>> = LazyLock::new(|| {
        let mut points = Points::default();
        for pair in std::env::var("SEAWALL_FAULTS")
            .unwrap_or_default()
            .split(';')
        {
            if let Some((name, action)) = pair.split_once('=') {
                points
                    .actions
                    .insert(name.trim().to_owned(), action.trim().to_owned());
            }
        }
        Mutex::new(points)
    });

    fn points() -> MutexGuard<'static, Points> {
        POINTS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn arm(name: &str, action: &str) {
        points().actions.insert(name.to_owned(), action.to_owned());
        CHANGED.notify_waiters();
    }

    /// The action armed at `name`, using it up when it is meant for once.
    pub fn action(name: &str) -> Option<String> {
        let mut points = points();
        let action = points.actions.get(name).cloned()?;
        points.reached.insert(name.to_owned());
        if action.ends_with("-once") {
            points.actions.remove(name);
        }
        (action != "off").then_some(action)
    }

    /// The action armed at `name`, left in place: the caller itself counts what "once" means.
    pub fn standing_action(name: &str) -> Option<String> {
        let mut points = points();
        let action = points.actions.get(name).cloned()?;
        points.reached.insert(name.to_owned());
        (action != "off").then_some(action)
    }

    pub async fn reach(name: &str) -> Result<()> {
        loop {
            let changed = CHANGED.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match action(name).as_deref() {
                None => return Ok(()),
                Some("pause") => changed.await,
                Some(_) => return Err(Error::internal(format!("injected fault at {name}"))),
            }
        }
    }

    async fn put(Path(name): Path<String>, body: String) {
        arm(&name, body.trim());
    }

    async fn get() -> Json<Vec<String>> {
        Json(points().reached.iter().cloned().collect())
    }

    pub fn routes() -> Router {
        Router::new()
            .route("/faults", routing::get(get))
            .route("/faults/{name}", routing::put(put))
    }
}

#[cfg(feature = "fault-injection")]
pub use armed::{action, arm, reach, routes, standing_action};

/// Holds or fails here when a test has armed the point; otherwise nothing.
#[cfg(not(feature = "fault-injection"))]
#[allow(clippy::unused_async)]
#[inline]
pub async fn reach(_name: &str) -> crate::error::Result<()> {
    Ok(())
}
