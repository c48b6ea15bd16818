//! Calls that run on the library's own thread and end with a completion.
//!
//! Each that was accepted gets exactly one, on the client's dispatcher: with its result, or with
//! an error when it was cancelled, its client closed, the library was shut down or the call
//! panicked.

use std::{
    marker::PhantomData,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use futures_util::{
    FutureExt as _,
    stream::{FuturesUnordered, StreamExt as _},
};

use super::{
    client::{Client, Inner, UnderWay},
    error::{Error, Outcome, Result, Status},
};
use crate::runtime::{Dispatcher, Once, OwnedByProcess, Pinned, lock};

/// The calls of a client that have a completion.
pub(crate) struct Operations(Mutex<Inbox>);

struct Inbox {
    /// Accepted, and not yet begun. In the child of a fork they are left alone.
    new: OwnedByProcess<Vec<Pending>>,
    /// There is a task that runs them.
    running: bool,
    /// Wakes that task, when it waits.
    waker: Option<Waker>,
}

type Pending = Pin<Box<dyn Future<Output = Completion> + Send>>;

/// A call that has ended. It counts as under way until its completion is handed over.
struct Completion {
    once: Once,
    under_way: UnderWay,
}

impl Default for Operations {
    fn default() -> Self {
        let new = OwnedByProcess::new(Vec::new());
        Self(Mutex::new(Inbox { new, running: false, waker: None }))
    }
}

impl Client {
    /// Runs `operation`; `done` gets its result on the client's dispatcher. On failure nothing was
    /// started, and `done` is dropped.
    pub(crate) fn start<T, F, D>(&self, operation: F, done: D) -> Result<()>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
        D: FnOnce(Result<T>) + Send + 'static,
    {
        let inner = self.inner();
        // Before the check, so that a close either waits for the call or has it refused.
        let under_way = inner.enter();
        inner.check()?;
        let dispatcher = self.dispatcher()?;
        let driver = inner.driver()?;
        let mut inbox = lock(&inner.operations().0);
        let pin = if inbox.running { None } else { Some(driver.pin()?) };
        let mut unfinished = Unfinished {
            dispatcher: dispatcher.clone(),
            group: self.identity(),
            parts: Some((done, under_way)),
            _result: PhantomData,
        };
        // Not an async block, which would hold the operation twice: as given, and as awaited.
        inbox.new.get_mut().push(Box::pin(AssertUnwindSafe(operation).catch_unwind().map(move |result| {
            let result = result.unwrap_or_else(|panic| Err(Error::defect(&*panic)));
            let (done, under_way) = unfinished.parts.take().expect("only this takes them");
            Completion { once: Box::new(move || done(result)), under_way }
        })));
        let Some(pin) = pin else {
            let waker = inbox.waker.take();
            drop(inbox);
            if let Some(waker) = waker {
                waker.wake();
            }
            return Ok(());
        };
        inbox.running = true;
        drop(inbox);
        let runner = Runner {
            inner: inner.clone(),
            dispatcher,
            group: self.identity(),
            active: FuturesUnordered::new(),
            ended: false,
            _pin: pin,
        };
        // One task polls many calls: tokio's fairness between tasks would only interrupt it.
        driver.handle().spawn(tokio::task::unconstrained(runner));
        Ok(())
    }
}

/// Completes a call that is dropped before its end.
struct Unfinished<T: Send + 'static, D: FnOnce(Result<T>) + Send + 'static> {
    dispatcher: Dispatcher,
    group: usize,
    parts: Option<(D, UnderWay)>,
    _result: PhantomData<fn(T)>,
}

impl<T: Send + 'static, D: FnOnce(Result<T>) + Send + 'static> Drop for Unfinished<T, D> {
    fn drop(&mut self) {
        if let Some((done, _under_way)) = self.parts.take() {
            let error = Error::local(Status::CLOSED, "the library was shut down before the call had ended")
                .with_outcome(Outcome::Unknown);
            let once: Once = Box::new(move || done(Err(error)));
            self.dispatcher.post(self.group, [once]);
        }
    }
}

/// Runs the calls of a client as long as there are any.
struct Runner {
    inner: Arc<Inner>,
    dispatcher: Dispatcher,
    group: usize,
    active: FuturesUnordered<Pending>,
    /// It has seen that there are none; from then on another runner may be at work.
    ended: bool,
    _pin: Pinned,
}

impl Future for Runner {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let (mut onces, mut ended) = (Vec::new(), Vec::new());
        loop {
            {
                let mut inbox = lock(&this.inner.operations().0);
                this.active.extend(inbox.new.get_mut().drain(..));
                if this.active.is_empty() {
                    inbox.running = false;
                    this.ended = true;
                    return Poll::Ready(());
                }
                inbox.waker = Some(cx.waker().clone());
            }
            while let Poll::Ready(Some(Completion { once, under_way })) = this.active.poll_next_unpin(cx) {
                onces.push(once);
                ended.push(under_way);
            }
            if onces.is_empty() {
                return Poll::Pending;
            }
            this.dispatcher.post(this.group, onces.drain(..));
            ended.clear();
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // A runtime that ends drops it early; calls that were not begun hold the client, and the
        // client holds them.
        let left = {
            let mut inbox = lock(&self.inner.operations().0);
            inbox.running = false;
            inbox.waker = None;
            std::mem::take(inbox.new.get_mut())
        };
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc,
        thread,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::{
        client::{CallOptions, ClientOptions, Timeout},
        runtime::Generation,
    };

    fn in_memory(dispatcher: Option<Dispatcher>) -> Client {
        let options = ClientOptions { endpoint: Some("embedded:".into()), ..ClientOptions::default() };
        Client::open_on(options, dispatcher).expect("options are right")
    }

    fn own() -> Dispatcher {
        Generation::current().and_then(|g| g.own_dispatcher()).expect("a dispatcher")
    }

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(20))
    }

    #[test]
    fn a_completion_brings_the_result_to_the_callback_thread() {
        let client = in_memory(None);
        let (sender, receiver) = mpsc::channel();
        let asked = client.clone();
        client
            .start(async move { asked.readiness_check(&CallOptions::default()).await }, move |result| {
                let _ = sender.send((result, thread::current().name().map(str::to_owned)));
            })
            .expect("it starts");
        let (result, thread) = receiver.recv_timeout(Duration::from_secs(20)).expect("a completion");
        assert_eq!((result, thread.as_deref()), (Ok(true), Some("flowmesh-callback")));
    }

    #[test]
    fn a_panic_completes_too() {
        let client = in_memory(None);
        let (sender, receiver) = mpsc::channel();
        let panics = async { panic!("on purpose") };
        client.start(panics, move |result: Result<()>| drop(sender.send(result))).expect("it starts");
        let result = receiver.recv_timeout(Duration::from_secs(20)).expect("a completion");
        assert_eq!(result.map_err(|e| e.status()), Err(Status::INTERNAL));
    }

    #[test]
    fn an_own_dispatcher_runs_completions_where_it_is_run() {
        let dispatcher = own();
        let client = in_memory(Some(dispatcher.clone()));
        let (sender, receiver) = mpsc::channel();
        for _ in 0..100 {
            let (asked, sender) = (client.clone(), sender.clone());
            client
                .start(async move { asked.health_check(&CallOptions::default()).await }, move |result| {
                    let _ = sender.send((result, thread::current().id()));
                })
                .expect("it starts");
        }
        let mut ran = 0;
        while ran < 100 {
            let more = dispatcher.run(7, soon()).expect("it may run");
            assert!((1..=7).contains(&more));
            ran += more;
        }
        assert_eq!(dispatcher.run(0, Some(Instant::now())), Ok(0));
        let here = thread::current().id();
        assert!(receiver.try_iter().all(|seen| seen == (Ok(()), here)));
    }

    #[test]
    fn a_close_delivers_what_nobody_ran() {
        let dispatcher = own();
        let client = in_memory(Some(dispatcher.clone()));
        let (sender, receiver) = mpsc::channel();
        let (asked, gone) = (client.clone(), client.clone());
        let never_ends = async move {
            let options = CallOptions { timeout: Timeout::Never, ..CallOptions::default() };
            asked
                .until_ended(&options, None, std::future::pending::<()>())
                .await
                .map_err(|_| gone.inner().closed_error())
        };
        client.start(never_ends, move |result| drop(sender.send(result))).expect("it starts");
        client.wait(client.close(Timeout::After(Duration::from_secs(20)))).expect("it closes");
        assert!(dispatcher.join(Some(client.identity()), soon()));
        assert_eq!(receiver.try_recv().map(|r| r.map_err(|e| e.status())), Ok(Err(Status::CLOSED)));
    }

    #[test]
    fn an_heir_runs_what_the_application_does_not() {
        let dispatcher = own();
        let client = in_memory(Some(dispatcher.clone()));
        let (sender, receiver) = mpsc::channel();
        let asked = client.clone();
        let health = async move { asked.health_check(&CallOptions::default()).await };
        client
            .start(health, move |result| {
                drop(sender.send((result, thread::current().name().map(str::to_owned))))
            })
            .expect("it starts");
        let heir = Generation::current().and_then(|g| g.dispatcher().cloned()).expect("the default");
        dispatcher.bequeath(heir);
        let (result, thread) = receiver.recv_timeout(Duration::from_secs(20)).expect("a completion");
        assert_eq!((result, thread.as_deref()), (Ok(()), Some("flowmesh-callback")));
        assert!(dispatcher.join(Some(client.identity()), soon()));
    }
}
