//! The engine on real MariaDB servers, each in a directory of its own that is gone afterwards.

mod copies;
mod harness;
mod lifecycle;
mod mistakes;
pub mod pages;
mod replication;
mod scratch;
mod states;
