//! Bytes per second as people write them: `50MB`, `unlimited`.

use seawall_common::rate;
use serde::{Deserialize, Deserializer, de::Error as _};

pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    rate::parse(&text).map_err(D::Error::custom)
}
