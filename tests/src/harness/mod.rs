//! Clusters of real processes, for one test each.
//!
//! | room | what it is for |
//! |---|---|
//! | [`scratch`] | a directory of its own for each test, and the end of every process that came from it |
//! | [`ports`] | ports that no two tests share, whatever process they run in |
//! | [`binary`] | where the programs under test lie |
//! | [`process`] | one child process: log, kill -9, SIGTERM, stop and go on |
//! | [`config`] | configuration files, key by key |
//! | [`certificates`] | an authority of the test's own, and who has a certificate of it |
//! | [`mariadb`] | server configurations, data directories, SQL |
//! | [`coordinator`], [`tablet`] | one member; one agent with its database |
//! | [`proxy`], [`tls_front`] | a network that fails on command; TLS before a server that speaks none |
//! | [`objects`], [`ceph`], [`azurite`], [`aws`] | object stores: S3 and Azure; a stub that gives credentials |
//! | [`plan`] | what is special about a cluster |
//! | [`cluster`] | all of them together, and what a test asks of them |
//! | [`ctl`] | `seawallctl`, run as a person would |
//! | [`faults`] | pause points |
//! | [`small_disk`] | a file system that can be filled |
//! | [`load`] | writers that remember what was acknowledged |
//! | [`wait`] | waiting for a condition, with a limit |

pub mod aws;
pub mod azurite;
pub mod binary;
pub mod ceph;
pub mod certificates;
pub mod cluster;
pub mod config;
pub mod coordinator;
pub mod ctl;
pub mod faults;
pub mod http;
pub mod load;
pub mod mariadb;
pub mod objects;
pub mod plan;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod repository;
pub mod scratch;
pub mod small_disk;
pub mod tablet;
pub mod tls_front;
pub mod wait;

pub use cluster::Cluster;
pub use plan::ClusterPlan;
pub use tablet::{Tablet, TabletPlan};
