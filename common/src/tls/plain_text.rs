//! Answers whoever speaks plain HTTP where TLS is expected, in its own protocol, so that it can say
//! what is wrong instead of hanging or showing bytes.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

/// What the answer says; channels look for it.
pub const SPEAKS_TLS: &str = "this listener speaks TLS";
/// First byte of each record that belongs to a handshake.
const HANDSHAKE_RECORD: u8 = 0x16;
const HTTP_2_PREFACE: &[u8] = b"PRI";
/// How long the other end may take to read the answer and close.
const FAREWELL: Duration = Duration::from_secs(1);
const GO_AWAY: u8 = 7;
const SETTINGS: u8 = 4;
/// INADEQUATE_SECURITY, RFC 9113 section 7.
const INADEQUATE_SECURITY: u32 = 0xc;

/// Whether this is how a TLS connection begins.
pub fn begins_tls(first: u8) -> bool {
    first == HANDSHAKE_RECORD
}

/// Says that TLS is spoken here, and waits until that is read: closing at once would lose it.
pub async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let farewell = async {
        let mut first = [0; HTTP_2_PREFACE.len()];
        stream.read_exact(&mut first).await?;
        let answer = match first == HTTP_2_PREFACE {
            true => http_2(),
            false => http_1(),
        };
        stream.write_all(&answer).await?;
        stream.shutdown().await?;
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        std::io::Result::Ok(())
    };
    // Whoever does not wait for the answer does not get it.
    let _ = timeout(FAREWELL, farewell).await;
}

fn http_1() -> Vec<u8> {
    let body = format!("{SPEAKS_TLS}: use https://\n");
    let length = body.len();
    format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Empty settings, as each HTTP/2 connection begins, and the end of it.
fn http_2() -> Vec<u8> {
    let mut going = Vec::new();
    going.extend_from_slice(&0u32.to_be_bytes());
    going.extend_from_slice(&INADEQUATE_SECURITY.to_be_bytes());
    going.extend_from_slice(SPEAKS_TLS.as_bytes());
    let mut bytes = frame(SETTINGS, &[]);
    bytes.extend(frame(GO_AWAY, &going));
    bytes
}

/// A frame of the connection itself: no flags, stream 0.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    // Far below 2^24.
    let length = u32::try_from(payload.len()).unwrap_or_default();
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(payload);
    bytes
}
