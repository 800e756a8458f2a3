//! Who calls.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue};

use super::table::Least;
use crate::{
    error::{Error, Result},
    tls::{Identity, Peer, Role},
};

/// Number of the member that passed a call on.
pub const FORWARDED_KEY: &str = "seawall-forwarded-by";
/// Whose call it is that a member passes on: `ROLE/NAME`.
pub const CALLER_KEY: &str = "seawall-caller";

/// With every request that has come through the layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// By a certificate, its own or the one that a coordinator has seen.
    Known(Identity),
    /// A certificate that names no role, as it describes itself.
    Nameless(String),
    /// There is no mutual TLS: where the call came from. None: it is not known.
    Anybody(Option<SocketAddr>),
}

/// Whether a member has passed a call on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PassedOn {
    No,
    /// Whoever calls says so; without mutual TLS nobody can tell.
    Claimed,
    /// By a member that has shown who it is.
    Proved,
}

impl Caller {
    /// Who calls, as far as it can be believed, and whether a member has passed the call on. What
    /// only a member may say is taken out of the request where somebody else said it.
    pub(super) fn of(
        peer: Option<&Peer>,
        demands_certificates: bool,
        headers: &mut HeaderMap,
    ) -> (Self, PassedOn) {
        let was_forwarded = headers.contains_key(FORWARDED_KEY);
        let named = headers.remove(CALLER_KEY);
        if !demands_certificates {
            let passed_on = match was_forwarded {
                true => PassedOn::Claimed,
                false => PassedOn::No,
            };
            return (Caller::Anybody(peer.map(|peer| peer.address)), passed_on);
        }
        let certificate = peer.and_then(|peer| peer.certificate.as_ref());
        let Some(certificate) = certificate else {
            // Cannot be: the listener lets nobody in without one.
            return (Caller::Nameless("no certificate".to_owned()), PassedOn::No);
        };
        match &certificate.identity {
            Some(member) if member.role == Role::Coordinator && was_forwarded => {
                // A member that calls for itself says so too: nobody gets its rights by saying less.
                let caller = named.as_ref().and_then(identity);
                let nobody = || Caller::Nameless(format!("nobody that {member} can name"));
                (caller.map_or_else(nobody, Caller::Known), PassedOn::Proved)
            }
            Some(identity) => {
                headers.remove(FORWARDED_KEY);
                (Caller::Known(identity.clone()), PassedOn::No)
            }
            None => {
                headers.remove(FORWARDED_KEY);
                (Caller::Nameless(certificate.who()), PassedOn::No)
            }
        }
    }

    /// What a member says of this caller when it passes the call on.
    pub fn header(&self) -> Option<HeaderValue> {
        match self {
            Caller::Known(identity) => HeaderValue::from_str(&identity.to_string()).ok(),
            Caller::Nameless(_) | Caller::Anybody(_) => None,
        }
    }

    /// Whether it may make a call of this kind.
    pub(super) fn check(&self, method: &str, least: Least) -> Result<()> {
        let has = match self {
            Caller::Anybody(_) => return Ok(()),
            Caller::Known(identity) if least.takes(identity.role) => return Ok(()),
            Caller::Known(identity) => format!("the caller is {identity}"),
            Caller::Nameless(who) => format!("the caller shows {who}"),
        };
        Err(
            Error::denied(format!("{method} needs the role {least}; {has}")).hint(format!(
                "Use a certificate of that role (seawallctl CreateCertificates makes one): its URI \
                 is seawall:{}/NAME.",
                least.example()
            )),
        )
    }

    /// An agent speaks for its own tablet alone.
    pub fn check_alias(&self, alias: &str) -> Result<()> {
        match self {
            Caller::Known(identity) if identity.role == Role::Agent && identity.name() != alias => {
                Err(Error::denied(format!(
                    "{identity} speaks for the tablet {}, not for {alias:?}",
                    identity.name()
                ))
                .hint("The name in an agent's certificate must be the alias of its tablet."))
            }
            _ => Ok(()),
        }
    }

    /// Of a request that has come through the layer; without one, as in tests, anybody's.
    pub fn of_request<T>(request: &tonic::Request<T>) -> Self {
        let caller = request.extensions().get::<Caller>();
        caller.cloned().unwrap_or(Caller::Anybody(None))
    }

    pub fn is_agent(&self) -> bool {
        matches!(self, Caller::Known(identity) if identity.role == Role::Agent)
    }
}

fn identity(header: &HeaderValue) -> Option<Identity> {
    header.to_str().ok()?.parse().ok()
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Caller::Known(identity) => identity.fmt(f),
            Caller::Nameless(who) => f.write_str(who),
            Caller::Anybody(Some(address)) => address.fmt(f),
            Caller::Anybody(None) => f.write_str("unknown"),
        }
    }
}
