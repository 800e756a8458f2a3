use seawall_common::repository::{RecipientUse, RecipientUses};

use super::{
    lines,
    repository::options::{self, RepositoryOptions},
};
use crate::{
    exit::{Failure, Outcome},
    output::{Output, human::dash, json, table},
};

/// Lists the keys that open a repository's backups, and how many sessions each opens
#[derive(Debug, clap::Args)]
pub struct ListRecipients {
    #[command(flatten)]
    repository: RepositoryOptions,
}

impl ListRecipients {
    pub async fn run(self, output: Output) -> Outcome {
        let Some(config) = self.repository.config()? else {
            return Ok(());
        };
        let repository = options::open(&config).await?;
        let uses = repository
            .recipient_uses()
            .await
            .map_err(|error| Failure::failed(error).of("ListRecipients"))?;
        output.print(
            &json::Recipients::from(&uses),
            || lines(uses.recipients.iter().map(|one| one.fingerprint.as_str())),
            || described(&uses),
        )
    }
}

fn described(uses: &RecipientUses) -> String {
    let of = uses.sessions;
    let row = |one: &RecipientUse| {
        vec![
            one.fingerprint.clone(),
            format!("{} of {of}", one.sessions),
            match one.identities.as_slice() {
                [] => dash(),
                names => names.join(","),
            },
            one.recipient.clone().unwrap_or_else(dash),
        ]
    };
    table::render(
        &["FINGERPRINT", "SESSIONS>", "IDENTITY", "RECIPIENT"],
        uses.recipients.iter().map(row),
    )
}
