//! What is special about a cluster of a test.

use anyhow::Result;
use toml::Value;

use super::{cluster::Cluster, objects::Bucket, repository::RepositoryDirectory, scratch::Scratch};

/// What is special about a cluster.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    /// Names its directory.
    pub name: String,
    pub coordinators: u64,
    /// Settings of every coordinator.
    pub settings: Vec<(String, Value)>,
    /// Settings of every agent.
    pub agent_settings: Vec<(String, Value)>,
    /// Where the repository is, when it is not a directory of the test's own.
    pub bucket: Option<Bucket>,
    /// Whether everything speaks mutual TLS.
    pub is_certified: bool,
}

/// Who the test is where there is TLS.
pub const OPERATOR: &str = "operator-test";

impl ClusterPlan {
    /// One coordinator, and agents that do not wait long for traffic to drain.
    pub fn new(name: &str) -> Self {
        let plan = Self {
            name: name.to_owned(),
            coordinators: 1,
            settings: Vec::new(),
            agent_settings: Vec::new(),
            bucket: None,
            is_certified: false,
        };
        plan.set_agents("drain_time", "200ms")
    }

    #[must_use]
    pub fn coordinators(mut self, count: u64) -> Self {
        self.coordinators = count;
        self
    }

    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.settings.push((key.to_owned(), value.into()));
        self
    }

    #[must_use]
    pub fn set_agents(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.agent_settings.push((key.to_owned(), value.into()));
        self
    }

    /// Mutual TLS everywhere.
    #[must_use]
    pub fn certified(mut self) -> Self {
        self.is_certified = true;
        self
    }

    /// A repository in an object store.
    #[must_use]
    pub fn bucket(mut self, bucket: Bucket) -> Self {
        for (key, value) in &bucket.settings {
            self = self.set(key, value.clone()).set_agents(key, value.clone());
        }
        self.bucket = Some(bucket);
        self
    }

    pub(super) fn url(&self, directory: &RepositoryDirectory) -> String {
        match &self.bucket {
            Some(bucket) => bucket.url.clone(),
            None => directory.url(),
        }
    }

    pub(super) fn environment(&self) -> Vec<(String, String)> {
        self.bucket
            .as_ref()
            .map_or_else(Vec::new, |bucket| bucket.environment.clone())
    }

    /// Lays it out in a scratch directory and starts the coordinators.
    pub async fn start(self) -> Result<Cluster> {
        let scratch = Scratch::create(&self.name)?;
        Cluster::start_in(scratch, self).await
    }
}
