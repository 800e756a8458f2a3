//! Where a passphrase comes from: a file, a file descriptor, the environment, or a person who is
//! asked. Never from an argument: those are seen by everybody on the machine.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use age::secrecy::{ExposeSecret as _, SecretString};
use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::{
    error::{Error, Result},
    exposed,
    repository::config::RepositoryConfig,
};

/// Not for the programs that are started from here: they outlive this one.
pub const VARIABLE: &str = "SEAWALL_PASSPHRASE";
const BYTES_MAX: u64 = 4 << 10;

/// A passphrase that locks an identity; never printed.
#[derive(Clone)]
pub struct Passphrase(SecretString);

impl Passphrase {
    /// `whence` is named when there is nothing in it.
    pub fn new(text: &str, whence: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::invalid(format!("{whence} is empty")));
        }
        if text.len() as u64 > BYTES_MAX {
            return Err(Error::invalid(format!(
                "{whence} has more than {BYTES_MAX} bytes"
            )));
        }
        Ok(Self(SecretString::from(text)))
    }

    pub(super) fn secret(&self) -> SecretString {
        self.0.clone()
    }

    pub fn is_same(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// Speaks with a person: asks for a passphrase.
#[async_trait]
pub trait Prompt: Send + Sync {
    /// `what` it opens: "identity file /home/x/seawall.identity".
    async fn ask(&self, what: &str) -> Result<Passphrase>;

    /// Tells of something that is not as it should be, and does not stop the work.
    fn warn(&self, what: &str) {
        tracing::warn!("{what}");
    }
}

/// What daemons have: they say which setting is missing.
pub struct NobodyToAsk;

#[async_trait]
impl Prompt for NobodyToAsk {
    async fn ask(&self, what: &str) -> Result<Passphrase> {
        Err(Error::invalid(format!(
            "{what} is locked with a passphrase and none is configured"
        ))
        .hint(format!(
            "Set repository.passphrase_file or repository.passphrase_fd, or {VARIABLE} in the environment."
        )))
    }
}

/// The passphrase that the settings or the environment give; `None`: neither does.
pub async fn configured_passphrase(
    config: &RepositoryConfig,
    prompt: &dyn Prompt,
) -> Result<Option<Passphrase>> {
    configured_with(config, |name| std::env::var(name).ok(), prompt).await
}

pub(super) async fn configured_with(
    config: &RepositoryConfig,
    environment: impl Fn(&str) -> Option<String>,
    prompt: &dyn Prompt,
) -> Result<Option<Passphrase>> {
    match (config.passphrase_file.clone(), config.passphrase_fd) {
        (Some(_), Some(_)) => Err(Error::invalid(
            "repository.passphrase_file and repository.passphrase_fd are both set",
        )
        .hint("Set one of them.")),
        (Some(path), None) => {
            let (passphrase, warning) = on_thread(move || from_file(&path)).await?;
            if let Some(warning) = warning {
                prompt.warn(&warning);
            }
            Ok(Some(passphrase))
        }
        (None, Some(number)) => on_thread(move || from_descriptor(number)).await.map(Some),
        (None, None) => environment(VARIABLE)
            .map(Zeroizing::new)
            .map(|text| Passphrase::new(&text, VARIABLE))
            .transpose(),
    }
}

async fn on_thread<T: Send + 'static>(
    read: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(read)
        .await
        .map_err(|e| Error::internal(format!("the thread that reads a passphrase died: {e}")))?
}

/// And a warning, when others can read it.
fn from_file(path: &Path) -> Result<(Passphrase, Option<String>)> {
    let whence = format!("passphrase file {}", path.display());
    let file = File::open(path).map_err(|e| {
        Error::invalid(format!("cannot read {whence}: {e}"))
            .hint("Check repository.passphrase_file.")
    })?;
    Ok((first_line(file, &whence)?, exposed::warning(&whence, path)))
}

/// A pipe can be read once, and a repository may be opened more than once.
static DESCRIPTORS: Mutex<BTreeMap<u32, Passphrase>> = Mutex::new(BTreeMap::new());

/// Reads what `passphrase_fd` gives, if it is set, and closes it: so that no program that is started
/// from here inherits it. To be called before this process has opened anything by itself, for a
/// number that it got from nobody might by then be another file's.
pub fn take_passphrase_descriptor(config: &RepositoryConfig) -> Result<()> {
    let Some(number) = config.passphrase_fd else {
        return Ok(());
    };
    from_descriptor(number)?;
    match i32::try_from(number) {
        // Children get others in their place, and whatever was opened next would be taken for these.
        Err(_) | Ok(..=2) => Ok(()),
        Ok(number) => nix::unistd::close(number).map_err(|e| {
            Error::internal(format!(
                "cannot close file descriptor {number}, which the passphrase came from: {e}"
            ))
        }),
    }
}

fn from_descriptor(number: u32) -> Result<Passphrase> {
    let mut read = DESCRIPTORS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(passphrase) = read.get(&number) {
        return Ok(passphrase.clone());
    }
    let whence = format!("the passphrase from file descriptor {number}");
    let path = PathBuf::from(format!("/dev/fd/{number}"));
    let file = File::open(&path).map_err(|e| {
        Error::invalid(format!("cannot read {whence}: {e}")).hint(
            "repository.passphrase_fd is the number of a descriptor that is open for reading, as by 3< FILE in a shell.",
        )
    })?;
    let passphrase = first_line(file, &whence)?;
    read.insert(number, passphrase.clone());
    Ok(passphrase)
}

/// The first line counts, without its end.
fn first_line(file: File, whence: &str) -> Result<Passphrase> {
    let mut bytes = Zeroizing::new(Vec::new());
    BufReader::new(file.take(BYTES_MAX + 2))
        .read_until(b'\n', &mut bytes)
        .map_err(|e| Error::invalid(format!("cannot read {whence}: {e}")))?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Error::invalid(format!("{whence} is no text in UTF-8")))?;
    Passphrase::new(text.trim_end_matches(['\n', '\r']), whence)
}
