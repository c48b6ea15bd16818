//! What the log tells of a call: which it was, who made it and how it ended. Never what it carried.
//!
//! At the level `debug` every call has a line, when its reply begins. A failure of the server itself
//! has one at `error`, next to what failed, and the caller is told the same number as the log: that
//! is what the two can talk about.

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use http::{HeaderValue, Request, Response, uri::PathAndQuery};
use tonic::{Code, Status, body::Body};
use tracing::Level;

use crate::access::Caller;

/// The number of a request, which no other has.
#[derive(Debug, Clone, Copy)]
struct RequestId {
    /// Of this run of the server, by chance.
    run: u32,
    number: u64,
}

impl RequestId {
    fn next() -> Self {
        static RUN: OnceLock<u32> = OnceLock::new();
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let run = *RUN.get_or_init(|| {
            let mut bytes = [0; 4];
            // Without chance, runs are alike and their numbers still differ within each.
            let _ = getrandom::fill(&mut bytes);
            u32::from_le_bytes(bytes)
        });
        Self { run, number: NUMBER.fetch_add(1, Ordering::Relaxed) }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.run, self.number)
    }
}

/// A call that is to be told of.
pub(super) struct Entry {
    method: Option<PathAndQuery>,
    /// Only where every call is told.
    full: Option<Box<Full>>,
}

struct Full {
    started: Instant,
    /// The caller's own name for what this is a part of, as W3C Trace Context has it.
    traceparent: Option<HeaderValue>,
}

impl Entry {
    pub fn begin<B>(request: &Request<B>) -> Self {
        let full = tracing::enabled!(Level::DEBUG).then(|| {
            let traceparent = request.headers().get("traceparent").cloned();
            Box::new(Full { started: Instant::now(), traceparent })
        });
        Self { method: request.uri().path_and_query().cloned(), full }
    }

    /// Tells how the call ended, or that its stream of replies begins.
    pub fn end(&self, reply: Response<Body>, caller: Option<&Caller>) -> Response<Body> {
        let status = reply.extensions().get::<Status>();
        let code = status.map_or(Code::Ok, Status::code);
        if self.full.is_none() && code != Code::Internal {
            return reply;
        }
        let request = RequestId::next();
        let method = self.method.as_ref().map_or("", PathAndQuery::path);
        if let Some(Full { started, traceparent }) = self.full.as_deref() {
            let ms = started.elapsed().as_secs_f64() * 1e3;
            let caller = caller.map(tracing::field::debug);
            let trace = traceparent.as_ref().and_then(|t| t.to_str().ok());
            tracing::debug!(%request, method, ?code, ms, caller, trace, "call");
        }
        match status {
            Some(status) if code == Code::Internal => {
                let text = status.message();
                tracing::error!(%request, method, "a call ended with INTERNAL");
                Status::internal(format!("{text} (request {request})")).into_http()
            }
            _ => reply,
        }
    }
}
