//! `seawallctl` as an operator meets it: the program is run against coordinators that the tests
//! play themselves.

mod dry_runs;
mod exits;
mod fake;
mod keys;
mod printing;
mod repository;
mod requests;
mod retention;
mod schedules;
mod transfers;
mod waiting;
mod watching;
