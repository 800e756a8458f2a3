use std::path::PathBuf;

use clap::CommandFactory as _;
use seawall_common::Error;

use crate::{
    cli::Cli,
    exit::{Failure, Outcome},
    output::to_stdout,
};

/// Prints the manual page, or writes one for each command
#[derive(Debug, clap::Args)]
pub struct Man {
    /// Directory to write all pages to
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

impl Man {
    pub fn run(self) -> Outcome {
        let Some(directory) = self.directory else {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut page)
                .map_err(|e| {
                    Failure::failed(Error::internal(format!("cannot write the page: {e}")))
                })?;
            return to_stdout(&String::from_utf8_lossy(&page));
        };
        clap_mangen::generate_to(Cli::command(), &directory)
            .map_err(|e| Failure::failed(Error::io("write pages to", &directory, &e)).of("man"))
    }
}
