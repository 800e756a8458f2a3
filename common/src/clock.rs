//! Wall time, as milliseconds since the Unix epoch. Order never depends on it.
//!
//! With the feature `fault-injection` a process can be given a clock that is wrong: the point
//! `clock` armed with `behind-<milliseconds>`; and a simulation sets another source of it.

use std::time::{SystemTime, UNIX_EPOCH};

pub fn now_unix_ms() -> u64 {
    #[cfg(feature = "fault-injection")]
    if let Some(source) = SOURCE.get() {
        return source();
    }
    let now_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        });
    now_ms.saturating_sub(behind_ms())
}

/// `2026-11-25T21:08:13Z`; `None`: no time that there is.
pub fn written(unix_ms: u64) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(unix_ms).ok()?).ok()?;
    Some(at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

#[cfg(feature = "fault-injection")]
static SOURCE: std::sync::OnceLock<fn() -> u64> = std::sync::OnceLock::new();

/// The whole process takes the time from there, from now on.
#[cfg(feature = "fault-injection")]
pub fn set_source(source: fn() -> u64) {
    // A second one is ignored: a simulation sets it once, at its beginning.
    let _ = SOURCE.set(source);
}

#[cfg(not(feature = "fault-injection"))]
fn behind_ms() -> u64 {
    0
}

#[cfg(feature = "fault-injection")]
fn behind_ms() -> u64 {
    let armed = crate::fault::standing_action("clock");
    let behind = armed.and_then(|action| action.strip_prefix("behind-")?.parse().ok());
    behind.unwrap_or(0)
}
