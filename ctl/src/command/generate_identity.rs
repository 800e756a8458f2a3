use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use seawall_common::{
    Error,
    repository::{
        GeneratedIdentity, Passphrase, RepositoryConfig, check_identity_name,
        configured_passphrase, generate_identity, lock_identity,
    },
};

use super::repository::options::{self, RepositoryOptions};
use crate::{
    exit::{Failure, Outcome},
    output::{Output, json},
    terminal,
};

/// Makes a key pair for an encrypted repository: writes the identity (secret), prints the recipient
///
/// A passphrase is asked for twice, or comes from --repository-passphrase-file,
/// --repository-passphrase-fd or SEAWALL_PASSPHRASE. It is never an argument.
#[derive(Debug, clap::Args)]
pub struct GenerateIdentity {
    /// Must not exist yet; readable by its owner alone
    #[arg(long, value_name = "FILE", default_value = "seawall.identity")]
    output_file: PathBuf,
    /// Lock the file with a passphrase
    #[arg(long)]
    passphrase: bool,
    /// Put the identity under this name into the repository, locked with a passphrase, and write no file
    #[arg(long, value_name = "NAME", conflicts_with = "output_file")]
    name: Option<String>,
    #[command(flatten)]
    repository: RepositoryOptions,
}

impl GenerateIdentity {
    pub async fn run(self, output: Output) -> Outcome {
        let Some(config) = self.repository.config()? else {
            return Ok(());
        };
        let made = match &self.name {
            Some(name) => put(name, &config).await,
            None => self.write(&config).await,
        };
        let value = made.map_err(|failure| failure.of("GenerateIdentity"))?;
        let recipient = value.recipient.clone();
        output.print(&value, || recipient.clone(), || recipient.clone())
    }

    async fn write(&self, config: &RepositoryConfig) -> Outcome<json::Identity> {
        let file = &self.output_file;
        // Before anybody is asked for anything.
        if file.exists() {
            return Err(Failure::failed(taken(file)));
        }
        let identity = generate_identity();
        if self.passphrase {
            let passphrase = passphrase(config).await?;
            let locked = lock_identity(&identity, &passphrase).await;
            write(file, &locked.map_err(Failure::failed)?)
        } else {
            write(file, identity.file.as_bytes())
        }
        .map_err(Failure::failed)?;
        Ok(json::Identity {
            identity_file: Some(file.display().to_string()),
            identity: None,
            recipient: identity.recipient,
        })
    }
}

async fn put(name: &str, config: &RepositoryConfig) -> Outcome<json::Identity> {
    check_identity_name(name).map_err(Failure::usage)?;
    let repository = options::open(config).await?;
    let identity: GeneratedIdentity = generate_identity();
    let passphrase = passphrase(config).await?;
    let stored = repository
        .put_identity(name, &identity, &passphrase)
        .await
        .map_err(Failure::failed)?;
    Ok(json::Identity {
        identity_file: None,
        identity: Some(stored.name),
        recipient: stored.recipient,
    })
}

async fn passphrase(config: &RepositoryConfig) -> Outcome<Passphrase> {
    let configured = configured_passphrase(config, &terminal::Terminal).await;
    match configured.map_err(Failure::usage)? {
        Some(passphrase) => Ok(passphrase),
        None => terminal::ask_twice().await.map_err(Failure::failed),
    }
}

fn taken(file: &Path) -> Error {
    Error::conflict(format!("{} exists already", file.display())).hint(
        "An identity is never overwritten: what was encrypted for it would be lost. \
         Choose another --output-file.",
    )
}

/// In age's own format, so that `age -d -i FILE` reads it too.
fn write(file: &Path, content: &[u8]) -> Result<(), Error> {
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    let mut out = opened.map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => taken(file),
        _ => Error::io("create", file, &e),
    })?;
    out.write_all(content)
        .and_then(|()| out.sync_all())
        .map_err(|e| Error::io("write", file, &e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn an_identity_is_its_owners_alone_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("identity");
        let identity = generate_identity();
        write(&file, identity.file.as_bytes()).unwrap();
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(write(&file, b"other").is_err());
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, *identity.file);
    }
}
