//! Whole-system tests: the real programs beside real MariaDB servers.
//!
//! One file for each family of promises; the harness is `seawall_tests::harness`. The programs must
//! have been built with all features (`make test` does it). `SEAWALL_SOAK=1` (`make soak`) makes
//! the tests that kill things do so at every point there is instead of once a step.

mod backup;
mod border;
mod clouds;
mod coordinators;
mod damaged_page;
mod directories;
mod disk_full;
mod fencing;
mod files;
mod identity;
mod incremental;
mod keys;
mod kill_agent;
mod kill_collector;
mod kill_coordinator;
mod metrics;
mod races;
mod refusals;
mod restore;
mod restore_cut_off;
mod restore_damaged;
mod restore_delta;
mod retention;
mod schedules;
mod scratch_server;
mod serving;
mod store_access;
mod store_faults;
mod throttle;
mod timestamps;
mod tls;
mod verify;
mod wrong_input;

/// Whether this is the long run.
fn is_soak() -> bool {
    std::env::var_os("SEAWALL_SOAK").is_some()
}
