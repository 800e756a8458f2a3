//! The gRPC protocol of Seawall, generated from `proto/seawall/v1/*.proto`.
//!
//! Nothing here is written by hand but this file: shapes and their meaning are documented in the
//! `.proto` files. Conversions to the types that the programs think in live in `seawall-common`.

pub mod v1 {
    #![allow(clippy::all, missing_docs)]
    tonic::include_proto!("seawall.v1");
}

/// The encoded descriptor set of all services, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
