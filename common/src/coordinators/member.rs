//! One member of a coordinator group, and what its answers mean when they are none.

use tonic::{Code, Status, transport::Channel};

use crate::{
    error::{Error, Result, chain},
    tls::{self, Dial, Dialer, ServerUrl, Whom},
};

pub const NOT_A_COORDINATOR: &str =
    "answers, but not as a coordinator: is that its gRPC port (7601)?";

/// Connected to when it is first needed.
#[derive(Clone)]
pub struct Member {
    pub url: ServerUrl,
    pub channel: Channel,
}

impl Member {
    pub fn new(url: ServerUrl, dialer: &Dialer, dial: Dial) -> Result<Self> {
        let channel = dialer.channel(&url, Whom::Coordinator, dial)?;
        Ok(Self { url, channel })
    }

    /// Why nobody who can be of use will ever answer here: something else than a coordinator did,
    /// or the two sides cannot agree on TLS.
    pub fn misfit(&self, answer: &Status) -> Option<String> {
        if is_no_grpc(answer) {
            return Some(format!("{} {NOT_A_COORDINATOR}", self.url));
        }
        tls::explain(answer, &self.whom()).map(|error| error.to_string())
    }

    pub fn error(&self, answer: Status) -> Error {
        tls::error_of(answer, &self.whom())
    }

    fn whom(&self) -> String {
        format!("{} at {}", Whom::Coordinator, self.url)
    }
}

/// Whether what answered speaks HTTP, but no gRPC. There is no better sign of it than these texts.
fn is_no_grpc(status: &Status) -> bool {
    let is_http_1 = std::error::Error::source(status)
        .is_some_and(|cause| chain(cause).contains("frame with invalid size"));
    // Unavailable is what a proxy says whose coordinator is down.
    let is_plain_http = status.code() != Code::Unavailable
        && status.message().starts_with("grpc-status header missing");
    is_http_1 || is_plain_http
}

/// Why there is no answer, in a few words.
pub fn refusal(status: &Status) -> String {
    if is_no_grpc(status) || status.code() == Code::Unimplemented {
        return NOT_A_COORDINATOR.to_owned();
    }
    match std::error::Error::source(status) {
        Some(cause) => match tls::explain(status, "it") {
            Some(explained) => explained.to_string(),
            None => chain(cause),
        },
        None => Error::from(status.clone()).to_string(),
    }
}
