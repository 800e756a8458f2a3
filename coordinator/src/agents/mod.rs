//! What the leader knows of the agents without asking the log, and how it calls them.

pub mod client;
pub mod filter;
pub mod heartbeats;
pub mod serving;
