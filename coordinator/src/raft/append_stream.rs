//! A call that lasts, over which entries go to another member, one message after the other: a call
//! for each is twice the work for both.

use std::sync::Arc;

use seawall_proto::v1::{RaftRequest, RaftResponse, raft_client::RaftClient};
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming, transport::Channel};

/// Opened when first used, and again after what went wrong.
#[derive(Clone, Default)]
pub struct AppendStream(Arc<Mutex<Option<Open>>>);

struct Open {
    requests: mpsc::Sender<RaftRequest>,
    answers: Streaming<RaftResponse>,
}

impl AppendStream {
    /// Whoever does not wait for the answer ends the stream, so that no later request takes it for
    /// its own. On one that was open before and fails, it is asked once more on another: the other
    /// member was started again, most likely, and to be asked twice does it no harm.
    pub async fn exchange(
        &self,
        client: RaftClient<Channel>,
        request: RaftRequest,
    ) -> Result<Response<RaftResponse>, Status> {
        let mut place = self.0.lock().await;
        if let Some(mut open) = place.take()
            && let Ok(answer) = open.exchange(request.clone()).await
        {
            *place = Some(open);
            return Ok(Response::new(answer));
        }
        let mut open = Open::new(client).await?;
        let answer = open.exchange(request).await?;
        *place = Some(open);
        Ok(Response::new(answer))
    }
}

impl Open {
    async fn new(mut client: RaftClient<Channel>) -> Result<Self, Status> {
        let (requests, sent) = mpsc::channel(1);
        let answers = client.append_stream(ReceiverStream::new(sent)).await?;
        Ok(Self {
            requests,
            answers: answers.into_inner(),
        })
    }

    async fn exchange(&mut self, request: RaftRequest) -> Result<RaftResponse, Status> {
        let ended = || Status::unavailable("the stream has ended");
        if self.requests.send(request).await.is_err() {
            // Why it has ended is the last that it says.
            return Err(self.answers.message().await.err().unwrap_or_else(ended));
        }
        self.answers.message().await?.ok_or_else(ended)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use futures::{StreamExt as _, stream::BoxStream};
    use seawall_proto::v1::raft_server::{Raft, RaftServer};
    use tokio::{net::TcpListener, time::timeout};
    use tonic::{
        Request, async_trait,
        transport::{Endpoint, Server, server::TcpIncoming},
    };

    use super::*;

    const SLOW: &[u8] = b"slow";
    const REFUSED: &[u8] = b"refused";
    /// Answered, and then the stream ends.
    const ONCE: &[u8] = b"once";

    /// Answers what it was asked, over streams only.
    #[derive(Default)]
    struct Echo {
        streams: Arc<AtomicUsize>,
    }

    #[async_trait]
    impl Raft for Echo {
        type AppendStreamStream = BoxStream<'static, Result<RaftResponse, Status>>;

        async fn append_stream(
            &self,
            requests: Request<Streaming<RaftRequest>>,
        ) -> Result<Response<Self::AppendStreamStream>, Status> {
            self.streams.fetch_add(1, Ordering::SeqCst);
            let answers = requests.into_inner().then(|request| async {
                let payload = request?.payload;
                match &payload[..] {
                    SLOW => tokio::time::sleep(Duration::from_millis(300)).await,
                    REFUSED => return Err(Status::permission_denied("refused")),
                    _ => {}
                }
                Ok(RaftResponse {
                    payload,
                    ..RaftResponse::default()
                })
            });
            // The answer to it is the last.
            let mut is_over = false;
            let answers = answers.take_while(move |answer| {
                let goes_on = !is_over;
                is_over = answer.as_ref().is_ok_and(|answer| answer.payload == ONCE);
                std::future::ready(goes_on)
            });
            Ok(Response::new(answers.boxed()))
        }

        async fn append_entries(
            &self,
            _: Request<RaftRequest>,
        ) -> Result<Response<RaftResponse>, Status> {
            Err(Status::unimplemented("a call"))
        }

        async fn vote(&self, _: Request<RaftRequest>) -> Result<Response<RaftResponse>, Status> {
            Err(Status::unimplemented("a call"))
        }

        async fn install_snapshot(
            &self,
            _: Request<RaftRequest>,
        ) -> Result<Response<RaftResponse>, Status> {
            Err(Status::unimplemented("a call"))
        }

        async fn hello(&self, _: Request<RaftRequest>) -> Result<Response<RaftResponse>, Status> {
            Err(Status::unimplemented("a call"))
        }
    }

    struct Other {
        stream: AppendStream,
        client: RaftClient<Channel>,
        streams: Arc<AtomicUsize>,
    }

    impl Other {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let echo = Echo::default();
            let streams = echo.streams.clone();
            let server = Server::builder().add_service(RaftServer::new(echo));
            tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
            Self {
                stream: AppendStream::default(),
                client: RaftClient::new(Endpoint::from_shared(url).unwrap().connect_lazy()),
                streams,
            }
        }

        async fn asked(&self, payload: &[u8]) -> Result<Vec<u8>, Status> {
            let request = RaftRequest {
                payload: payload.to_vec(),
                ..RaftRequest::default()
            };
            let answer = self.stream.exchange(self.client.clone(), request).await?;
            Ok(answer.into_inner().payload)
        }

        fn streams(&self) -> usize {
            self.streams.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn one_stream_serves_all_that_are_answered() {
        let other = Other::start().await;
        for n in 0..9 {
            assert_eq!(other.asked(&[n]).await.unwrap(), [n]);
        }
        assert_eq!(other.streams(), 1);
    }

    #[tokio::test]
    async fn an_answer_that_was_not_waited_for_is_nobody_elses() {
        let other = Other::start().await;
        other.asked(b"first").await.unwrap();
        let waited = timeout(Duration::from_millis(50), other.asked(SLOW)).await;
        assert!(waited.is_err());
        assert_eq!(other.asked(b"next").await.unwrap(), b"next");
        assert_eq!(other.streams(), 2);
    }

    #[tokio::test]
    async fn a_refusal_is_heard_and_the_next_is_asked_anew() {
        let other = Other::start().await;
        let refused = other.asked(REFUSED).await.unwrap_err();
        assert_eq!(refused.message(), "refused");
        assert_eq!(other.asked(b"next").await.unwrap(), b"next");
        assert_eq!(other.streams(), 2);
    }

    #[tokio::test]
    async fn on_another_stream_it_is_asked_once_more_when_the_one_that_was_open_fails() {
        let other = Other::start().await;
        assert_eq!(other.asked(ONCE).await.unwrap(), ONCE);
        assert_eq!(other.streams(), 1);
        assert_eq!(other.asked(ONCE).await.unwrap(), ONCE);
        assert_eq!(other.streams(), 2);
        other.asked(REFUSED).await.unwrap_err();
        assert_eq!(other.streams(), 3, "twice, and no more");
    }
}
