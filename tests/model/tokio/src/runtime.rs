//! The current-thread runtime.

use std::{
    collections::VecDeque,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use shuttle::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
};

use crate::{
    sync::Notify,
    task::{JoinHandle, Outcome, Report},
};

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Makes a runtime; what does not matter to the order of events is taken and ignored.
#[derive(Debug)]
pub struct Builder(());

impl Builder {
    /// The only kind there is.
    pub fn new_current_thread() -> Self {
        Self(())
    }

    /// Ignored.
    pub fn enable_io(&mut self) -> &mut Self {
        self
    }

    /// Ignored.
    pub fn enable_time(&mut self) -> &mut Self {
        self
    }

    /// Ignored.
    pub fn thread_name(&mut self, _: &str) -> &mut Self {
        self
    }

    /// Ignored.
    pub fn thread_keep_alive(&mut self, _: Duration) -> &mut Self {
        self
    }

    /// Ignored.
    pub fn on_thread_start(&mut self, _: impl Fn()) -> &mut Self {
        self
    }

    /// The runtime.
    ///
    /// # Errors
    /// None.
    pub fn build(&mut self) -> io::Result<Runtime> {
        Ok(Runtime(Handle(Arc::new(Shared {
            core: Mutex::new(true),
            released: Notify::new(),
            ready: Mutex::default(),
            tasks: Mutex::default(),
        }))))
    }
}

struct Shared {
    /// The core is free.
    core: Mutex<bool>,
    /// Has one who waits for the core look whether it is free.
    released: Notify,
    ready: Mutex<Ready>,
    /// Every task that has not ended, and is dropped with the runtime.
    tasks: Mutex<Vec<Arc<Task>>>,
}

#[derive(Default)]
struct Ready {
    queue: VecDeque<Arc<Task>>,
    /// The thread that has the core and sleeps.
    sleeper: Option<Thread>,
}

impl Shared {
    /// Wakes the thread that has the core, if it sleeps.
    fn wake_driver(&self, task: Option<Arc<Task>>) {
        let mut ready = self.ready.lock().expect("no panics");
        ready.queue.extend(task);
        let sleeper = ready.sleeper.take();
        drop(ready);
        if let Some(sleeper) = sleeper {
            sleeper.unpark();
        }
    }
}

struct Task {
    shared: Arc<Shared>,
    queued: AtomicBool,
    work: Mutex<Option<Work>>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.shared.clone().wake_driver(Some(self));
        }
    }
}

/// Polls tasks while a thread is inside [`Runtime::block_on`].
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// There is no runtime around the caller.
#[derive(Debug)]
pub struct TryCurrentError(());

impl TryCurrentError {
    /// Always so.
    pub fn is_missing_context(&self) -> bool {
        true
    }
}

impl Handle {
    /// No caller of the model is inside a runtime of its own.
    ///
    /// # Errors
    /// Always.
    pub fn try_current() -> Result<Self, TryCurrentError> {
        Err(TryCurrentError(()))
    }

    /// Runs `future` when somebody drives.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let outcome = Arc::new(Mutex::new(Outcome::Running(None)));
        let report = Report(outcome.clone());
        let work: Work = Box::pin(async move {
            let output = future.await;
            report.end(Some(output));
        });
        let task = Arc::new(Task {
            shared: self.0.clone(),
            queued: AtomicBool::new(false),
            work: Mutex::new(Some(work)),
        });
        self.0.tasks.lock().expect("no panics").push(task.clone());
        task.wake();
        JoinHandle(outcome)
    }
}

/// The core, while a thread has it.
struct Core<'a>(&'a Shared);

impl Drop for Core<'_> {
    fn drop(&mut self) {
        *self.0.core.lock().expect("no panics") = true;
        self.0.released.notify_one();
    }
}

/// A thread that waits, and whether it was woken.
struct Parked {
    thread: Thread,
    woken: AtomicBool,
    /// It may sleep with the core.
    shared: Option<Arc<Shared>>,
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        match &self.shared {
            Some(shared) => shared.wake_driver(None),
            None => self.thread.unpark(),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Runtime(Handle);

impl Runtime {
    /// For tasks.
    pub fn handle(&self) -> &Handle {
        &self.0
    }

    /// Runs `future` to its end, and tasks meanwhile, or leaves those to the thread that has the core.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let shared = &self.0.0;
        let mut future = pin!(future);
        loop {
            let free = std::mem::take(&mut *shared.core.lock().expect("no panics"));
            if free {
                let _core = Core(shared);
                return Self::drive(shared, future);
            }
            // Somebody else has the core: only this future, until that lets go.
            let mut released = pin!(shared.released.notified());
            let parked =
                Arc::new(Parked { thread: thread::current(), woken: AtomicBool::new(false), shared: None });
            let waker = Waker::from(parked.clone());
            let mut cx = Context::from_waker(&waker);
            loop {
                if released.as_mut().poll(&mut cx).is_ready() {
                    break;
                }
                if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                    return output;
                }
                while !parked.woken.swap(false, Ordering::AcqRel) {
                    thread::park();
                }
            }
        }
    }

    fn drive<F: Future>(shared: &Arc<Shared>, mut future: Pin<&mut F>) -> F::Output {
        let parked = Arc::new(Parked {
            thread: thread::current(),
            woken: AtomicBool::new(true),
            shared: Some(shared.clone()),
        });
        let waker = Waker::from(parked.clone());
        let mut cx = Context::from_waker(&waker);
        loop {
            if parked.woken.swap(false, Ordering::AcqRel)
                && let Poll::Ready(output) = future.as_mut().poll(&mut cx)
            {
                return output;
            }
            let next = shared.ready.lock().expect("no panics").queue.pop_front();
            if let Some(task) = next {
                run(&task);
                continue;
            }
            let mut ready = shared.ready.lock().expect("no panics");
            if ready.queue.is_empty() && !parked.woken.load(Ordering::Acquire) {
                ready.sleeper = Some(parked.thread.clone());
                drop(ready);
                thread::park();
            }
        }
    }

    /// Drops every task.
    pub fn shutdown_background(self) {
        let tasks = std::mem::take(&mut *self.0.0.tasks.lock().expect("no panics"));
        self.0.0.ready.lock().expect("no panics").queue.clear();
        for task in tasks {
            let work = task.work.lock().expect("no panics").take();
            drop(work);
        }
    }
}

fn run(task: &Arc<Task>) {
    task.queued.store(false, Ordering::Release);
    let Some(mut work) = task.work.lock().expect("no panics").take() else { return };
    let waker = Waker::from(task.clone());
    if work.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        *task.work.lock().expect("no panics") = Some(work);
    }
}
