//! How requests for credentials are sent, and what became of the last one: from what Amazon's
//! library makes of an answer it cannot be told whether somebody refused, or was merely busy.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_config::{
    BehaviorVersion, Region, provider_config::ProviderConfig, timeout::TimeoutConfig,
};
use aws_smithy_http_client::{
    Builder, Connector,
    proxy::ProxyConfig,
    tls::{self, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::HttpRequest,
    runtime_components::RuntimeComponents,
};

use super::super::tls::Authorities;
use crate::error::Result;

/// For a request with its repetitions: whoever gives credentials may take the connection and never
/// say a word.
const LIMIT: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With this status.
    Answered(u16),
    NoAnswer,
}

type Last = Arc<Mutex<Option<Ended>>>;

pub(super) struct Requests {
    pub config: ProviderConfig,
    last: Last,
}

impl Requests {
    pub fn new(region: String, authorities: &Authorities) -> Result<Self> {
        let last = Last::default();
        let client = Observed {
            inner: client(authorities.for_credentials()?),
            last: Arc::clone(&last),
        };
        let limit = TimeoutConfig::builder().operation_timeout(LIMIT).build();
        let config = ProviderConfig::without_region()
            .with_region(Some(Region::new(region)))
            .with_behavior_version(Some(BehaviorVersion::latest()))
            .with_timeout_config(limit)
            .with_http_client(client);
        Ok(Self { config, last })
    }

    /// None: no request was sent since [`Self::forget_last`].
    pub fn last(&self) -> Option<Ended> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn forget_last(&self) {
        note(&self.last, None);
    }
}

fn note(last: &Last, ended: Option<Ended>) {
    *last.lock().unwrap_or_else(PoisonError::into_inner) = ended;
}

fn client(tls: tls::TlsContext) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder()
            // As the requests to the store are.
            .proxy_config(ProxyConfig::from_env())
            .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
            .tls_context(tls.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|known| known.sleep_impl()));
        connector.build()
    })
}

/// A client, or a connector of one, whose answers are noted.
#[derive(Debug)]
struct Observed<T> {
    inner: T,
    last: Last,
}

impl HttpClient for Observed<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Observed {
            inner: self.inner.http_connector(settings, components),
            last: Arc::clone(&self.last),
        })
    }
}

impl HttpConnector for Observed<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        // Until there is one: a time limit just drops the future.
        note(&self.last, Some(Ended::NoAnswer));
        let (answer, last) = (self.inner.call(request), Arc::clone(&self.last));
        HttpConnectorFuture::new(async move {
            let answer = answer.await?;
            let status = answer.status().as_u16();
            note(&last, Some(Ended::Answered(status)));
            Ok(answer)
        })
    }
}
