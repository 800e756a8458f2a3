//! Groups of real coordinator processes: made, killed, wiped, restarted.

mod changes;
mod harness;
mod membership;
mod restoring;
mod sessions;
mod starting;
mod timestamps;
