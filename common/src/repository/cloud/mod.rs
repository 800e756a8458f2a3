//! Opens a bucket of S3, Google Cloud Storage or Azure Blob Storage.
//!
//! Credentials come from where the cloud's own tools take them: environment variables, their files,
//! and the machine's metadata service. What always holds: puts are create-only, whatever the
//! environment says; nothing is tried again in here, since [`super::retry`] does that; no time
//! limit but ours cuts a request off; nothing is spoken without TLS to another machine unless the
//! configuration allows it, and no variable makes a wrong certificate a right one.

mod aws;
mod azure;
mod renewed;
mod tls;

use std::{sync::Arc, time::Duration};

use object_store::{
    ClientOptions, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut},
    azure::AzureConfigKey,
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    path::Path,
    prefix::PrefixStore,
};
use url::{Host, Url};

use self::tls::Authorities;
use super::{config::RepositoryConfig, failure::chain_without_markup, location::Cloud};
use crate::error::{Error, Result};

/// To get a connection; the request as a whole has the limit of the configuration.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// No request takes as long: the retries' own limits end it before.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// Nothing is sent before the first request.
pub(super) async fn open(
    config: &RepositoryConfig,
    cloud: Cloud,
    bucket: &str,
    prefix: &Path,
) -> Result<Arc<dyn ObjectStore>> {
    open_with(config, cloud, bucket, prefix, false).await
}

/// `unsigned`: without credentials, for tests.
pub(super) async fn open_with(
    config: &RepositoryConfig,
    cloud: Cloud,
    bucket: &str,
    prefix: &Path,
    unsigned: bool,
) -> Result<Arc<dyn ObjectStore>> {
    // Nobody else may have chosen one yet; who did is right.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cloud {
        Cloud::S3 => Ok(below(prefix, s3(config, bucket, unsigned).await?)),
        Cloud::Google => Ok(below(prefix, google(config, bucket, unsigned).await?)),
        Cloud::Azure => Ok(below(prefix, azure(config, bucket, unsigned).await?)),
    }
}

fn below<T: ObjectStore>(prefix: &Path, store: T) -> Arc<dyn ObjectStore> {
    match prefix.as_ref() {
        "" => Arc::new(store),
        _ => Arc::new(PrefixStore::new(store, prefix.clone())),
    }
}

async fn s3(
    config: &RepositoryConfig,
    bucket: &str,
    unsigned: bool,
) -> Result<impl ObjectStore + use<>> {
    let environment = aws::Environment::load().await?;
    let authorities = match (&config.ca_file, environment.ca_file()) {
        (None, Some((file, named_by))) => Authorities::read(&file, named_by).await?,
        _ => Authorities::configured(config).await?,
    };
    let region = environment.region(config);
    let mut builder = AmazonS3Builder::from_env().with_region(&region);
    if let Some(endpoint) = config.endpoint.clone().or_else(|| environment.endpoint()) {
        builder = builder
            .with_endpoint(&endpoint)
            .with_config(AmazonS3ConfigKey::S3Endpoint, &endpoint);
    }
    if !unsigned {
        let request_timeout = config.request_timeout()?;
        let credentials = environment.credentials(region, &authorities, request_timeout)?;
        builder = builder.with_credentials(credentials);
    }
    let endpoint = builder
        .get_config_value(&AmazonS3ConfigKey::S3Endpoint)
        .or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Endpoint));
    builder
        .with_client_options(client_options(config, endpoint.as_deref(), &authorities)?)
        .with_bucket_name(bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_skip_signature(unsigned)
        .with_retry(no_retries())
        .build()
        .map_err(|e| unusable(config, &e))
}

async fn google(
    config: &RepositoryConfig,
    bucket: &str,
    unsigned: bool,
) -> Result<impl ObjectStore + use<>> {
    let mut builder = GoogleCloudStorageBuilder::from_env();
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    if unsigned {
        // It would ask for a token all the same.
        builder = builder.with_bearer_token("none");
    }
    let endpoint = builder.get_config_value(&GoogleConfigKey::BaseUrl);
    let authorities = Authorities::configured(config).await?;
    builder
        .with_client_options(client_options(config, endpoint.as_deref(), &authorities)?)
        .with_bucket_name(bucket)
        .with_skip_signature(unsigned)
        .with_retry(no_retries())
        .build()
        .map_err(|e| unusable(config, &e))
}

async fn azure(
    config: &RepositoryConfig,
    container: &str,
    unsigned: bool,
) -> Result<impl ObjectStore + use<>> {
    let mut builder = azure::from_environment(&|name| std::env::var(name).ok())?;
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    if unsigned {
        builder = builder.with_account("none");
    }
    let endpoint = builder.get_config_value(&AzureConfigKey::Endpoint);
    let authorities = Authorities::configured(config).await?;
    builder
        .with_client_options(client_options(config, endpoint.as_deref(), &authorities)?)
        .with_container_name(container)
        .with_skip_signature(unsigned)
        .with_retry(no_retries())
        .build()
        .map_err(|e| unusable(config, &e))
}

fn no_retries() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

/// All of them: none is left to what the environment says.
fn client_options(
    config: &RepositoryConfig,
    endpoint: Option<&str>,
    authorities: &Authorities,
) -> Result<ClientOptions> {
    let allow_http = match endpoint {
        Some(endpoint) => may_be_http(config, endpoint)?,
        None => false,
    };
    let options = ClientOptions::new()
        .with_allow_http(allow_http)
        .with_connect_timeout(CONNECT_TIMEOUT.min(config.request_timeout()?))
        .with_timeout(NEVER);
    authorities.trusted_by(options)
}

/// Whether the endpoint is one that may be spoken to without TLS; an error if it is not and wants it.
fn may_be_http(config: &RepositoryConfig, endpoint: &str) -> Result<bool> {
    let malformed = |why: &str| {
        Error::invalid(format!("malformed repository.endpoint {endpoint:?}: {why}"))
            .hint("An endpoint is written https://host or https://host:port.")
    };
    let url = Url::parse(endpoint).map_err(|e| malformed(&e.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::invalid(
            "malformed repository.endpoint: no user and no password can stand in it",
        ));
    }
    let is_loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => return Err(malformed("it names no host")),
    };
    match url.scheme() {
        "https" => Ok(false),
        "http" if is_loopback || config.allow_http => Ok(true),
        "http" => Err(Error::refused(format!(
            "repository.endpoint {endpoint} has no TLS and is not on this machine"
        ))
        .hint("Use https://, or say that the network is trusted: repository.allow_http = true.")),
        _ => Err(malformed("it is neither https nor http")),
    }
}

/// The builders say what is missing, and never repeat a secret.
fn unusable(config: &RepositoryConfig, error: &object_store::Error) -> Error {
    Error::invalid(format!(
        "cannot use repository {}: {}",
        config.url,
        chain_without_markup(error)
    ))
    .hint("docs/storage.md says where credentials are looked for.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_endpoint(endpoint: &str, allow_http: bool) -> RepositoryConfig {
        RepositoryConfig {
            endpoint: Some(endpoint.to_owned()),
            allow_http,
            ..RepositoryConfig::at("s3://bucket/a")
        }
    }

    #[tokio::test]
    async fn without_tls_nothing_is_spoken_to_another_machine_unless_allowed() {
        let open = async |endpoint: &str, allow_http| {
            let config = with_endpoint(endpoint, allow_http);
            let opened = super::open(&config, Cloud::S3, "bucket", &Path::from("a")).await;
            opened.map(drop)
        };
        for endpoint in [
            "http://127.0.0.1:9000",
            "http://[::1]:9000",
            "http://localhost",
            "https://s3.example",
        ] {
            open(endpoint, false).await.unwrap();
        }
        let error = open("http://s3.example:9000", false).await.unwrap_err();
        assert!(
            error.to_string().contains("repository.allow_http"),
            "{error}"
        );
        open("http://s3.example:9000", true).await.unwrap();
        for endpoint in ["s3.example", "ftp://s3.example", "http://u:p@s3.example"] {
            let error = open(endpoint, true).await.unwrap_err();
            assert!(error.message().contains("repository.endpoint"), "{error}");
        }
    }
}
