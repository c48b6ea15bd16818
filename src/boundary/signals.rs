//! The signal mask of threads.

use std::{marker::PhantomData, mem::MaybeUninit, ptr};

/// Blocks the signals that the system sends to a process in the current thread until it is
/// dropped. Threads started meanwhile keep them blocked: the host's handlers run in the host's
/// own threads.
pub(crate) struct SignalsBlocked {
    before: libc::sigset_t,
    /// A mask is restored in the thread where it was changed.
    not_send: PhantomData<*const ()>,
}

/// Raised by what a thread itself does; blocked, they would end the process without the host's
/// handler.
const OF_THE_THREAD: [libc::c_int; 5] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP];

impl SignalsBlocked {
    pub fn new() -> Self {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset writes the whole set it is given; sigdelset gets an initialised one
        // and valid signal numbers; pthread_sigmask reads the first set and writes the second.
        // None of them fails with these arguments.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            for signal in OF_THE_THREAD {
                libc::sigdelset(all.as_mut_ptr(), signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr());
            Self { before: before.assume_init(), not_send: PhantomData }
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: `before` is a mask that the system handed out; no old mask is asked for.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut());
        }
    }
}
