//! Pause points: places in a program where a test can hold, fail or kill it.
//!
//! They are there only in builds with the feature `fault-injection`, which `make test` makes.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{http, wait::wait_until};

/// The pause points of one running program, reached over its HTTP port.
#[derive(Clone, Debug)]
pub struct Faults {
    base: String,
}

impl Faults {
    /// `http_url`: `http://127.0.0.1:7612`.
    pub fn at(http_url: &str) -> Self {
        Self {
            base: format!("{http_url}/faults"),
        }
    }

    pub async fn arm(&self, point: &str, action: &str) -> Result<()> {
        http::put(&format!("{}/{point}", self.base), action)
            .await
            .context("cannot arm a pause point: were the programs built with `make test`?")
    }

    pub async fn disarm(&self, point: &str) -> Result<()> {
        self.arm(point, "off").await
    }

    /// Armed points that have been reached.
    pub async fn reached(&self) -> Result<Vec<String>> {
        Ok(serde_json::from_str(&http::get(&self.base).await?)?)
    }

    pub async fn wait_reached(&self, point: &str, limit: Duration) -> Result<()> {
        wait_until(
            &format!("pause point {point} is reached"),
            limit,
            || async { Ok(self.reached().await?.iter().any(|name| name == point)) },
        )
        .await
    }
}
