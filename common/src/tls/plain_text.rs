//! Answers whoever speaks plain HTTP where TLS is expected, in its own protocol, so that it can say
//! what is wrong instead of hanging or showing bytes.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::farewell;

/// What the answer says; channels look for it.
pub const SPEAKS_TLS: &str = "this listener speaks TLS";
/// First byte of each record that belongs to a handshake.
const HANDSHAKE_RECORD: u8 = 0x16;
const HTTP_2_PREFACE: &[u8] = b"PRI";
const GO_AWAY: u8 = 7;
const SETTINGS: u8 = 4;
/// INADEQUATE_SECURITY, RFC 9113 section 7.
const INADEQUATE_SECURITY: u32 = 0xc;

/// Whether this is how a TLS connection begins.
pub fn begins_tls(first: u8) -> bool {
    first == HANDSHAKE_RECORD
}

/// Says that TLS is spoken here. Whoever has gone does not hear it.
pub async fn refuse(mut stream: TcpStream) {
    let mut first = [0; HTTP_2_PREFACE.len()];
    if stream.read_exact(&mut first).await.is_err() {
        return;
    }
    let answer = match first == HTTP_2_PREFACE {
        true => http_2(),
        false => http_1(),
    };
    if stream.write_all(&answer).await.is_ok() {
        farewell::close(stream).await;
    }
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
