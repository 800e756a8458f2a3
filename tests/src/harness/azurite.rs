//! Azurite, Azure's own emulator of Blob Storage, as `deploy/setup` installs it.

use std::process::Command;

use anyhow::Result;
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use toml::Value;

use super::{
    binary::{system_program, target_directory},
    http,
    objects::{Bucket, request},
    ports::Port,
    process::Process,
    scratch::Scratch,
    wait::{PATIENCE, wait_until},
};

/// The account that every copy of the emulator has, and its key, which is public.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

#[derive(Debug)]
pub struct Azurite {
    port: Port,
    _process: Process,
}

impl Azurite {
    /// `None`, said aloud: it is not installed.
    pub async fn start(scratch: &Scratch) -> Result<Option<Self>> {
        let program = target_directory()?.join("azurite/node_modules/.bin/azurite-blob");
        if !program.exists() || system_program("node").is_err() {
            eprintln!(
                "SKIPPED: {} is not installed (make setup), so nothing is tested on Azure",
                program.display()
            );
            return Ok(None);
        }
        let port = Port::reserve()?;
        let directory = scratch.path().join("azurite");
        std::fs::create_dir_all(&directory)?;
        let mut command = Command::new(program);
        command
            .args(["--silent", "--skipApiVersionCheck", "--disableTelemetry"])
            .args(["--blobHost", "127.0.0.1", "--blobPort"])
            .arg(port.number().to_string())
            .arg("--location")
            .arg(directory.join("data"));
        let process = Process::start("azurite", &mut command, &directory.join("azurite.log"))?;
        wait_until("azurite answers", PATIENCE, || async {
            Ok(http::status(&port.url()).await? < 600)
        })
        .await?;
        Ok(Some(Self {
            port,
            _process: process,
        }))
    }

    /// A container that exists from here on.
    pub async fn container(&self, name: &str) -> Result<Bucket> {
        let url = format!("{}/{ACCOUNT}/{name}?restype=container", self.port.url());
        let mut signed = request(http::Method::PUT, &url)?;
        let credential = AzureCredential::AccessKey(AzureAccessKey::try_new(KEY)?);
        AzureAuthorizer::new(&credential, ACCOUNT).try_authorize(&mut signed)?;
        http::send(signed, "").await?;
        Ok(self.named(name))
    }

    /// A container that may be there or not.
    pub fn named(&self, name: &str) -> Bucket {
        Bucket {
            url: format!("az://{name}/seawall"),
            settings: vec![(
                "repository.endpoint".to_owned(),
                Value::from(format!("{}/{ACCOUNT}", self.port.url())),
            )],
            environment: vec![
                ("AZURE_STORAGE_ACCOUNT_NAME".to_owned(), ACCOUNT.to_owned()),
                ("AZURE_STORAGE_ACCOUNT_KEY".to_owned(), KEY.to_owned()),
            ],
        }
    }
}
