//! One target under libFuzzer; FLOWMESH_FUZZ names it. `fuzz/run` builds and runs this.

#![no_main]

use std::sync::OnceLock;

use flowmesh_fuzz::{Target, target};

static CHOSEN: OnceLock<&'static Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var("FLOWMESH_FUZZ").expect("FLOWMESH_FUZZ names the target");
        CHOSEN.get_or_init(|| target(&name).expect("FLOWMESH_FUZZ names a target"));
    },
    |data: &[u8]| {
        if let Some(target) = CHOSEN.get() {
            (target.run)(data);
        }
    }
);
