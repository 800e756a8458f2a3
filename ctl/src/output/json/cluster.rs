//! The coordinator group.

use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Member {
    pub id: u64,
    pub address: String,
    pub voter: bool,
    pub leader: bool,
    /// Whether it answered when it was asked itself.
    pub answers: bool,
    pub version: Option<String>,
    pub applied_index: Option<u64>,
    pub matched_index: Option<u64>,
    pub error: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Cluster {
    pub group_id: String,
    pub leader: Option<u64>,
    pub term: u64,
    pub answered_by: u64,
    pub repository_url: Option<String>,
    pub repository_id: Option<String>,
    pub repository_refusal: Option<String>,
    pub members: Vec<Member>,
}
