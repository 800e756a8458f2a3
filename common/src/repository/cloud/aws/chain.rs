//! The places where credentials for S3 may be, in the order of the AWS CLI: the environment's keys;
//! a role that the profile names; a web identity in the environment; whatever else the profile has
//! (keys, `sso`, a `credential_process`); a container's role; the instance's role.

use async_trait::async_trait;
use aws_config::{
    ecs::EcsCredentialsProvider,
    imds::{self, credentials::ImdsCredentialsProvider},
    meta::credentials::CredentialsProviderChain,
    profile::ProfileFileCredentialsProvider,
    provider_config::ProviderConfig,
    web_identity_token::WebIdentityTokenCredentialsProvider,
};
use aws_credential_types::provider::{ProvideCredentials, error::CredentialsError};
use object_store::aws::AwsCredential;

use super::{
    super::renewed::{Loaded, Source},
    Environment, HINT,
};
use crate::error::{Error, Result, chain, one_line};

/// Where there is no metadata service, nobody waits long for it: each try has a second.
const METADATA_TRIES: u32 = 2;

pub(super) struct Chain {
    pub environment: Environment,
    pub config: ProviderConfig,
}

impl Chain {
    /// Half of a pair is a mistake, and not a reason to sign with somebody else's key.
    fn keys_of_environment(&self) -> Result<Option<AwsCredential>> {
        let var = |name| self.environment.var(name);
        match (var("AWS_ACCESS_KEY_ID"), var("AWS_SECRET_ACCESS_KEY")) {
            (Some(key_id), Some(secret_key)) => Ok(Some(AwsCredential {
                key_id,
                secret_key,
                token: var("AWS_SESSION_TOKEN"),
            })),
            (None, None) => Ok(None),
            _ => Err(Error::invalid(
                "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is in the environment",
            )
            .hint("Set both, or none of them.")),
        }
    }

    /// Everything but the environment's keys. Made anew each time: its parts remember what they have
    /// read.
    fn elsewhere(&self) -> CredentialsProviderChain {
        const PROFILE: &str = "profile";
        const WEB: &str = "web identity";
        let config = &self.config;
        let web = WebIdentityTokenCredentialsProvider::builder().configure(config);
        let profile = ProfileFileCredentialsProvider::builder()
            .configure(config)
            .profile_files(self.environment.files.clone());
        let (web, profile) = (web.build(), profile.build());
        let container = EcsCredentialsProvider::builder().configure(config).build();
        let metadata = imds::Client::builder()
            .configure(config)
            .max_attempts(METADATA_TRIES)
            .build();
        let instance = ImdsCredentialsProvider::builder()
            .configure(config)
            .imds_client(metadata)
            .build();
        let first = match self.environment.profiles.get("role_arn") {
            Some(_) => CredentialsProviderChain::first_try(PROFILE, profile).or_else(WEB, web),
            None => CredentialsProviderChain::first_try(WEB, web).or_else(PROFILE, profile),
        };
        first
            .or_else("container", container)
            .or_else("instance", instance)
    }

    async fn explain(&self, error: &CredentialsError) -> Error {
        let why = one_line(&chain(error));
        let why = why.trim_end_matches('.');
        let says = |text| why.contains(text);
        // The metadata service is the last that is asked.
        let nowhere = match error {
            CredentialsError::CredentialsNotLoaded(_) => Some(String::new()),
            _ => says("IMDS").then(|| format!(" ({why})")),
        };
        if let Some(why) = nowhere {
            return Error::refused(format!(
                "no credentials for S3: none in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), \
                 none of the profile {:?} in {} and {}, no web identity, no container's role, \
                 and this machine's metadata service gives none{why}",
                self.environment.profiles.selected_profile(),
                self.environment.credentials_file().await,
                self.environment.config_file().await,
            ))
            .hint(HINT);
        }
        let message = format!("cannot get credentials for S3: {why}");
        // Whoever gives them does not answer, as it happens before a network is there.
        if (says("dispatch failure") || says("timed out")) && !says("invalid peer certificate") {
            return Error::unavailable(message).hint(HINT);
        }
        Error::refused(message).hint(HINT)
    }
}

#[async_trait]
impl Source for Chain {
    async fn load(&self) -> Result<Loaded> {
        if let Some(keys) = self.keys_of_environment()? {
            return Ok((keys, None));
        }
        let loaded = match self.elsewhere().provide_credentials().await {
            Ok(loaded) => loaded,
            Err(error) => return Err(self.explain(&error).await),
        };
        let credential = AwsCredential {
            key_id: loaded.access_key_id().to_owned(),
            secret_key: loaded.secret_access_key().to_owned(),
            token: loaded.session_token().map(str::to_owned),
        };
        Ok((credential, loaded.expiry()))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
    use aws_types::os_shim_internal::{Env, Fs};

    use super::{
        super::{super::tls::Authorities, requests},
        *,
    };

    async fn chain_of(vars: &[(&str, &str)], file: &Path) -> Chain {
        let files = EnvConfigFiles::builder()
            .with_file(EnvConfigFileKind::Credentials, file)
            .build();
        let environment = Environment::load_from(Env::from_slice(vars), Fs::real(), files).await;
        Chain {
            environment: environment.unwrap(),
            config: requests("us-east-1".into(), &Authorities::default()).unwrap(),
        }
    }

    fn write(file: &Path, key: &str) {
        let keys = format!("aws_access_key_id = {key}\naws_secret_access_key = geheim\n");
        std::fs::write(file, format!("[default]\n{keys}")).unwrap();
    }

    #[tokio::test]
    async fn keys_that_are_replaced_in_a_file_are_found_the_next_time() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("credentials");
        write(&file, "FIRST");
        let chain = chain_of(&[], &file).await;
        for key in ["FIRST", "SECOND"] {
            write(&file, key);
            let (found, expires) = chain.load().await.unwrap();
            assert_eq!((found.key_id.as_str(), expires), (key, None));
        }
    }

    #[tokio::test]
    async fn both_keys_of_the_environment_count_before_everything_else() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("credentials");
        write(&file, "FILE");
        let mut vars = vec![
            ("AWS_ACCESS_KEY_ID", "ENV"),
            ("AWS_SECRET_ACCESS_KEY", "geheim"),
            ("AWS_SESSION_TOKEN", "token"),
        ];
        let (found, _) = chain_of(&vars, &file).await.load().await.unwrap();
        assert_eq!(
            (found.key_id.as_str(), found.token.as_deref()),
            ("ENV", Some("token"))
        );
        for secret in ["", " "] {
            vars[1].1 = secret;
            let loaded = chain_of(&vars, &file).await.load().await;
            let error = loaded.err().unwrap();
            assert!(error.message().contains("only one of"), "{error}");
        }
        vars.clear();
        let (found, _) = chain_of(&vars, &file).await.load().await.unwrap();
        assert_eq!(found.key_id, "FILE");
    }
}
