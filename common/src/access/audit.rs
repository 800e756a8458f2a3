//! One line for each call that changes something: who, what, and what came of it.

use http::{HeaderMap, Response};
use http_body_util::{BodyExt as _, Full};
use tonic::{Code, Status, body::Body};

use super::Caller;
use crate::error::{Error, one_line};

/// A call whose line is still to be written. When nobody waits for the answer any more the line
/// says that it is not known.
pub(super) struct Entry {
    caller: String,
    method: &'static str,
    object: String,
    is_written: bool,
}

impl Entry {
    pub fn begin(caller: &Caller, method: &'static str, object: &str) -> Self {
        Self {
            caller: one_line(&caller.to_string()),
            method,
            object: one_line(object),
            is_written: false,
        }
    }

    /// Looks at the answer, which is a single message, and writes the line.
    pub async fn end(mut self, response: Response<Body>) -> Response<Body> {
        if let Some(status) = Status::from_header_map(response.headers()) {
            self.write(&result(&status));
            return response;
        }
        let (head, body) = response.into_parts();
        let collected = match body.collect().await {
            Ok(collected) => collected,
            Err(status) => {
                self.write(&format!("unknown: {}", one_line(status.message())));
                return status.into_http();
            }
        };
        let trailers = collected.trailers().cloned().unwrap_or_default();
        match Status::from_header_map(&trailers) {
            Some(status) => self.write(&result(&status)),
            None => self.write("unknown: the answer says nothing of it"),
        }
        let body = Full::new(collected.to_bytes());
        let trailers = async move { (!trailers.is_empty()).then_some(Ok(trailers)) };
        Response::from_parts(head, Body::new(body.with_trailers(trailers)))
    }

    fn write(&mut self, result: &str) {
        self.is_written = true;
        let Self {
            caller,
            method,
            object,
            ..
        } = &*self;
        tracing::info!(target: "audit", %caller, %object, %result, "{method}");
    }
}

fn result(status: &Status) -> String {
    match status.code() {
        Code::Ok => "ok".to_owned(),
        code => format!("{code:?}: {}", one_line(status.message())),
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.is_written {
            self.write("unknown: whoever called went away before the answer");
        }
    }
}

/// What is answered in words of other libraries, in ours.
pub(super) fn clarified(response: Response<Body>) -> Response<Body> {
    match refusal(response.headers()).and_then(|status| clearer(&status)) {
        Some(clearer) => clearer.into_http(),
        None => response,
    }
}

/// The limits on a message, and what is none, in our words.
fn clearer(status: &Status) -> Option<Status> {
    let says = |part: &str| status.message().contains(part);
    match status.code() {
        Code::OutOfRange if says("message length too large") => {
            Some(Status::resource_exhausted(status.message()))
        }
        Code::Internal if says("failed to decode Protobuf") => {
            Some(Status::invalid_argument(status.message()))
        }
        _ => None,
    }
}

/// Why no message of a stream could be read: the layer sees only what answers a call.
pub fn unreadable(status: Status) -> Error {
    clearer(&status).unwrap_or(status).into()
}

fn refusal(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers).filter(|status| status.code() != Code::Ok)
}
