use std::ffi::OsString;

use seawall_common::Error;

use crate::exit::{Failure, Outcome};

/// Says how a new coordinator group is made from a backup: by seawall-coordinator restore
///
/// It is made on the machine of its first member, and no coordinator is left that could be asked.
#[derive(Debug, clap::Args)]
pub struct RestoreCoordinator {
    /// Whatever is given, nothing is done
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _given: Vec<OsString>,
}

impl RestoreCoordinator {
    pub fn run(self) -> Outcome {
        let error = Error::refused(
            "seawallctl makes no group: that is done on the machine of its first member",
        )
        .hint("There: seawall-coordinator restore --config FILE --address HOST:PORT (docs/coordinators.md, All members are lost).");
        Err(Failure::failed(error).of("RestoreCoordinator"))
    }
}
