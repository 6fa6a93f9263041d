//! Compiles the protocol without a system protoc: messages, services, and proto3 JSON of the messages.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["sessions", "routers", "operator", "agent"]
        .map(|name| format!("voicelane/v1/{name}.proto"));
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let encoded = descriptors.encode_to_vec();
    fs::write(out.join("voicelane.v1.fds"), &encoded)?;
    // Fields with their default value are printed, too: a script finds `false` and "0", not a hole.
    pbjson_build::Builder::new()
        .register_descriptors(&encoded)?
        .emit_fields()
        .build(&[".voicelane.v1"])?;
    let mut config = tonic_prost_build::Config::new();
    // The codec tells requests from answers by their names.
    config.enable_type_names();
    tonic_prost_build::configure()
        .codec_path("crate::codec::Codec")
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
