use indicatif::{ProgressBar, ProgressStyle};
use seawall_common::{Error, repository::AddedRecipient};

use super::repository::options::{self, RepositoryOptions};
use crate::{
    exit::{Failure, Outcome},
    output::{Output, json},
};

/// Lets another key open all backups that there are: writes its small key files, touches no data
#[derive(Debug, clap::Args)]
pub struct AddRecipient {
    /// Public key: age1..., "ssh-ed25519 ..." or "ssh-rsa ..."
    #[arg(value_name = "RECIPIENT")]
    recipient: String,
    #[command(flatten)]
    repository: RepositoryOptions,
}

impl AddRecipient {
    pub async fn run(self, output: Output) -> Outcome {
        let added = self.add().await;
        let Some(added) = added.map_err(|failure| failure.of("AddRecipient"))? else {
            return Ok(());
        };
        output.print(
            &json::AddedRecipient::from(&added),
            || added.fingerprint.clone(),
            || described(&added),
        )?;
        match added.failure() {
            None => Ok(()),
            Some(error) => Err(Failure::failed(error).of("AddRecipient")),
        }
    }

    /// `None`: the settings were to be printed only.
    async fn add(&self) -> Outcome<Option<AddedRecipient>> {
        seawall_common::repository::check_recipient(&self.recipient).map_err(Failure::usage)?;
        let Some(config) = self.repository.config()? else {
            return Ok(None);
        };
        if !config.has_identity() {
            return Err(Failure::usage(
                Error::invalid("no identity is given that opens the backups that there are").hint(
                    "Give --repository-identity-file FILE, or --repository-identity NAME of one in the repository.",
                ),
            ));
        }
        let repository = options::open(&config).await?;
        let bar = ProgressBar::new(0).with_style(
            ProgressStyle::with_template("sessions {bar:30} {pos}/{len}")
                .unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        let added = repository
            .add_recipient(&self.recipient, |done, total| {
                bar.set_length(total);
                bar.set_position(done);
            })
            .await;
        bar.finish_and_clear();
        added.map(Some).map_err(Failure::failed)
    }
}

fn described(added: &AddedRecipient) -> String {
    let mut lines = vec![format!(
        "{}: key files written: {}, there before: {}",
        added.fingerprint, added.added, added.present
    )];
    for (shard, backup, error) in &added.failed {
        lines.push(format!(
            "{shard} {backup} stays closed: {}",
            error.message()
        ));
    }
    lines.push(
        "For new backups, put it into repository.recipients of every agent and restart them."
            .into(),
    );
    lines.join("\n")
}
