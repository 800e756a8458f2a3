//! The gRPC services: each checks, proposes or reads, and answers. One file a service.

pub mod cluster;
pub mod timestamps;
