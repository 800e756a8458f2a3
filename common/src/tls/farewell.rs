//! Closes a connection so that the other end gets to know why. Closed at once, with something unread,
//! it would be reset, and the last words that were written lost.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long the other end may take to read them and close.
const LIMIT: Duration = Duration::from_secs(1);

pub async fn close(mut stream: TcpStream) {
    let closed = async {
        stream.shutdown().await?;
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        std::io::Result::Ok(())
    };
    // Whoever does not wait for them does not get them.
    let _ = timeout(LIMIT, closed).await;
}
