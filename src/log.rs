//! What an operator should know, told to one callback of the process. Without one nothing is said,
//! and a record that nobody wants costs one load.
//!
//! A facade of its own: the library must not touch the logger of a host program, and records name
//! the client they are about. Whoever writes a record holds no lock. Records never hold payloads,
//! keys or tokens.

#[cfg(feature = "embedded")]
mod engine;

use std::{
    cell::Cell,
    fmt,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use crate::runtime::{PerProcess, lock};

/// How much a record matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Something failed and somebody has to act.
    Error = 1,
    /// Something failed and the library deals with it.
    Warn = 2,
    /// Connections, subscriptions, shutdown: what happens rarely.
    Info = 3,
    /// More, for those who look for a fault.
    Debug = 4,
}

/// One thing told.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// How much it matters.
    pub level: Level,
    /// What it is about: "connection", "call", "subscription", "engine", ...
    pub target: &'a str,
    /// The client's number, 0 when it is about none.
    pub client: u64,
    /// One line.
    pub text: &'a str,
}

/// Writes a record, its text made only if somebody listens: level, target, client id, format.
macro_rules! log {
    ($level:ident, $target:literal, $client:expr, $($text:tt)+) => {
        if $crate::log::enabled($crate::log::Level::$level) {
            $crate::log::write($crate::log::Level::$level, $target, $client, format_args!($($text)+));
        }
    };
}
pub(crate) use log;

type Callback = dyn Fn(&Record<'_>) + Send + Sync;

/// The least important level that is told, 0 for none. The callback itself is looked for after.
static LEVEL: AtomicU8 = AtomicU8::new(0);
static LISTENER: PerProcess<Mutex<Option<Listener>>> = PerProcess::new();

thread_local! {
    /// The thread is inside the callback.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

#[derive(Clone)]
struct Listener {
    level: Level,
    callback: Arc<Callback>,
    calls: Arc<Calls>,
}

/// Calls of one callback that are under way.
#[derive(Default)]
struct Calls {
    count: Mutex<usize>,
    none: Condvar,
}

/// Has `callback` told every record from the most important level to `level`, in place of the
/// present one; `None` is silence. It may run on any thread, several at once; what it causes
/// itself is not told. The former callback is not called any more when this returns, and
/// dropped; inside a callback this does not wait, and the callback is dropped at its end.
pub fn set_callback(listener: Option<(Level, Box<Callback>)>) {
    let listener = listener.map(|(level, callback)| Listener {
        level,
        callback: callback.into(),
        calls: Arc::default(),
    });
    let former = {
        let mut slot = lock(LISTENER.of_this_process());
        LEVEL.store(listener.as_ref().map_or(0, |l| l.level as u8), Ordering::Relaxed);
        std::mem::replace(&mut *slot, listener)
    };
    #[cfg(feature = "embedded")]
    engine::level_changed();
    if let Some(former) = former
        && !INSIDE.get()
    {
        let calls = former.calls.clone();
        let mut count = lock(&calls.count);
        while *count > 0 {
            count = calls.none.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Has the callback told what an embedded engine says, unless the program takes the records of
/// the crate `tracing` by itself.
pub(crate) fn listen_to_engines() {
    #[cfg(feature = "embedded")]
    engine::listen();
}

/// Whether a record of `level` would be told.
#[inline]
pub(crate) fn enabled(level: Level) -> bool {
    level as u8 <= LEVEL.load(Ordering::Relaxed)
}

/// Tells a record. The caller holds no lock.
#[cold]
pub(crate) fn write(level: Level, target: &str, client: u64, text: fmt::Arguments<'_>) {
    /// Lets go of the callback, then of the count: who waits for that may drop the callback.
    struct Call {
        callback: Option<Arc<Callback>>,
        calls: Arc<Calls>,
    }
    impl Drop for Call {
        fn drop(&mut self) {
            self.callback = None;
            INSIDE.set(false);
            let mut count = lock(&self.calls.count);
            *count -= 1;
            if *count == 0 {
                self.calls.none.notify_all();
            }
        }
    }

    if INSIDE.get() {
        return;
    }
    let call = {
        let slot = lock(LISTENER.of_this_process());
        match &*slot {
            Some(listener) if level <= listener.level => {
                *lock(&listener.calls.count) += 1;
                Call { callback: Some(listener.callback.clone()), calls: listener.calls.clone() }
            }
            _ => return,
        }
    };
    INSIDE.set(true);
    if let Some(callback) = &call.callback {
        let text = one_line(text);
        callback(&Record { level, target, client, text: &text });
    }
}

/// The text without line breaks and other control characters: peers have their say in it.
fn one_line(text: fmt::Arguments<'_>) -> String {
    let text = text.to_string();
    if text.contains(char::is_control) { text.replace(char::is_control, " ") } else { text }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            atomic::{AtomicBool, AtomicUsize},
            mpsc,
        },
        thread,
    };

    use super::*;

    /// There is one callback per process, and tests run side by side.
    static ALONE: Mutex<()> = Mutex::new(());

    fn listen(level: Level, callback: impl Fn(&Record<'_>) + Send + Sync + 'static) {
        set_callback(Some((level, Box::new(callback))));
    }

    /// Records of these tests only.
    fn ours(record: &Record<'_>) -> bool {
        record.target == "test"
    }

    #[test]
    fn levels_are_kept_and_lines_are_one() {
        let _alone = lock(&ALONE);
        let (sender, told) = mpsc::channel();
        let sender = Mutex::new(sender);
        listen(Level::Info, move |record| {
            if ours(record) {
                lock(&sender).send((record.level, record.client, record.text.to_owned())).expect("listens");
            }
        });
        log!(Debug, "test", 1, "not told");
        log!(Info, "test", 2, "a\nb {}", 7);
        log!(Error, "test", 0, "worse");
        set_callback(None);
        log!(Error, "test", 3, "nobody listens");
        let told: Vec<_> = told.iter().collect();
        assert_eq!(told, [(Level::Info, 2, "a b 7".to_owned()), (Level::Error, 0, "worse".to_owned())]);
    }

    #[test]
    fn what_the_callback_causes_is_not_told() {
        let _alone = lock(&ALONE);
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        listen(Level::Debug, move |record| {
            if ours(record) {
                counter.fetch_add(1, Ordering::Relaxed);
                log!(Error, "test", 0, "again");
            }
        });
        log!(Error, "test", 0, "once");
        log!(Error, "test", 0, "twice");
        set_callback(None);
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_callback_is_replaced_after_its_last_call() {
        let _alone = lock(&ALONE);
        let (entered, inside) = mpsc::channel();
        let (leave, wait) = mpsc::channel::<()>();
        let over = Arc::new(AtomicBool::new(false));
        let (entered, wait, ended) = (Mutex::new(entered), Mutex::new(wait), over.clone());
        listen(Level::Debug, move |record| {
            if ours(record) {
                lock(&entered).send(()).expect("the test listens");
                let _ = lock(&wait).recv();
                ended.store(true, Ordering::Release);
            }
        });
        let logging = thread::spawn(|| log!(Error, "test", 0, "slow"));
        inside.recv().expect("the callback runs");
        let replacing = {
            let over = over.clone();
            thread::spawn(move || {
                set_callback(None);
                over.load(Ordering::Acquire)
            })
        };
        leave.send(()).expect("the callback waits");
        assert!(replacing.join().expect("it returns"), "the callback was still running");
        logging.join().expect("it returns");
    }

    #[test]
    fn a_callback_may_unset_itself() {
        let _alone = lock(&ALONE);
        let (sender, dropped) = mpsc::channel::<()>();
        let sender = Mutex::new(sender);
        listen(Level::Debug, move |record| {
            if ours(record) {
                set_callback(None);
                // Still there: it is dropped when this call ends.
                lock(&sender).send(()).expect("the test listens");
            }
        });
        log!(Error, "test", 0, "the last");
        assert_eq!(dropped.iter().count(), 1);
    }
}
