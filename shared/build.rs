//! Generates the gRPC code of `proto/` without a `protoc` on the machine: protox parses, tonic generates.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let ours = protox::compile(["proto/echo.proto", "proto/hello.proto"], ["proto"])?;
    // Kept for the reflection services, which hand them to grpcurl.
    std::fs::write(out.join("mesh.bin"), ours.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(ours)?;
    Ok(())
}
