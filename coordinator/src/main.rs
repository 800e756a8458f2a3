//! placeholder
mod raft;
mod state;

fn main() {}
