//! Certificates that were made.

use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Certificate {
    pub role: String,
    pub name: String,
    pub hosts: Vec<String>,
    pub cert_file: String,
    pub key_file: String,
    pub expires_at: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Certificates {
    pub ca_file: String,
    pub ca_expires_at: Option<String>,
    pub ca_is_new: bool,
    pub certificates: Vec<Certificate>,
}
