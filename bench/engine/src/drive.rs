//! How operations are driven: one caller in its own thread, as the embedded library does it, or
//! many as tasks on a runtime with a worker per core, as the server does it.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use flowmesh_server::commit;
use tokio::runtime::Runtime;

use crate::measure::{Sample, Window};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs `future` in this thread, which may also commit.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = commit::inline(|| future.as_mut().poll(&mut context)) {
            return output;
        }
        thread::park();
    }
}

/// A runtime as the server has it.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_time().build().expect("threads can be started")
}

/// Has `callers` repeat an operation, each with one outstanding, and times every one of them.
/// `operation(caller, turn)` stands for `weight` operations.
pub fn repeat<O, F>(
    runtime: &Runtime,
    callers: usize,
    weight: usize,
    length: Duration,
    operation: O,
) -> Sample
where
    O: Fn(usize, usize) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let window = Window::new(length);
    let mut latencies = Vec::new();
    if callers == 1 {
        for turn in 0.. {
            if !window.open() {
                break;
            }
            let start = Instant::now();
            block_on(operation(0, turn));
            window.keep(start, &mut latencies);
        }
    } else {
        let tasks: Vec<_> = (0..callers)
            .map(|caller| {
                let operation = operation.clone();
                runtime.spawn(async move {
                    let mut latencies = Vec::new();
                    for turn in 0.. {
                        if !window.open() {
                            break;
                        }
                        let start = Instant::now();
                        operation(caller, turn).await;
                        window.keep(start, &mut latencies);
                    }
                    latencies
                })
            })
            .collect();
        for task in tasks {
            latencies.extend(runtime.block_on(task).expect("the operation does not panic"));
        }
    }
    Sample::new(latencies, weight, window.length())
}

/// Runs `count` operations as fast as `callers` tasks can, untimed: for loading.
pub fn load<O, F>(runtime: &Runtime, callers: usize, count: usize, operation: O)
where
    O: Fn(usize) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let operation = operation.clone();
            runtime.spawn(async move {
                for i in (caller..count).step_by(callers) {
                    operation(i).await;
                }
            })
        })
        .collect();
    for task in tasks {
        runtime.block_on(task).expect("the operation does not panic");
    }
}
