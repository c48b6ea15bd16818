//! What callers ask of the writer, and how they are answered.

use bytes::Bytes;
use flowmesh_proto::v1::{Job, RetryPolicy};
use tokio::sync::oneshot;

use super::{delivery::Undelivered, job::Body};
use crate::{
    engine::{Enqueued, Lease, Nacked},
    error::{Error, Result},
    resource::ResourceName,
};

/// Where the caller waits for its result.
pub(super) type Reply<T> = oneshot::Sender<Result<T>>;

/// One operation with the means to answer it.
pub(super) enum Operation {
    Enqueue {
        queue: ResourceName,
        body: Body,
        delay_seconds: i64,
        reply: Reply<Enqueued>,
    },
    Lease {
        queue: ResourceName,
        lease: Lease,
        reply: Reply<Vec<Job>>,
    },
    /// Nobody waits for this.
    GiveBack {
        leases: Vec<Undelivered>,
    },
    Ack {
        queue: ResourceName,
        job_id: String,
        reply: Reply<()>,
    },
    Nack {
        queue: ResourceName,
        job_id: String,
        delay_seconds: i64,
        reply: Reply<Nacked>,
    },
    SetPolicy {
        queue: ResourceName,
        policy: RetryPolicy,
        reply: Reply<()>,
    },
    Replay {
        queue: ResourceName,
        job_id: String,
        reply: Reply<Enqueued>,
    },
    /// Brings the tables up to now: leases of this queue whose time has come are over, and its dead
    /// letters are there.
    Settle {
        queue: Option<ResourceName>,
        reply: Reply<()>,
    },
    Set {
        store: ResourceName,
        key: String,
        value: Bytes,
        ttl_seconds: i64,
        reply: Reply<()>,
    },
    Delete {
        store: ResourceName,
        key: String,
        reply: Reply<()>,
    },
    Commit {
        stream: ResourceName,
        group: String,
        offset: i64,
        reply: Reply<()>,
    },
}

/// A result that waits for its transaction to be stored.
pub(super) enum Answer {
    Enqueued(Reply<Enqueued>, Result<Enqueued>),
    Leased(Reply<Vec<Job>>, Result<Vec<Job>>),
    Nacked(Reply<Nacked>, Result<Nacked>),
    Done(Reply<()>, Result<()>),
}

impl Answer {
    /// Tells the caller; gives back the jobs of one that has gone.
    pub(super) fn send(self) -> Option<Vec<Job>> {
        // A caller of anything but a lease that has gone misses nothing.
        match self {
            Self::Leased(reply, result) => return reply.send(result).err()?.ok(),
            Self::Enqueued(reply, result) => drop(reply.send(result)),
            Self::Nacked(reply, result) => drop(reply.send(result)),
            Self::Done(reply, result) => drop(reply.send(result)),
        }
        None
    }

    /// Tells the caller that nothing of it was stored.
    pub(super) fn fail(self, error: &Error) {
        let error = error.clone();
        match self {
            Self::Enqueued(reply, _) => drop(reply.send(Err(error))),
            Self::Leased(reply, _) => drop(reply.send(Err(error))),
            Self::Nacked(reply, _) => drop(reply.send(Err(error))),
            Self::Done(reply, _) => drop(reply.send(Err(error))),
        }
    }
}

impl Operation {
    /// Ends it before it was begun.
    pub(super) fn fail(self, error: &Error) {
        let error = error.clone();
        match self {
            Self::Enqueue { reply, .. } | Self::Replay { reply, .. } => drop(reply.send(Err(error))),
            Self::Lease { reply, .. } => drop(reply.send(Err(error))),
            Self::GiveBack { leases } => {
                tracing::warn!(jobs = leases.len(), "jobs that reached nobody stay leased: {error}");
            }
            Self::Nack { reply, .. } => drop(reply.send(Err(error))),
            Self::Ack { reply, .. }
            | Self::SetPolicy { reply, .. }
            | Self::Settle { reply, .. }
            | Self::Set { reply, .. }
            | Self::Delete { reply, .. }
            | Self::Commit { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}
