//! Addresses to listen on: `127.0.0.1:7611`.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, de::Error as _};

pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        D::Error::custom(format!(
            "{text:?} is not an address to listen on; write it like 127.0.0.1:7611"
        ))
    })
}
