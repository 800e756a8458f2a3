//! One line for each call that changes something: who, what, and what came of it.

use http::{HeaderMap, Response};
use http_body_util::{BodyExt as _, Full};
use tonic::{Code, Status, body::Body};

use super::Caller;
use crate::error::one_line;

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

/// What is answered in words of other libraries, in ours: the limits on a message, and what is none.
pub(super) fn clarified(response: Response<Body>) -> Response<Body> {
    let Some(status) = refusal(response.headers()) else {
        return response;
    };
    let says = |part: &str| status.message().contains(part);
    if status.code() == Code::OutOfRange && says("message length too large") {
        return Status::resource_exhausted(status.message()).into_http();
    }
    if status.code() == Code::Internal && says("failed to decode Protobuf") {
        return Status::invalid_argument(status.message()).into_http();
    }
    response
}

fn refusal(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers).filter(|status| status.code() != Code::Ok)
}
