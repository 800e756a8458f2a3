//! Certificates of an authority that only this test has, made as an operator makes them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};
use seawall_common::tls::{Dialer, Tls, TlsConfig};

use super::{binary::binary, config::Config, scratch::Scratch};

#[derive(Clone, Debug)]
pub struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    /// Makes the authority, and a certificate for each of these (`--member=1=127.0.0.1`).
    pub fn make(directory: &Path, args: &[String]) -> Result<Self> {
        let certificates = Self {
            directory: directory.to_owned(),
        };
        certificates.add(args)?;
        Ok(certificates)
    }

    /// For so many coordinators, an operator and a viewer called `test`.
    pub fn of_cluster(scratch: &Scratch, coordinators: u64) -> Result<Self> {
        let members = (1..=coordinators).map(|id| format!("--member={id}=127.0.0.1"));
        let others = ["--operator=test", "--viewer=test"].map(str::to_owned);
        let all: Vec<String> = members.chain(others).collect();
        Self::make(&scratch.path().join("certificates"), &all)
    }

    /// `CreateCertificates` with these arguments.
    pub fn add<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Result<()> {
        let output = Command::new(binary("seawallctl")?)
            .arg("CreateCertificates")
            .arg("--directory")
            .arg(&self.directory)
            .args(args)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "CreateCertificates: {said}");
        Ok(())
    }

    /// Of whoever it is, by role and name: `operator-alice`.
    pub fn of(&self, who: &str) -> TlsConfig {
        let file = |name: String| Some(self.directory.join(name));
        TlsConfig {
            cert_file: file(format!("{who}.crt")),
            key_file: file(format!("{who}.key")),
            ca_file: file("ca.crt".to_owned()),
            http_client_auth: false,
        }
    }

    pub fn dialer(&self, who: &str) -> Result<Dialer> {
        Ok(Dialer::new(Tls::load(self.of(who))?))
    }

    /// As a program's settings.
    pub fn configure(&self, who: &str, config: &mut Config) {
        for (key, file) in settings(&self.of(who)) {
            config.set(&key, file);
        }
    }

    /// As a program's environment.
    pub fn environment(&self, who: &str) -> Vec<(String, String)> {
        environment(&self.of(who))
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

fn settings(files: &TlsConfig) -> Vec<(String, String)> {
    let all = [
        ("cert_file", &files.cert_file),
        ("key_file", &files.key_file),
        ("ca_file", &files.ca_file),
    ];
    let set = all.into_iter().filter_map(|(key, file)| {
        let file = file.as_ref()?.display().to_string();
        Some((format!("tls.{key}"), file))
    });
    set.collect()
}

/// `SEAWALL_TLS_CERT_FILE` and its like.
pub fn environment(files: &TlsConfig) -> Vec<(String, String)> {
    let variable = |key: String| format!("SEAWALL_{}", key.replace('.', "_").to_uppercase());
    let all = settings(files).into_iter();
    all.map(|(key, file)| (variable(key), file)).collect()
}
