//! Groups of real coordinator processes: made, killed, wiped, restarted.

mod harness;
mod membership;
mod starting;
mod timestamps;
