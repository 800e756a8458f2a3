use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use age::x25519;
use jiff::Timestamp;
use seawall_common::Error;
use secrecy::ExposeSecret as _;

use crate::{
    exit::{Failure, Outcome},
    output::{Output, json},
};

/// Makes a key pair for an encrypted repository: writes the identity (secret), prints the recipient
#[derive(Debug, clap::Args)]
pub struct GenerateIdentity {
    /// Must not exist yet; readable by its owner alone
    #[arg(long, value_name = "FILE", default_value = "seawall.identity")]
    output_file: PathBuf,
}

impl GenerateIdentity {
    pub fn run(self, output: Output) -> Outcome {
        let identity = x25519::Identity::generate();
        let recipient = identity.to_public().to_string();
        write(&self.output_file, &identity, &recipient)
            .map_err(|error| Failure::failed(error).of("GenerateIdentity"))?;
        let value = json::Identity {
            identity_file: self.output_file.display().to_string(),
            recipient: recipient.clone(),
        };
        output.print(&value, || recipient.clone(), || recipient.clone())
    }
}

/// In age's own format, so that `age -d -i FILE` reads it too.
fn write(file: &Path, identity: &x25519::Identity, recipient: &str) -> Result<(), Error> {
    let secret = identity.to_string();
    let created = Timestamp::now();
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    let mut out = opened.map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::conflict(format!("{} exists already", file.display())).hint(
                "An identity is never overwritten: what was encrypted for it would be lost. \
                 Choose another --output-file.",
            )
        }
        _ => Error::io("create", file, &e),
    })?;
    writeln!(out, "# created: {created:.0}\n# public key: {recipient}")
        .and_then(|()| writeln!(out, "{}", secret.expose_secret()))
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
        let identity = x25519::Identity::generate();
        write(&file, &identity, &identity.to_public().to_string()).unwrap();
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let text = std::fs::read_to_string(&file).unwrap();
        let secret = text.lines().last().unwrap();
        let read: x25519::Identity = secret.parse().unwrap();
        assert_eq!(
            read.to_public().to_string(),
            identity.to_public().to_string()
        );

        let other = x25519::Identity::generate();
        assert!(write(&file, &other, "x").is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
}
