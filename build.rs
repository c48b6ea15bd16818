//! Makes the C header from `src/capi` in OUT_DIR, and gives the shared library its soname.
//!
//! `include/flowmesh.h` is a copy of the header; `tests/header.rs` compares the two.

use std::{env, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=src/capi");
    println!("cargo::rerun-if-changed=cbindgen.toml");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));

    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml is readable");
    cbindgen::Builder::new()
        .with_config(config)
        .with_src(root.join("src/capi/mod.rs"))
        .generate()
        .expect("src/capi can be read as C declarations")
        .write_to_file(out.join("flowmesh.h"));

    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        let abi = env::var("CARGO_PKG_VERSION_MAJOR").expect("cargo sets the version");
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libflowmesh.so.{abi}");
        // The library has threads: unmapping it under them would crash the host.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
