//! Compiles the protocol with protox, so that no `protoc` is needed on the machine.

use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=seawall");
    let descriptors = protox::compile(
        [
            "seawall/v1/types.proto",
            "seawall/v1/coordinator.proto",
            "seawall/v1/agent.proto",
            "seawall/v1/raft.proto",
        ],
        ["."],
    )?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_transport(true)
        .compile_fds(descriptors)?;
    Ok(())
}
