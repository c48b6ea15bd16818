//! The other side of callbacks: what user data has been through, and what callbacks were given.

use std::{
    collections::HashMap,
    ffi::c_void,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use super::header;

/// Nothing takes so long, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// Verdict of job handlers.
pub static VERDICT: AtomicI32 = AtomicI32::new(0);

#[derive(Default)]
struct User {
    completions: usize,
    /// How many there must be once it is dropped.
    expected: Option<usize>,
}

/// User data that has not been dropped, by number.
#[derive(Default)]
struct Users {
    alive: HashMap<usize, User>,
    last: usize,
    /// What callbacks were given and nobody has freed.
    given: Vec<(&'static str, usize)>,
}

static USERS: Mutex<Option<Users>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();

fn users() -> MutexGuard<'static, Option<Users>> {
    let mut users = USERS.lock().unwrap_or_else(PoisonError::into_inner);
    users.get_or_insert_default();
    users
}

fn edit<R>(f: impl FnOnce(&mut Users) -> R) -> R {
    let result = f(users().get_or_insert_default());
    CHANGED.notify_all();
    result
}

/// New user data.
pub fn make() -> usize {
    edit(|users| {
        users.last += 1;
        users.alive.insert(users.last, User::default());
        users.last
    })
}

/// The call that took `user` has returned; so many completions will come.
pub fn taken(user: usize, completions: Option<usize>) {
    edit(|users| {
        if let Some(user) = users.alive.get_mut(&user) {
            user.expected = completions;
        }
    });
}

/// Whether it was dropped.
pub fn is_dropped(user: usize) -> bool {
    edit(|users| !users.alive.contains_key(&user))
}

/// A callback runs.
pub fn called(user: *mut c_void, completes: bool) {
    if user.is_null() {
        return;
    }
    let completions = edit(|users| {
        let user = users.alive.get_mut(&(user as usize)).expect("a callback came behind its drop");
        user.completions += usize::from(completes);
        user.completions
    });
    assert!(completions <= 1, "a second completion");
}

/// The application's drop function.
pub extern "C" fn dropped(user: *mut c_void) {
    if user.is_null() {
        return;
    }
    let user = edit(|users| users.alive.remove(&(user as usize))).expect("user data is dropped twice");
    if let Some(expected) = user.expected {
        assert_eq!(user.completions, expected, "completions before the drop");
    }
}

/// A callback was given something that it must free.
pub fn given(kind: &'static str, handle: *mut c_void) {
    if !handle.is_null() {
        edit(|users| users.given.push((kind, handle as usize)));
    }
}

/// Takes what callbacks were given.
pub fn take_given() -> Vec<(&'static str, usize)> {
    edit(|users| std::mem::take(&mut users.given))
}

/// A callback was lent something; what can be kept is kept.
pub fn lent(kind: &'static str, handle: *mut c_void) {
    if handle.is_null() {
        return;
    }
    match kind {
        "flowmesh_message_batch_t" => {
            let mut kept: *mut c_void = std::ptr::null_mut();
            // SAFETY: the batch is lent for this call, the output is ours.
            let status = unsafe {
                assert!(header::flowmesh_message_batch_count(handle) > 0, "an empty batch");
                header::flowmesh_message_batch_retain(handle, (&raw mut kept).cast(), std::ptr::null_mut())
            };
            assert_eq!(status, 0, "a batch is retained");
            given(kind, kept);
        }
        "flowmesh_report_batch_t" => {
            // SAFETY: the reports are lent for this call.
            unsafe {
                let count = header::flowmesh_report_batch_count(handle);
                assert!(count > 0, "an empty batch");
                assert!(!header::flowmesh_report_batch_at(handle, count - 1).is_null());
                assert!(header::flowmesh_report_batch_at(handle, count).is_null());
            }
        }
        _ => {}
    }
}

/// A handler of jobs: the verdict that the program says.
pub fn handle(job: *mut c_void, delay_ms: *mut c_void) -> i32 {
    const LEAVE: i32 = 3;
    let verdict = VERDICT.load(Ordering::Relaxed);
    if verdict == LEAVE {
        given("flowmesh_job_t", job);
    }
    if verdict & 8 != 0 {
        // SAFETY: an int64_t that the handler may set.
        unsafe { delay_ms.cast::<i64>().write(i64::from(verdict) - 9) };
    }
    verdict & 7
}

/// Waits until all of `of` have been dropped (true), or callbacks were given something (false).
pub fn wait_for_drops(of: &[usize]) -> bool {
    let waits = |users: &mut Option<Users>| {
        let users = users.get_or_insert_default();
        users.given.is_empty() && of.iter().any(|user| users.alive.contains_key(user))
    };
    let waited = CHANGED.wait_timeout_while(users(), PATIENCE, waits);
    let (users, time) = waited.unwrap_or_else(PoisonError::into_inner);
    assert!(!time.timed_out(), "user data was not dropped");
    users.as_ref().is_some_and(|users| users.given.is_empty())
}
