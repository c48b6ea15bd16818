//! Another static library in Rust, with a runtime of its own.

/// Whether a panic comes back as one.
#[unsafe(no_mangle)]
pub extern "C" fn other_catches_a_panic() -> i32 {
    std::panic::set_hook(Box::new(|_| {}));
    std::panic::catch_unwind(|| panic!("caught")).is_err().into()
}
