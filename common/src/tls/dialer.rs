//! Makes every channel of Seawall: to coordinators, and to agents.

use std::{fmt, io, str::FromStr, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use super::{Connection, Role, Tls};
use crate::error::{Error, Result};

/// Whom a channel leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    Coordinator,
    Agent,
}

impl Whom {
    fn role(self) -> Role {
        match self {
            Whom::Coordinator => Role::Coordinator,
            Whom::Agent => Role::Agent,
        }
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {}", self.role())
    }
}

/// Address of a gRPC server: `http://host:port` or `https://host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerUrl {
    is_secure: bool,
    authority: String,
}

impl ServerUrl {
    /// Of `host:port`, spoken to as `scheme` says.
    pub fn new(scheme: &str, authority: &str) -> Result<Self> {
        let malformed = |why: &str| {
            Error::invalid(format!("malformed address {scheme}://{authority}: {why}"))
                .hint("It is written http://host:port or https://host:port.")
        };
        let is_secure = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(malformed("its scheme is neither http nor https")),
        };
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !has_port {
            return Err(malformed("no port in it"));
        }
        let url = Self {
            is_secure,
            authority: authority.to_owned(),
        };
        let uri: Uri = url
            .to_string()
            .parse()
            .map_err(|_| malformed("it is no address"))?;
        // A path, a user or a fragment would be left out without a word.
        if uri.authority().map(http::uri::Authority::as_str) != Some(authority)
            || authority.contains('@')
        {
            return Err(malformed("it is no address"));
        }
        Ok(url)
    }

    pub fn scheme(&self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
    }

    /// `host:port`
    pub fn authority(&self) -> &str {
        &self.authority
    }

    fn host(&self) -> &str {
        let host = self.authority.rsplit_once(':');
        let host = host.map_or(self.authority.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    fn port(&self) -> u16 {
        let port = self.authority.rsplit_once(':');
        port.and_then(|(_, port)| port.parse().ok()).unwrap_or(0)
    }
}

impl FromStr for ServerUrl {
    type Err = Error;

    /// Without a scheme it is `http`.
    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        Self::new(scheme, rest.trim_end_matches('/'))
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.authority)
    }
}

/// How long to be patient with whom a channel leads to.
#[derive(Clone, Copy, Debug)]
pub struct Dial {
    /// To connect, with the handshake.
    pub connect_limit: Duration,
    /// How often a silent connection is tried, and how long it may stay silent then.
    pub keep_alive: Option<(Duration, Duration)>,
    /// It is tried when no call is under way, too: the next call finds one that works.
    pub also_idle: bool,
    /// For each call, when its caller does not see to that.
    pub call_limit: Option<Duration>,
    /// Bytes that may have come and not been read: of one call, and of all together.
    pub windows: Option<(u32, u32)>,
}

impl Dial {
    pub const fn within(connect_limit: Duration) -> Self {
        Self {
            connect_limit,
            keep_alive: None,
            also_idle: false,
            call_limit: None,
            windows: None,
        }
    }

    #[must_use]
    pub const fn keep_alive(mut self, every: Duration, limit: Duration) -> Self {
        self.keep_alive = Some((every, limit));
        self
    }

    #[must_use]
    pub const fn windows(mut self, of_call: u32, of_all: u32) -> Self {
        self.windows = Some((of_call, of_all));
        self
    }

    #[must_use]
    pub const fn also_idle(mut self) -> Self {
        self.also_idle = true;
        self
    }

    #[must_use]
    pub const fn call_limit(mut self, limit: Duration) -> Self {
        self.call_limit = Some(limit);
        self
    }
}

/// Makes channels. What certificates they show and take is looked up for each connection, so that
/// one that is made anew uses the files as they are then.
#[derive(Clone)]
pub struct Dialer {
    tls: Tls,
}

impl Dialer {
    pub fn new(tls: Tls) -> Self {
        Self { tls }
    }

    /// How peers of this program are spoken to, when their address does not say.
    pub fn scheme(&self) -> &'static str {
        self.tls.scheme()
    }

    /// A channel that connects when it is first used, and again whenever the connection is lost.
    pub fn channel(&self, url: &ServerUrl, whom: Whom, dial: Dial) -> Result<Channel> {
        let (tls, target) = (self.tls.clone(), url.clone());
        let connector = tower::service_fn(move |_: Uri| {
            let (tls, target) = (tls.clone(), target.clone());
            async move { connect(&tls, &target, whom).await.map(TokioIo::new) }
        });
        let endpoint = self.endpoint(url, dial)?;
        Ok(endpoint.connect_with_connector_lazy(connector))
    }

    /// What such a channel is like, for whoever connects it by other means.
    pub fn endpoint(&self, url: &ServerUrl, dial: Dial) -> Result<Endpoint> {
        // TLS is the connector's: the endpoint must not look for its own.
        let target = format!("http://{}", url.authority);
        let malformed = |e: &dyn fmt::Display| Error::invalid(format!("malformed {url}: {e}"));
        let origin: Uri = url
            .to_string()
            .parse()
            .map_err(|e: http::uri::InvalidUri| malformed(&e))?;
        let mut endpoint = Endpoint::from_shared(target)
            .map_err(|e| malformed(&e))?
            .origin(origin)
            .connect_timeout(dial.connect_limit);
        if let Some((every, limit)) = dial.keep_alive {
            endpoint = endpoint
                .http2_keep_alive_interval(every)
                .keep_alive_timeout(limit)
                .keep_alive_while_idle(dial.also_idle);
        }
        if let Some(limit) = dial.call_limit {
            endpoint = endpoint.timeout(limit);
        }
        if let Some((of_call, of_all)) = dial.windows {
            endpoint = endpoint
                .initial_stream_window_size(of_call)
                .initial_connection_window_size(of_all);
        }
        Ok(endpoint)
    }
}

async fn connect(tls: &Tls, url: &ServerUrl, whom: Whom) -> io::Result<Connection> {
    let stream = TcpStream::connect((url.host(), url.port())).await?;
    // Small calls go out at once.
    stream.set_nodelay(true)?;
    let address = stream.peer_addr()?;
    if !url.is_secure {
        return Ok(Connection::plain(stream, address));
    }
    let config = tls.client().map_err(io::Error::other)?;
    let name = ServerName::try_from(url.host().to_owned()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    let connection = Connection::tls(stream.into(), address).map_err(io::Error::other)?;
    check_role(&connection, whom)?;
    Ok(connection)
}

/// A certificate that names a role must name the right one: the agent on a machine must not be
/// taken for the coordinator there. One that names none has been made by other means, for that name.
fn check_role(connection: &Connection, whom: Whom) -> io::Result<()> {
    let shown = connection.peer().certificate.as_ref();
    let identity = shown.and_then(|certificate| certificate.identity.as_ref());
    match identity {
        Some(identity) if identity.role != whom.role() => Err(io::Error::other(format!(
            "invalid peer certificate: it is that of {identity}, not that of a {}",
            whom.role()
        ))),
        _ => Ok(()),
    }
}
