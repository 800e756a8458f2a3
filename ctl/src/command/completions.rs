use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use crate::{cli::Cli, exit::Outcome, output::to_stdout};

/// Prints the completions for a shell; they know both spellings of a command
#[derive(Debug, clap::Args)]
pub struct Completions {
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub fn run(self) -> Outcome {
        let mut script = Vec::new();
        let mut command = Cli::command().mut_subcommands(with_visible_aliases);
        clap_complete::generate(self.shell, &mut command, "seawallctl", &mut script);
        to_stdout(&String::from_utf8_lossy(&script))
    }
}

/// Only visible names are completed; in the help, the second spelling would only be noise.
fn with_visible_aliases(command: Command) -> Command {
    let aliases: Vec<String> = command.get_all_aliases().map(str::to_owned).collect();
    // None clears them: clap takes no name twice.
    command.alias(None::<&'static str>).visible_aliases(aliases)
}
