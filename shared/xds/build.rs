//! Describes the discovery services for gRPC reflection, without a `protoc` on the machine: protox parses.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // Described only; the code of their messages is envoy-types'.
    let kinds = ["cluster", "endpoint", "listener", "route", "secret"];
    let services = kinds.map(|kind| format!("proto/envoy/service/{kind}/v3/service.proto"));
    let discovery = protox::compile(services, ["proto"])?;
    std::fs::write(out.join("discovery.bin"), discovery.encode_to_vec())?;
    Ok(())
}
