//! The connections to one server, and who gets a place on them.
//!
//! Calls that are answered at once share one connection; when all its places are taken they wait
//! for one in the order they came. Calls that may wait long (subscriptions, long polls) have
//! connections of their own, as many as they need, so that they never hold up the others.

use std::{
    future::poll_fn,
    io,
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use h2::client::{Builder, SendRequest};
use http::uri::Authority;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use super::frames::{Departures, Watched};
use crate::{
    client::{
        connect::{ConnectError, Target, connect},
        link::Link,
        statistics::Statistics,
    },
    log::log,
    runtime::lock,
};

/// What a subscriber or reader may have under way per call, in bytes.
const STREAM_WINDOW: u32 = 4 << 20;
/// So large that unread small frames of slow subscribers never use it up: h2 ends a connection
/// that holds too many of them, by a budget derived from this window. The stream windows bound
/// the memory.
const CONNECTION_WINDOW: u32 = 1 << 30;
const MAX_FRAME: u32 = 256 << 10;
/// Headers and trailers of a reply, in bytes.
const MAX_HEADERS: u32 = 16 << 10;
/// Calls on the wire; above it both sides only spend time on their queues.
const MOST_CALLS: usize = 200;
/// Waiting calls on one connection.
const MOST_WAITS: usize = 1000;
/// In place of the server's limit until it is known. No server can announce it.
const UNKNOWN_LIMIT: usize = usize::MAX - 1;

/// A server and the connections to it. They end with it, and with the last calls on them.
pub(super) struct Server {
    target: Target,
    connect_timeout: Duration,
    pub authority: Authority,
    /// Runs the connections.
    runtime: Handle,
    statistics: Arc<Statistics>,
    lanes: Mutex<Lanes>,
}

/// Which connections a call may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// The one for calls that are answered at once.
    Calls,
    /// Those for calls that may wait long.
    Waits,
}

#[derive(Default)]
struct Lanes {
    calls: Vec<Entry>,
    waits: Vec<Entry>,
}

enum Entry {
    /// All calls that come meanwhile wait for the same attempt.
    Coming(Coming),
    Open(Arc<Connection>),
}

/// A connection to come. Failing, it fails for all who wait, and is forgotten.
pub(super) type Coming = Shared<BoxFuture<'static, Result<Arc<Connection>, ConnectError>>>;

/// It closes when the last clone of `requests` and the last call are gone.
pub(super) struct Connection {
    /// Never sends anything itself: requests go through clones.
    requests: SendRequest<Bytes>,
    /// Closed when the connection takes no more requests.
    places: Arc<Semaphore>,
    most: usize,
    departures: Departures,
}

/// Where a call can go.
pub(super) enum Place {
    Taken(Lease),
    /// Ask again when the connection has come.
    Coming(Coming),
    /// Ask again when that gives `None`.
    Queued(BoxFuture<'static, Option<Lease>>),
}

/// A place on a connection, for one request.
pub(super) struct Lease {
    pub requests: SendRequest<Bytes>,
    pub departures: Departures,
    pub hold: Hold,
}

/// Keeps a place taken until the reply has ended.
pub(super) struct Hold {
    permit: Option<OwnedSemaphorePermit>,
    /// Of calls that wait, to end a connection that nobody needs any more.
    server: Weak<Server>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        drop(self.permit.take());
        if let Some(server) = self.server.upgrade() {
            server.close_spare_connections();
        }
    }
}

impl Server {
    /// Nothing is connected yet.
    pub fn new(
        target: Target,
        authority: Authority,
        connect_timeout: Duration,
        runtime: Handle,
        statistics: Arc<Statistics>,
    ) -> Self {
        Self { target, connect_timeout, authority, runtime, statistics, lanes: Mutex::default() }
    }

    /// Whether TLS protects what goes there.
    pub fn is_encrypted(&self) -> bool {
        self.target.is_encrypted()
    }

    /// A place for a call in `lane`, or how to get one.
    pub fn place(self: &Arc<Self>, lane: Lane) -> Place {
        let mut lanes = lock(&self.lanes);
        let (entries, server) = match lane {
            Lane::Calls => (&mut lanes.calls, Weak::new()),
            Lane::Waits => (&mut lanes.waits, Arc::downgrade(self)),
        };
        entries.retain_mut(Entry::is_usable);
        for entry in entries.iter_mut() {
            match entry {
                Entry::Open(connection) => {
                    if let Ok(permit) = connection.places.clone().try_acquire_owned() {
                        return Place::Taken(connection.lease(permit, server));
                    }
                    if lane == Lane::Calls {
                        return Place::Queued(connection.clone().queue());
                    }
                }
                Entry::Coming(connection) => return Place::Coming(connection.clone()),
            }
        }
        let connection = self.connect(lane);
        entries.push(Entry::Coming(connection.clone()));
        Place::Coming(connection)
    }

    /// Ends connections of waiting calls that have none any more. One stays: the next long poll
    /// often follows the last.
    fn close_spare_connections(&self) {
        let mut spare = 0;
        lock(&self.lanes).waits.retain(|entry| match entry {
            Entry::Open(connection) if connection.places.available_permits() == connection.most => {
                spare += 1;
                spare == 1
            }
            _ => true,
        });
    }

    /// Connects in a task, which runs on whether or not its callers still wait: the next one will
    /// need the connection too.
    fn connect(&self, lane: Lane) -> Coming {
        let (target, time, statistics) = (self.target.clone(), self.connect_timeout, self.statistics.clone());
        let most = match lane {
            Lane::Calls => MOST_CALLS,
            Lane::Waits => MOST_WAITS,
        };
        let task = self.runtime.spawn(async move {
            let connection = Connection::open(&target, time, most, statistics.clone()).await;
            if let Err(error) = &connection {
                log!(Warn, "connection", statistics.client, "{error}");
            }
            connection
        });
        let connection = async move {
            task.await.unwrap_or_else(|e| Err(ConnectError::new(format_args!("cannot connect: {e}"))))
        };
        connection.boxed().shared()
    }
}

impl Entry {
    /// Whether it takes requests, or will.
    fn is_usable(&mut self) -> bool {
        if let Self::Coming(connection) = self {
            match connection.peek() {
                None => return true,
                Some(Err(_)) => return false,
                Some(Ok(open)) => *self = Self::Open(open.clone()),
            }
        }
        let Self::Open(connection) = self else { return true };
        connection.is_usable()
    }
}

impl Connection {
    /// Connects, encrypts, and greets, all within `time`.
    async fn open(
        target: &Target,
        time: Duration,
        most: usize,
        statistics: Arc<Statistics>,
    ) -> Result<Arc<Self>, ConnectError> {
        let end = Instant::now() + time;
        let ms = time.as_millis();
        let socket = timeout_at(end, connect(target.clone(), statistics)).await.unwrap_or_else(|_| {
            Err(ConnectError::new(format_args!("no connection to {target} within {ms} ms")))
        })?;
        let link = timeout_at(end, Link::over(socket)).await.unwrap_or_else(|_| {
            Err(ConnectError::explained(format!(
                "no answer to the TLS handshake within {ms} ms: check that {target} is a server with TLS"
            )))
        })?;
        timeout_at(end, Self::greet(link, most)).await.unwrap_or_else(|_| {
            let secure =
                if target.is_encrypted() { "" } else { ", and whether it is one with TLS (https://)" };
            Err(ConnectError::explained(format!(
                "no answer to the greeting within {ms} ms: check that {target} is a FlowMesh server{secure}"
            )))
        })
    }

    /// Greets, and waits for the server's settings: how many calls it takes, and that it speaks
    /// HTTP/2 at all.
    async fn greet(link: Link, most: usize) -> Result<Arc<Self>, ConnectError> {
        let (socket, departures) = Watched::new(link);
        let (requests, mut connection) = Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .max_header_list_size(MAX_HEADERS)
            .initial_max_send_streams(UNKNOWN_LIMIT)
            // Replies that arrive after their calls were cancelled are no attack.
            .max_local_error_reset_streams(None)
            .handshake(socket)
            .await
            .map_err(not_http2)?;
        poll_fn(|cx| match connection.poll_unpin(cx) {
            Poll::Ready(Ok(())) => {
                Poll::Ready(Err(ConnectError::new("the peer ended the connection before it said anything")))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(not_http2(e))),
            Poll::Pending if requests.current_max_send_streams() == UNKNOWN_LIMIT => Poll::Pending,
            Poll::Pending => Poll::Ready(Ok(())),
        })
        .await?;
        // How it ends, every call on it learns by itself.
        tokio::spawn(async move { drop(connection.await) });
        let most = requests.current_max_send_streams().min(most);
        Ok(Arc::new(Self { requests, places: Arc::new(Semaphore::new(most)), most, departures }))
    }

    /// False when it is broken, was sent away by the server, or has used up its streams.
    pub fn is_usable(&self) -> bool {
        // A clone that has sent nothing waits for nothing: it is ready, or the connection is not.
        let ready = self.requests.clone().poll_ready(&mut Context::from_waker(Waker::noop()));
        let usable = matches!(ready, Poll::Ready(Ok(())));
        if !usable {
            // Those who queue for a place go elsewhere.
            self.places.close();
        }
        usable
    }

    fn lease(&self, permit: OwnedSemaphorePermit, server: Weak<Server>) -> Lease {
        Lease {
            requests: self.requests.clone(),
            departures: self.departures.clone(),
            hold: Hold { permit: Some(permit), server },
        }
    }

    fn queue(self: Arc<Self>) -> BoxFuture<'static, Option<Lease>> {
        async move {
            let permit = self.places.clone().acquire_owned().await.ok()?;
            self.is_usable().then(|| self.lease(permit, Weak::new()))
        }
        .boxed()
    }
}

fn not_http2(e: h2::Error) -> ConnectError {
    // What the link itself found wrong with what came.
    if let Some(found) = e.get_io().filter(|e| e.kind() == io::ErrorKind::InvalidData) {
        return ConnectError::explained(found.to_string());
    }
    ConnectError::new(format_args!("the peer ended the connection, or is not a FlowMesh server: {e}"))
}
