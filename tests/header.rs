//! `include/flowmesh.h` is what the build makes of `src/capi`.
//!
//! `FLOWMESH_RENEW_HEADER=1 cargo test --test header` (`make header`) writes it anew.

const BUILT: &str = include_str!(concat!(env!("OUT_DIR"), "/flowmesh.h"));
const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/include/flowmesh.h");

#[test]
fn the_committed_header_is_what_the_build_makes() {
    if std::env::var_os("FLOWMESH_RENEW_HEADER").is_some() {
        std::fs::write(COMMITTED, BUILT).expect("include/flowmesh.h can be written");
    }
    let committed = std::fs::read_to_string(COMMITTED).expect("include/flowmesh.h can be read");
    for (number, (have, want)) in (1..).zip(committed.lines().zip(BUILT.lines())) {
        assert_eq!(have, want, "include/flowmesh.h:{number} is out of date: run `make header`");
    }
    assert_eq!(committed.len(), BUILT.len(), "include/flowmesh.h is out of date: run `make header`");
}

#[test]
fn the_version_macros_are_the_version_of_the_package() {
    for (name, value) in [
        ("MAJOR", env!("CARGO_PKG_VERSION_MAJOR").to_owned()),
        ("MINOR", env!("CARGO_PKG_VERSION_MINOR").to_owned()),
        ("PATCH", env!("CARGO_PKG_VERSION_PATCH").to_owned()),
        ("STRING", format!("\"{}\"", env!("CARGO_PKG_VERSION"))),
    ] {
        let line = format!("#define FLOWMESH_VERSION_{name} {value}\n");
        assert!(BUILT.contains(&line), "cbindgen.toml lacks `{}`", line.trim());
    }
}
