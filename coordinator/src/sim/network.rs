//! Connections over the simulated network, and what else can happen to a message between members:
//! it is lost, its answer is, or it comes twice, the second time when it is long stale.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::{
    Response, Status,
    transport::{Channel, Endpoint, server::Connected},
};
use tower::service_fn;
use turmoil::net::{TcpListener, TcpStream};

const LOST_PER_MILLE: u32 = 10;
const ANSWER_LOST_PER_MILLE: u32 = 10;
const REPEATED_PER_MILLE: u32 = 20;
const STALE_MS_MAX: u64 = 4000;

pub fn connect(endpoint: &Endpoint) -> Channel {
    endpoint.connect_with_connector_lazy(service_fn(|uri: Uri| async move {
        let authority = uri
            .authority()
            .ok_or_else(|| io::Error::other("an address without a host"))?;
        let stream = TcpStream::connect(authority.as_str()).await?;
        Ok::<_, io::Error>(TokioIo::new(stream))
    }))
}

/// Sends a message between members through what may happen to it.
pub async fn meddled<T, Send, Sent>(send: Send) -> Result<Response<T>, Status>
where
    T: std::marker::Send + 'static,
    Send: Fn() -> Sent + std::marker::Send + 'static,
    Sent: Future<Output = Result<Response<T>, Status>> + std::marker::Send + 'static,
{
    let lost = || Status::unavailable("lost by the simulated network");
    let fate = rand::random_range(0..1000);
    if fate < LOST_PER_MILLE {
        return Err(lost());
    }
    if fate < LOST_PER_MILLE + ANSWER_LOST_PER_MILLE {
        send().await?;
        return Err(lost());
    }
    if fate < LOST_PER_MILLE + ANSWER_LOST_PER_MILLE + REPEATED_PER_MILLE {
        let answer = send();
        tokio::spawn(async move {
            let stale = Duration::from_millis(rand::random_range(0..STALE_MS_MAX));
            tokio::time::sleep(stale).await;
            // Whatever the other says to a message that it has had already.
            let _ = send().await;
        });
        return answer.await;
    }
    send().await
}

/// Connections that come in, as the gRPC server takes them.
pub fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<Accepted>> + Send {
    futures::stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await.map(|(stream, _)| Accepted(stream));
        Some((accepted, listener))
    })
}

/// A connection of the simulator, of which the gRPC server wants to know nothing more.
pub struct Accepted(TcpStream);

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
