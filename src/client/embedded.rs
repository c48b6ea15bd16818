//! The engine in this process. Clients that open one directory share its engine, whoever opens
//! it first decides its options; each `embedded:` is a world of its own.

use std::{
    collections::HashMap,
    convert::Infallible,
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, Weak,
        mpsc::{self, Receiver, RecvError, Sender, TryRecvError},
    },
    time::Duration,
};

use flowmesh_server::{
    Engine, EngineOptions, ErrorKind, FsyncPolicy,
    clock::{Clock, TestClock},
    services::DEFAULT_MAX_MESSAGE_BYTES,
};
use tokio::sync::Notify;
use tonic::body::Body;
use tower::Service as _;

use super::{
    endpoint::Endpoint,
    error::{Error, Result, Status},
    options::{ClientOptions, Fsync},
};
use crate::{
    boundary::signals::SignalsBlocked,
    runtime::{PerProcess, lock},
};

/// The reply of an embedded call, to come.
pub(crate) type Response =
    <flowmesh_server::services::Services as tower::Service<http::Request<Body>>>::Future;

/// Engines by canonical directory.
static OPEN: PerProcess<Mutex<HashMap<PathBuf, Entry>>> = PerProcess::new();

struct Entry {
    engine: Weak<Shared>,
    /// Ends when the engine has closed and given up its directory.
    closed: Receiver<Infallible>,
}

impl Entry {
    fn is_gone(&self) -> bool {
        matches!(self.closed.try_recv(), Err(TryRecvError::Disconnected))
    }
}

struct Shared {
    engine: Engine,
    services: flowmesh_server::services::Services,
    /// Dropped after `drop` has closed the engine, which ends its entry's receiver.
    _open: Sender<Infallible>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.engine.close();
    }
}

/// The services of an open engine. The last clone closes it.
#[derive(Clone)]
pub(crate) struct Services {
    services: flowmesh_server::services::Services,
    _engine: Arc<Shared>,
}

impl Services {
    pub fn call(&mut self, request: http::Request<Body>) -> Response {
        self.services.call(request)
    }
}

/// An engine that a client will open with its first call.
pub(crate) struct Embedded {
    options: EngineOptions,
    clock: Option<Arc<TestClock>>,
    /// Rings when the test clock has moved.
    clock_moves: Arc<Notify>,
}

impl Embedded {
    pub fn new(endpoint: &Endpoint, options: &ClientOptions) -> Result<Self> {
        let data_dir = match endpoint {
            // Absolute, so that a later chdir of the host changes nothing.
            Endpoint::Directory(dir) => Some(std::path::absolute(dir).map_err(|e| {
                Error::invalid(format!("endpoint `{endpoint}`: the path cannot be made absolute: {e}"))
            })?),
            _ => None,
        };
        if options.test_clock && data_dir.is_some() {
            return Err(Error::invalid("test_clock is for the endpoint `embedded:`, in memory, only"));
        }
        let clock = options.test_clock.then(TestClock::new);
        let clock_moves = Arc::new(Notify::new());
        if let Some(clock) = &clock {
            let moves = clock_moves.clone();
            Clock::Test(clock.clone()).on_advance(move || moves.notify_waiters());
        }
        let options = EngineOptions {
            data_dir,
            fsync: match options.fsync {
                Fsync::Always => FsyncPolicy::Always,
                Fsync::Interval(time) => FsyncPolicy::Interval(time),
                Fsync::None => FsyncPolicy::None,
            },
            create: options.create,
            max_resources: usize::MAX,
            max_groups: usize::MAX,
            clock: clock.clone().map_or(Clock::System, Clock::Test),
        };
        Ok(Self { options, clock, clock_moves })
    }

    /// Opens the engine, or joins the one that this process has open. Blocks for its recovery.
    pub fn open(&self) -> Result<Services> {
        let Some(dir) = &self.options.data_dir else { return Ok(services(Arc::new(self.engine()?.0))) };
        // Held while an engine opens, so that two clients cannot open one directory twice.
        let mut open = lock(OPEN.of_this_process());
        open.retain(|_, entry| !entry.is_gone());
        // A directory that does not exist cannot be open; the engine may then create it.
        if let Some(entry) = fs::canonicalize(dir).ok().and_then(|path| open.get(&path)) {
            if let Some(engine) = entry.engine.upgrade() {
                return Ok(services(engine));
            }
            // Its last user is just closing it: the directory is free in a moment.
            let Err(RecvError) = entry.closed.recv();
        }
        let (engine, closed) = self.engine()?;
        let engine = Arc::new(engine);
        let path = fs::canonicalize(dir)
            .map_err(|e| Error::local(Status::INTERNAL, format!("data directory {}: {e}", dir.display())))?;
        open.insert(path, Entry { engine: Arc::downgrade(&engine), closed });
        Ok(services(engine))
    }

    fn engine(&self) -> Result<(Shared, Receiver<Infallible>)> {
        let _blocked = SignalsBlocked::new();
        let engine = Engine::open(&self.options).map_err(|e| {
            let status = match e.kind() {
                ErrorKind::InvalidArgument => Status::INVALID_ARGUMENT,
                // Of a call, NOT_FOUND would say that there is no such key, stream or queue.
                ErrorKind::NotFound | ErrorKind::FailedPrecondition => Status::FAILED_PRECONDITION,
                ErrorKind::PermissionDenied => Status::PERMISSION_DENIED,
                ErrorKind::ResourceExhausted => Status::RESOURCE_EXHAUSTED,
                ErrorKind::Unavailable => Status::UNAVAILABLE,
                ErrorKind::Internal => Status::INTERNAL,
            };
            Error::local(status, format!("open the embedded engine: {}", e.message()))
        })?;
        let services = flowmesh_server::services::Services::new(engine.clone(), DEFAULT_MAX_MESSAGE_BYTES);
        let (open, closed) = mpsc::channel();
        Ok((Shared { engine, services, _open: open }, closed))
    }

    /// What the test clock shows.
    pub fn test_clock_ns(&self) -> Option<i64> {
        self.clock.clone().map(|clock| Clock::Test(clock).now_ns())
    }

    /// Rings when the test clock has moved; `None` without one.
    pub fn test_clock_moves(&self) -> Option<Arc<Notify>> {
        self.clock.is_some().then(|| self.clock_moves.clone())
    }

    /// Moves the test clock forward.
    pub fn advance_clock(&self, by: Duration) -> Result<()> {
        match &self.clock {
            Some(clock) => {
                clock.advance(by);
                Ok(())
            }
            None => Err(no_test_clock()),
        }
    }
}

fn services(engine: Arc<Shared>) -> Services {
    Services { services: engine.services.clone(), _engine: engine }
}

pub(crate) fn no_test_clock() -> Error {
    Error::local(
        Status::FAILED_PRECONDITION,
        "the client has no test clock: open `embedded:` with the test_clock option",
    )
}

/// Runs one poll of a blocking caller's future with leave to commit in this thread.
pub(crate) fn inline<R>(poll: impl FnOnce() -> R) -> R {
    flowmesh_server::commit::inline(poll)
}

/// Runs one poll that hands in several operations: they are left to the engine's thread, which
/// commits together what has gathered.
pub(crate) fn gathered<R>(poll: impl FnOnce() -> R) -> R {
    flowmesh_server::commit::gathered(poll)
}
