//! A restored directory, and the operator's own command that looks at it. Nothing is started on it:
//! the start command knows one directory only.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use seawall_common::{ErrorKind, Result};

use crate::engine::{
    Checked, Say, ScratchGround, ScratchServer, end_all_in, process, scratch::MARK,
};

/// The operation has a deadline of its own.
const CHECK_LIMIT: Duration = Duration::from_secs(24 * 3600);

pub(super) struct FilesScratch {
    pub ground: ScratchGround,
    pub command: Option<(PathBuf, Vec<String>)>,
}

#[async_trait]
impl ScratchServer for FilesScratch {
    async fn check(&self, checked: &mut Checked, say: Say<'_>) -> Result<()> {
        let Some((program, arguments)) = &self.command else {
            "every byte is what was written; there is no check_command"
                .clone_into(&mut checked.summary);
            return Ok(());
        };
        say(format!("running {}", program.display()));
        let mut arguments = arguments.clone();
        arguments.push(self.ground.root("data")?.display().to_string());
        let mark = (MARK.to_owned(), self.ground.directory.display().to_string());
        match process::run_with(program, &arguments, &[mark], CHECK_LIMIT).await {
            Ok(_) => checked.summary = format!("{} is content", program.display()),
            Err(error) if error.kind() == ErrorKind::Refused => {
                checked.problem(error.message().to_owned());
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn stop(&self) -> Result<()> {
        end_all_in(&self.ground.directory).await
    }
}
