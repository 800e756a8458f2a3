//! What the coordinator, the agent and `seawallctl` have in common: names, positions, errors,
//! settings, and the repository. Depends on neither of them.

pub mod access;
pub mod alike;
pub mod clock;
pub mod config;
pub mod coordinators;
pub mod error;
pub mod exposed;
pub mod fault;
pub mod ids;
pub mod position;
pub mod rate;
pub mod repository;
pub mod serving;
pub mod tablets;
pub mod telemetry;
pub mod timestamps;
pub mod tls;
pub mod version;

pub use error::{Error, ErrorKind, Result};
