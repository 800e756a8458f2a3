//! Who may call what, how often, and what is noted of it: one layer before the services of every
//! gRPC server.
//!
//! With mutual TLS the caller is who its certificate says; each call has a least role ([`METHODS`]),
//! and what a role may not do never reaches a service. A coordinator speaks for whoever called it: a
//! call that it passes on carries that caller's name and role, which are believed from a coordinator
//! alone. Without mutual TLS nobody is known but by an address, and everybody may do everything.
//!
//! Every call that changes something leaves one line under the target `audit`, on the member where
//! the client called; without mutual TLS, where nobody can prove to have passed a call on, another
//! one on the leader.

mod audit;
mod caller;
mod layer;
mod limits;
mod objects;
mod table;

pub use audit::unreadable;
pub use caller::{CALLER_KEY, Caller, FORWARDED_KEY};
pub use layer::{Access, AccessLayer};
pub use limits::{CallLimits, CallNumbers};
pub use table::{Lasts, Least, METHODS, Method, Record, method};

/// Largest request of a client. Members of the group send each other larger ones.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests;
