//! Durations as people write them: `90s`, `2m`, `500ms`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error as _};

pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|e| {
        D::Error::custom(format!(
            "{text:?} is not a duration ({e}); write it like 90s or 2m"
        ))
    })
}
