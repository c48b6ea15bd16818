//! The guard around every export: no panic crosses into C, and errors go out by one way.

use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe, catch_unwind},
    ptr,
    sync::Once,
    thread,
};

use super::{handle, nullable::NullableError};
use crate::{
    capi::status::{FLOWMESH_OK, flowmesh_status_t},
    client::{Error, Result},
};

/// Runs a call that can fail. On success *error is NULL, on failure an error object. `f` writes
/// its outputs last, when nothing can fail any more.
pub fn call(error: NullableError<'_>, f: impl FnOnce() -> Result<()>) -> flowmesh_status_t {
    let result = caught(f).unwrap_or_else(|panic| Err(Error::defect(&*panic)));
    match (result, error) {
        (Ok(()), None) => FLOWMESH_OK,
        (Ok(()), Some(out)) => {
            out.write(ptr::null_mut());
            FLOWMESH_OK
        }
        (Err(e), None) => e.status().0,
        (Err(e), Some(out)) => {
            let status = e.status().0;
            handle::give(out, e.into());
            status
        }
    }
}

/// Runs a call that cannot fail; a panic yields `fallback`.
pub fn plain<T>(fallback: T, f: impl FnOnce() -> T) -> T {
    caught(f).unwrap_or(fallback)
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Catches a panic of `f` without a word on the host's stderr: the error object tells it.
fn caught<T>(f: impl FnOnce() -> T) -> thread::Result<T> {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            // A thread that is ending has no thread-locals left, and nothing to restore.
            let _ = GUARDED.try_with(|guarded| guarded.set(self.0));
        }
    }
    be_silent();
    let _restore = Restore(GUARDED.try_with(|guarded| guarded.replace(true)).unwrap_or(false));
    catch_unwind(AssertUnwindSafe(f))
}

/// Rust's default is to print a panic. Those that are caught here, or on a thread of ours, are
/// not printed; any other (of a Rust program that uses this crate) goes its way.
fn be_silent() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let ours = thread::current().name().is_some_and(|name| name.starts_with("flowmesh-"));
            if !ours && !GUARDED.try_with(Cell::get).unwrap_or(false) {
                print(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Status;

    #[test]
    fn a_panic_becomes_internal_and_is_not_printed() {
        let (silent, status) = std::thread::scope(|scope| {
            let guarded = scope.spawn(|| {
                let mut seen = false;
                let status = call(None, || {
                    seen = GUARDED.get();
                    panic!("on purpose");
                });
                (seen && !GUARDED.get(), status)
            });
            guarded.join().expect("the guard catches it")
        });
        assert!(silent);
        assert_eq!(status, Status::INTERNAL.0);
        assert_eq!(plain(7, || panic!("on purpose")), 7);
    }
}
