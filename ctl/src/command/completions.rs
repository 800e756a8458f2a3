use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{cli::Cli, exit::Outcome, output::to_stdout};

/// Prints the completions for a shell
#[derive(Debug, clap::Args)]
pub struct Completions {
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub fn run(self) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "seawallctl", &mut script);
        to_stdout(&String::from_utf8_lossy(&script))
    }
}
