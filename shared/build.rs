//! Generates the gRPC code of `proto/` without a `protoc` on the machine: protox parses, tonic generates.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["proto/echo.proto"], ["proto"])?;
    // Kept for the reflection service, which hands them to grpcurl.
    let descriptors = PathBuf::from(std::env::var("OUT_DIR")?).join("mesh.bin");
    std::fs::write(descriptors, files.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
