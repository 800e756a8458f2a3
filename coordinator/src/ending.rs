//! Streams end when another member leads, or this one ends: what they tell may not be so any more,
//! and whoever asks again reaches the one that knows. Of a stream that was passed on the member at
//! which the client called sees to that: the leader may be cut off and not know it. This is the one
//! place that does: whoever tells a stream need not look who leads.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use seawall_common::Error;
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};

use crate::raft::{Leadership, Node};

/// The answer, for as long as who leads stays the same and nobody says stop.
pub fn while_led(
    response: Response<Body>,
    node: &Node,
    during: Leadership,
    stop: CancellationToken,
) -> Response<Body> {
    let mut leadership = node.leadership();
    let over = async move {
        let is_other = |now: &Leadership| (now.term, now.leader) != (during.term, during.leader);
        tokio::select! {
            _ = leadership.wait_for(is_other) => {
                Error::unavailable("another coordinator may lead the group by now")
            }
            () = stop.cancelled() => Error::unavailable("this coordinator is stopping"),
        }
    };
    response.map(|body| Body::new(Ending::new(body, over)))
}

struct Ending {
    body: Body,
    /// None: it has ended.
    over: Option<Over>,
}

type Over = Pin<Box<dyn Future<Output = Error> + Send>>;

impl Ending {
    fn new(body: Body, over: impl Future<Output = Error> + Send + 'static) -> Self {
        Self {
            body,
            over: Some(Box::pin(over)),
        }
    }
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(over) = &mut self.over else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(error) = over.as_mut().poll(task) {
            self.over = None;
            self.body = Body::empty();
            let mut trailers = HeaderMap::new();
            Status::from(error).add_header(&mut trailers)?;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut self.body).poll_frame(task)
    }

    fn is_end_stream(&self) -> bool {
        self.over.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, stream};
    use http_body::Body as _;
    use http_body_util::{BodyExt as _, StreamBody};
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn a_stream_goes_on_until_it_is_over_and_then_says_why() {
        let frame = || Ok::<_, Status>(Frame::data(Bytes::from_static(b"told")));
        let told = stream::iter([frame(), frame()]).chain(stream::pending());
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let over = async {
            let _ = ended.await;
            Error::unavailable("over")
        };
        let mut body = Ending::new(Body::new(StreamBody::new(told)), over);
        for _ in 0..2 {
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), "told");
        }
        assert!(futures::poll!(std::pin::pin!(body.frame())).is_pending());
        assert!(!body.is_end_stream());
        end.send(()).unwrap();
        let trailers = body.frame().await.unwrap().unwrap();
        let trailers = trailers.into_trailers().unwrap();
        let status = Status::from_header_map(&trailers).unwrap();
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unavailable, "over")
        );
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
    }
}
