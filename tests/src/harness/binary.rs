//! Where the programs under test lie.
//!
//! The Makefile builds them before anything here runs; nothing here calls cargo. They are looked
//! for beside the running program (`target/<profile>/`), or in `SEAWALL_BIN_DIR`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// The path of one of our programs.
pub fn binary(name: &str) -> Result<PathBuf> {
    let path = match std::env::var_os("SEAWALL_BIN_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => profile_directory()?,
    }
    .join(name);
    if !path.is_file() {
        bail!(
            "{} is not there: build the programs first (`make build`)",
            path.display()
        );
    }
    Ok(path)
}

/// `target/<profile>`: tests lie in its `deps`, programs in itself.
pub fn profile_directory() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("cannot find out where this program lies")?;
    let directory = exe.parent().context("a program without a directory")?;
    Ok(match directory.file_name() {
        Some(name) if name == "deps" => directory.parent().unwrap_or(directory).to_owned(),
        _ => directory.to_owned(),
    })
}

/// `target`, under which all that tests write goes (`target/tmp`).
pub fn target_directory() -> Result<PathBuf> {
    let profile = profile_directory()?;
    Ok(profile.parent().unwrap_or(&profile).to_owned())
}

/// Finds a program of the machine; server programs often lie outside a user's `PATH`.
pub fn system_program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/usr/local/bin"].map(PathBuf::from))
        .map(|directory: PathBuf| directory.join(name))
        .find(|candidate: &PathBuf| Path::is_file(candidate))
        .with_context(|| format!("{name} is not installed: `make setup` installs what is missing"))
}

/// A program of the machine, or one that `deploy/setup` has unpacked from a package into `target`, so
/// that no service of the package is there. `None`, said aloud: there is none.
pub fn unpacked_program(package: &str, name: &str) -> Result<Option<PathBuf>> {
    if let Ok(program) = system_program(name) {
        return Ok(Some(program));
    }
    let unpacked = target_directory()?.join(package).join("usr/bin").join(name);
    if unpacked.is_file() {
        return Ok(Some(unpacked));
    }
    eprintln!(
        "SKIPPED: {name} of the package {package} is not here (make setup-tests, or deploy/setup bench)"
    );
    Ok(None)
}
