//! From a manifest back to directories of files.

use std::{collections::BTreeMap, path::PathBuf};

use tokio_util::sync::CancellationToken;

use super::{header::Repository, manifest::Manifest, progress::Progress};
use crate::error::{Error, Result};

/// Writes the files of a backup into `targets` (a directory for each of its roots).
pub async fn download(
    _repository: &Repository,
    _manifest: &Manifest,
    _targets: &BTreeMap<String, PathBuf>,
    _concurrency: usize,
    _progress: &Progress,
    _cancel: &CancellationToken,
) -> Result<()> {
    Err(Error::internal("restoring is not built yet"))
}
