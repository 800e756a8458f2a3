//! A stub of Amazon's services: of S3, which refuses every request, and of those that give roles.

use std::sync::Arc;

use anyhow::{Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Mutex,
};

use super::objects::Bucket;

/// A server that takes requests and says who signed the last one, and for which region. Whoever asks
/// it for a role gets one.
#[derive(Clone)]
pub struct Aws {
    pub address: String,
    signed: Arc<Mutex<Vec<String>>>,
}

const ROLE: &str = "<Credentials><AccessKeyId>KEY</AccessKeyId><SecretAccessKey>geheim</SecretAccessKey>\
    <SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>";
/// Where the metadata service of an instance has them.
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>";

impl Aws {
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let stub = Self {
            address: format!("http://{}", listener.local_addr()?),
            signed: Arc::default(),
        };
        let own = stub.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let own = own.clone();
                tokio::spawn(async move { own.answer(client).await });
            }
        });
        Ok(stub)
    }

    /// One request, then the connection ends.
    async fn answer(&self, mut client: TcpStream) -> Result<()> {
        let mut bytes = vec![0; 1 << 16];
        let mut length = 0;
        let (head, body) = loop {
            let more = client.read(&mut bytes[length..]).await?;
            ensure!(more > 0, "it has hung up");
            length += more;
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let wanted = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    let is_length = name.eq_ignore_ascii_case("content-length");
                    is_length.then(|| value.trim().parse().ok())?
                });
                if body.len() >= wanted.unwrap_or(0) {
                    break (head.to_owned(), body.to_owned());
                }
            }
        };
        let (status, text) = if let Some((status, text)) = unwilling(&head) {
            (status, text.to_owned())
        } else if body.contains("Action=AssumeRoleWithWebIdentity") {
            ("200 OK", role("AssumeRoleWithWebIdentity", "WEB"))
        } else if body.contains("Action=AssumeRole") {
            ("200 OK", role("AssumeRole", "ROLE"))
        } else if head.starts_with("GET /container") {
            ("200 OK", role_as_json("CONTAINER"))
        } else if head.starts_with("PUT /latest/api/token") {
            (
                "200 OK\r\nx-aws-ec2-metadata-token-ttl-seconds: 60",
                "t".to_owned(),
            )
        } else if head.starts_with(&format!("GET {ROLES} ")) {
            ("200 OK", "r".to_owned())
        } else if head.starts_with(&format!("GET {ROLES}r ")) {
            ("200 OK", role_as_json("INSTANCE"))
        } else {
            let (_, rest) = head.split_once("Credential=").unwrap_or_default();
            let mut parts = rest.split('/');
            let (key, region) = (parts.next(), parts.nth(1));
            let shown = format!("{} {}", key.unwrap_or("-"), region.unwrap_or("-"));
            self.signed.lock().await.push(shown);
            ("403 Forbidden", DENIED.to_owned())
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
            text.len()
        );
        Ok(client.write_all(answer.as_bytes()).await?)
    }

    /// The last one.
    pub async fn signed(&self) -> Option<String> {
        self.signed.lock().await.pop()
    }

    /// A bucket of it, for a program with this environment.
    pub fn bucket(&self, environment: &[(&str, &str)]) -> Bucket {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Bucket {
            url: "s3://bucket/seawall".to_owned(),
            settings: vec![(
                "repository.endpoint".to_owned(),
                self.address.clone().into(),
            )],
            environment: environment.iter().map(owned).collect(),
        }
    }
}

/// Below these paths nobody gets a role, whatever is asked.
fn unwilling(head: &str) -> Option<(&'static str, &'static str)> {
    const THROTTLED: &str = "<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code>\
        <Message>Rate exceeded</Message></Error></ErrorResponse>";
    match head.split(['/', ' ']).nth(2)? {
        "forbidden" => Some(("403 Forbidden", "")),
        "gone" => Some(("404 Not Found", "")),
        "busy" => Some(("503 Service Unavailable", "")),
        "throttled" => Some(("400 Bad Request", THROTTLED)),
        _ => None,
    }
}

fn role(action: &str, key: &str) -> String {
    let role = ROLE.replace("KEY", key);
    format!("<{action}Response><{action}Result>{role}</{action}Result></{action}Response>")
}

fn role_as_json(key: &str) -> String {
    format!(
        r#"{{"Code":"Success","AccessKeyId":"{key}","SecretAccessKey":"geheim","Token":"t","Expiration":"2099-01-01T00:00:00Z"}}"#
    )
}
