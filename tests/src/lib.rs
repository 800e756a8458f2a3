//! What the whole-system tests, the quickstart and the benchmark stand on.
//!
//! Nothing here knows how Seawall is built inside: it starts the real programs as child processes
//! beside real MariaDB servers, speaks to them as their users do (command line, HTTP, gRPC, SQL),
//! and takes all of it down again. What clients of a coordinator group are answered is proved right
//! by `proof`, of real groups and of simulated ones.

pub mod harness;
#[cfg(feature = "fault-injection")]
pub mod proof;
