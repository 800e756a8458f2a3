//! Credentials, region and endpoint of S3, as Amazon's own tools take them: by Amazon's library.

mod chain;
mod requests;

use std::{path::PathBuf, sync::Arc, time::Duration};

use aws_config::profile::ProfileSet;
use aws_runtime::env_config::{EnvConfigValue, file::EnvConfigFiles};
use aws_types::os_shim_internal::{Env, Fs};
use object_store::aws::AwsCredentialProvider;

use self::{chain::Chain, requests::Requests};
use super::{renewed::Renewed, tls::Authorities};
use crate::{
    error::{Error, Result, chain, one_line},
    repository::config::RepositoryConfig,
};

const REGION_DEFAULT: &str = "us-east-1";
const HINT: &str = "docs/storage.md says where credentials are looked for.";

/// What the environment and the profile say.
pub(super) struct Environment {
    env: Env,
    files: EnvConfigFiles,
    profiles: ProfileSet,
}

impl Environment {
    pub async fn load() -> Result<Self> {
        Self::load_from(Env::real(), Fs::real(), EnvConfigFiles::default()).await
    }

    async fn load_from(env: Env, fs: Fs, files: EnvConfigFiles) -> Result<Self> {
        let profiles = aws_config::profile::load(&fs, &env, &files, None)
            .await
            .map_err(|e| {
                Error::invalid(format!(
                    "cannot understand the profiles of AWS: {}",
                    one_line(&chain(&e))
                ))
                .hint(HINT)
            })?;
        let environment = Self {
            env,
            files,
            profiles,
        };
        environment.check_profile().await?;
        Ok(environment)
    }

    /// A profile that is asked for and is nowhere is an error; the library would go on without.
    async fn check_profile(&self) -> Result<()> {
        let Some(name) = self.var("AWS_PROFILE") else {
            return Ok(());
        };
        if self.profiles.get_profile(&name).is_some() {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "the profile {name:?} that AWS_PROFILE names is neither in {} nor in {}",
            self.credentials_file().await,
            self.config_file().await,
        ))
        .hint("Write the profile, or name another one."))
    }

    /// Blank counts as unset.
    fn var(&self, name: &str) -> Option<String> {
        let value = self.env.get(name).ok()?;
        Some(value).filter(|value| !value.trim().is_empty())
    }

    fn value(&self, variable: &str, in_profile: &str) -> Option<String> {
        EnvConfigValue::new()
            .env(variable)
            .profile(in_profile)
            .service_id("s3")
            .load(&self.env, Some(&self.profiles))
            .map(|(value, _)| value.into_owned())
            .filter(|value| !value.is_empty())
    }

    async fn credentials_file(&self) -> String {
        self.file("AWS_SHARED_CREDENTIALS_FILE", "credentials")
            .await
    }

    async fn config_file(&self) -> String {
        self.file("AWS_CONFIG_FILE", "config").await
    }

    /// One of the profiles' files, and why nothing can be read of it.
    async fn file(&self, variable: &str, name: &str) -> String {
        let file = match (self.var(variable), self.var("HOME")) {
            (Some(file), _) => file,
            (None, Some(home)) => format!("{home}/.aws/{name}"),
            (None, None) => return format!("~/.aws/{name} (HOME is not set)"),
        };
        match tokio::fs::File::open(&file).await {
            Ok(_) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => format!("{file} (not there)"),
            Err(e) => format!("{file} (cannot be read: {e})"),
        }
    }

    pub fn region(&self, config: &RepositoryConfig) -> String {
        config
            .region
            .clone()
            .or_else(|| self.var("AWS_REGION"))
            .or_else(|| self.var("AWS_DEFAULT_REGION"))
            .or_else(|| self.profiles.get("region").map(str::to_owned))
            .unwrap_or_else(|| REGION_DEFAULT.to_owned())
    }

    pub fn endpoint(&self) -> Option<String> {
        self.value("AWS_ENDPOINT_URL", "endpoint_url")
    }

    /// The authorities' certificates, and what names the file.
    pub fn ca_file(&self) -> Option<(PathBuf, &'static str)> {
        match self.var("AWS_CA_BUNDLE") {
            Some(file) => Some((file.into(), "AWS_CA_BUNDLE")),
            None => {
                let file = self.profiles.get("ca_bundle")?;
                Some((file.into(), "ca_bundle of the profile"))
            }
        }
    }

    /// Nothing is looked for before they are needed.
    pub fn credentials(
        self,
        region: String,
        authorities: &Authorities,
        request_timeout: Duration,
    ) -> Result<AwsCredentialProvider> {
        let chain = Chain {
            environment: self,
            requests: Requests::new(region, authorities)?,
        };
        Ok(Arc::new(Renewed::new(chain, request_timeout)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "[default]\nregion = eu-default\n\
                          [profile backup]\nregion = eu-backup\nendpoint_url = https://all.example\n\
                          ca_bundle = /etc/ca.pem\nservices = own\n\
                          [services own]\ns3 =\n  endpoint_url = https://s3.example\n";

    async fn environment(vars: &[(&str, &str)]) -> Result<Environment> {
        let mut all = vec![("HOME", "/nobody")];
        all.extend_from_slice(vars);
        let files = [("/nobody/.aws/config", CONFIG)];
        let (env, fs) = (Env::from_slice(&all), Fs::from_slice(&files));
        Environment::load_from(env, fs, EnvConfigFiles::default()).await
    }

    #[tokio::test]
    async fn the_region_is_the_settings_the_environments_or_the_profiles() {
        let none = RepositoryConfig::at("s3://b");
        let set = RepositoryConfig {
            region: Some("set".into()),
            ..none.clone()
        };
        let default = [("AWS_DEFAULT_REGION", "second"), ("AWS_REGION", "first")];
        for (vars, config, expected) in [
            (&[][..], &none, "eu-default"),
            (&[("AWS_PROFILE", "backup")], &none, "eu-backup"),
            (&default[..1], &none, "second"),
            (&default, &none, "first"),
            (&default, &set, "set"),
        ] {
            let environment = environment(vars).await.unwrap();
            assert_eq!(environment.region(config), expected, "{vars:?}");
        }
    }

    #[tokio::test]
    async fn endpoint_and_authorities_are_the_environments_or_the_profiles() {
        let plain = environment(&[]).await.unwrap();
        assert_eq!((plain.endpoint(), plain.ca_file()), (None, None));
        let profile = environment(&[("AWS_PROFILE", "backup")]).await.unwrap();
        assert_eq!(profile.endpoint().unwrap(), "https://s3.example");
        assert_eq!(profile.ca_file().unwrap().0, PathBuf::from("/etc/ca.pem"));
        let vars = [
            ("AWS_PROFILE", "backup"),
            ("AWS_ENDPOINT_URL", "https://env.example"),
            ("AWS_CA_BUNDLE", "/env.pem"),
        ];
        let environment = environment(&vars).await.unwrap();
        assert_eq!(environment.endpoint().unwrap(), "https://env.example");
        assert_eq!(environment.ca_file().unwrap().1, "AWS_CA_BUNDLE");
    }

    #[tokio::test]
    async fn a_profile_that_is_nowhere_is_named_with_the_files() {
        let error = environment(&[("AWS_PROFILE", "bakcup")])
            .await
            .err()
            .unwrap();
        for says in ["bakcup", "/nobody/.aws/credentials (not there)"] {
            assert!(error.message().contains(says), "{error}");
        }
    }
}
