//! The programs' HTTP side, as a load balancer or a scraper sees it.

use std::{sync::LazyLock, time::Duration};

use anyhow::{Context as _, Result, ensure};
pub use reqwest::Method;

/// One client for all: it holds no more than a few idle connections.
static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
    // Another crate may have installed one before: either will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        .no_proxy()
        // Whose certificate it is, is the business of tests of their own.
        .tls_danger_accept_invalid_certs(true)
        .build()
        .unwrap_or_default()
});

/// Status code of `GET url`.
pub async fn status(url: &str) -> Result<u16> {
    let response = CLIENT.get(url).send().await;
    Ok(response
        .with_context(|| format!("GET {url}"))?
        .status()
        .as_u16())
}

/// Body of `GET url`; an error unless the answer is a success.
pub async fn get(url: &str) -> Result<String> {
    let response = CLIENT.get(url).send().await;
    let response = response.with_context(|| format!("GET {url}"))?;
    Ok(response.error_for_status()?.text().await?)
}

/// What kind of text the answer to `GET url` is said to be.
pub async fn content_type(url: &str) -> Result<String> {
    let response = CLIENT.get(url).send().await;
    let response = response.with_context(|| format!("GET {url}"))?;
    let said = response.headers().get(reqwest::header::CONTENT_TYPE);
    let said = said.with_context(|| format!("GET {url}: no content type"))?;
    Ok(said.to_str()?.to_owned())
}

pub async fn put(url: &str, body: &str) -> Result<()> {
    let response = CLIENT.put(url).body(body.to_owned()).send().await;
    response
        .with_context(|| format!("PUT {url}"))?
        .error_for_status()?;
    Ok(())
}

/// Sends a request that was signed elsewhere; an error unless the answer is a success.
pub async fn send(signed: object_store::client::HttpRequest, body: &str) -> Result<()> {
    let (parts, _) = signed.into_parts();
    let (method, url) = (parts.method, parts.uri.to_string());
    let request = CLIENT.request(method.clone(), &url).headers(parts.headers);
    let response = request.body(body.to_owned()).send().await;
    let response = response.with_context(|| format!("{method} {url}"))?;
    let status = response.status();
    ensure!(
        status.is_success(),
        "{method} {url}: {status}: {}",
        response.text().await?
    );
    Ok(())
}
