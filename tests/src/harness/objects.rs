//! Object stores that tests start: what a program must be told to use one.

use std::process::Command;

use anyhow::{Context as _, Result};
use object_store::client::{HttpRequest, HttpRequestBody};
use toml::Value;

use super::http::Method;

/// A bucket of a store that runs.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// `s3://bucket/prefix`
    pub url: String,
    /// Keys of the section `[repository]` beside `url`.
    pub settings: Vec<(String, Value)>,
    /// Credentials, as the cloud's own tools take them.
    pub environment: Vec<(String, String)>,
}

impl Bucket {
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.settings.push((key.to_owned(), value.into()));
        self
    }

    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Tells a program to use it, by its environment alone.
    pub fn tell(&self, command: &mut Command) {
        command.envs(self.environment.iter().cloned());
        command.env("SEAWALL_REPOSITORY_URL", &self.url);
        for (key, value) in &self.settings {
            let name = format!("SEAWALL_{}", key.replace('.', "_").to_uppercase());
            match value.as_str() {
                Some(text) => command.env(name, text),
                None => command.env(name, value.to_string()),
            };
        }
    }
}

/// A request without a body, to be signed.
pub(super) fn request(method: Method, url: &str) -> Result<HttpRequest> {
    let (mut parts, body) = HttpRequest::new(HttpRequestBody::empty()).into_parts();
    parts.method = method;
    parts.uri = url.parse().with_context(|| format!("malformed {url}"))?;
    Ok(HttpRequest::from_parts(parts, body))
}
