//! The keys that the settings name.

use super::{Identities, Prompt, Recipients, TrustedWriters, stored::read_stored};
use crate::{
    error::{Error, Result},
    repository::{config::RepositoryConfig, store::Store},
};

/// Everything of them but an identity in the repository is read before the store is: what is wrong
/// with them shows at once, also while there is no repository yet.
#[derive(Debug)]
pub(in super::super) struct Keys {
    pub recipients: Recipients,
    pub identities: Option<Identities>,
    pub trusted_writers: TrustedWriters,
}

impl Keys {
    pub async fn read(config: &RepositoryConfig, prompt: &dyn Prompt) -> Result<Self> {
        if config.identity_file.is_some() && config.identity.is_some() {
            return Err(Error::invalid(
                "repository.identity_file and repository.identity are both set",
            )
            .hint("Set one of them: the file, or the name of the identity in the repository."));
        }
        Ok(Self {
            recipients: Recipients::parse(&config.recipients)?,
            identities: match &config.identity_file {
                Some(path) => Some(Identities::read(path, config, prompt).await?),
                None => None,
            },
            trusted_writers: TrustedWriters::parse(&config.trusted_writers)?,
        })
    }

    /// Opens the identity that lies in the repository, when the settings name one.
    pub async fn find(
        &mut self,
        store: &Store,
        config: &RepositoryConfig,
        prompt: &dyn Prompt,
    ) -> Result<()> {
        if let Some(name) = &config.identity {
            self.identities = Some(read_stored(store, name, config, prompt).await?);
        }
        Ok(())
    }
}
