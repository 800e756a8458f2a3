//! The places where credentials for S3 may be, in the order of the AWS CLI: the environment's keys;
//! a role that the profile names; a web identity in the environment; whatever else the profile has
//! (keys, `sso`, a `credential_process`); a container's role; the instance's role.

use async_trait::async_trait;
use aws_config::{
    ecs::EcsCredentialsProvider, imds::credentials::ImdsCredentialsProvider,
    profile::ProfileFileCredentialsProvider,
    web_identity_token::WebIdentityTokenCredentialsProvider,
};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, error::CredentialsError},
};
use object_store::aws::AwsCredential;

use super::{
    super::renewed::{Loaded, Source},
    Environment, HINT,
    requests::{Ended, Requests},
};
use crate::error::{Error, ErrorKind, Result, chain, one_line};

/// Of what is told of a failure: a program's whole standard error is in it.
const CHARS_MAX: usize = 400;
/// What services of credentials say with 400 and mean for the moment only.
const FOR_THE_MOMENT: [&str; 4] = [
    "Throttl",
    "RequestLimitExceeded",
    "TooManyRequests",
    "IDPCommunicationError",
];

pub(super) struct Chain {
    pub environment: Environment,
    pub requests: Requests,
}

type Place = Box<dyn ProvideCredentials>;

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

    /// Everything but the environment's keys and the instance. Made anew each time: its parts
    /// remember what they have read.
    fn elsewhere(&self) -> [Place; 3] {
        let config = &self.requests.config;
        let web = WebIdentityTokenCredentialsProvider::builder().configure(config);
        let profile = ProfileFileCredentialsProvider::builder()
            .configure(config)
            .profile_files(self.environment.files.clone());
        let (web, profile) = (web.build(), profile.build());
        let container = EcsCredentialsProvider::builder().configure(config).build();
        match self.environment.profiles.get("role_arn") {
            Some(_) => [Box::new(profile), Box::new(web), Box::new(container)],
            None => [Box::new(web), Box::new(profile), Box::new(container)],
        }
    }

    fn failed(&self, error: &CredentialsError) -> Error {
        let why = one_line(&chain(error));
        let for_the_moment = match self.requests.last() {
            Some(Ended::NoAnswer) => !why.contains("invalid peer certificate"),
            Some(Ended::Answered(status)) => is_busy(status, &why),
            // It is about files and programs.
            None => false,
        };
        let message = format!("cannot get credentials for S3: {}", shortened(&why));
        Error::new(kind(for_the_moment), message).hint(HINT)
    }

    /// Not even from the metadata service, which is the last that is asked.
    async fn nowhere(&self, error: &CredentialsError) -> Error {
        let why = one_line(&chain(error));
        let for_the_moment = match self.requests.last() {
            // Whoever has none in reach will not have one later; early at boot there is no route.
            Some(Ended::NoAnswer) => {
                !why.contains("Connection refused") && !why.contains("connect timeout")
            }
            Some(Ended::Answered(status)) => is_busy(status, &why),
            None => false,
        };
        let message = format!(
            "no credentials for S3: none in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), \
             none of the profile {:?} in {} and {}, no web identity, no container's role, \
             and this machine's metadata service gives none ({})",
            self.environment.profiles.selected_profile(),
            self.environment.credentials_file().await,
            self.environment.config_file().await,
            shortened(&why),
        );
        Error::new(kind(for_the_moment), message).hint(HINT)
    }
}

fn kind(for_the_moment: bool) -> ErrorKind {
    match for_the_moment {
        true => ErrorKind::Unavailable,
        false => ErrorKind::Refused,
    }
}

fn is_busy(status: u16, why: &str) -> bool {
    matches!(status, 408 | 429 | 500..=599) || FOR_THE_MOMENT.iter().any(|code| why.contains(code))
}

/// Its beginning and its end: what a program complains of stands last.
fn shortened(why: &str) -> String {
    let why = why.trim_end_matches('.');
    let length = why.chars().count();
    if length <= CHARS_MAX {
        return why.to_owned();
    }
    let half = CHARS_MAX / 2;
    let begins: String = why.chars().take(half).collect();
    let ends: String = why.chars().skip(length - half).collect();
    format!("{begins} [...] {ends}")
}

fn taken(found: &Credentials) -> Loaded {
    let credential = AwsCredential {
        key_id: found.access_key_id().to_owned(),
        secret_key: found.secret_access_key().to_owned(),
        token: found.session_token().map(str::to_owned),
    };
    (credential, found.expiry())
}

/// One place after the other. Not by the library's own chain of them, which logs each failure as a
/// whole.
#[async_trait]
impl Source for Chain {
    async fn load(&self) -> Result<Loaded> {
        if let Some(keys) = self.keys_of_environment()? {
            return Ok((keys, None));
        }
        self.requests.forget_last();
        for place in self.elsewhere() {
            match place.provide_credentials().await {
                Ok(found) => return Ok(taken(&found)),
                Err(CredentialsError::CredentialsNotLoaded(_)) => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        let instance = ImdsCredentialsProvider::builder()
            .configure(&self.requests.config)
            .build();
        match instance.provide_credentials().await {
            Ok(found) => Ok(taken(&found)),
            Err(error) => Err(self.nowhere(&error).await),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
    use aws_types::os_shim_internal::{Env, Fs};

    use super::{super::super::tls::Authorities, *};

    async fn chain_of(vars: &[(&str, &str)], file: &Path) -> Chain {
        let files = EnvConfigFiles::builder()
            .with_file(EnvConfigFileKind::Credentials, file)
            .build();
        let environment = Environment::load_from(Env::from_slice(vars), Fs::real(), files).await;
        Chain {
            environment: environment.unwrap(),
            requests: Requests::new("us-east-1".into(), &Authorities::default()).unwrap(),
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

    #[test]
    fn of_a_long_complaint_the_beginning_and_the_end_are_told() {
        assert_eq!(shortened("no such role."), "no such role");
        let told = shortened(&format!("Traceback {} KeyError", "ä".repeat(20_000)));
        assert!(told.starts_with("Traceback") && told.ends_with("KeyError"));
        assert!(told.chars().count() < CHARS_MAX + 10, "{told}");
    }
}
