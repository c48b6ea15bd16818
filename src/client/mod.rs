//! The asynchronous client: a [`Client`] per endpoint, handles for resources, one file per noun.
//!
//! Every operation is an `async fn`; [`Client::block_on`] is the blocking form of all of them.
//! Nothing here is unsafe or knows of C.

mod backoff;
mod call;
mod cancel;
#[expect(clippy::module_inception, reason = "a file per noun, and the noun of this one is the module's")]
mod client;
mod close;
mod connect;
#[cfg_attr(not(feature = "embedded"), path = "embedded_off.rs")]
mod embedded;
mod endpoint;
mod environment;
mod error;
mod http2;
mod kv;
mod lease;
mod link;
mod operation;
mod options;
mod producer;
mod queues;
mod reader;
pub(crate) mod rules;
mod secret;
mod statistics;
mod streams;
mod subscription;
pub(crate) mod tls;
mod token;
pub(crate) mod trace;
mod transport;
mod worker;

pub use cancel::CancelToken;
pub use client::Client;
pub use endpoint::Endpoint;
pub use error::{Error, Outcome, Result, Status};
pub use flowmesh_proto::v1::{ConsumerGroupState, Job, QueueStats, RetryPolicy};
pub use kv::Kv;
pub use lease::Lease;
pub use options::{CallOptions, ClientOptions, DEFAULT_ENDPOINT, Fsync, Timeout};
pub(crate) use producer::Target;
pub use producer::{NewMessage, Producer, ProducerEvents, ProducerOptions, Receipt, Report, Reports};
pub use queues::{Acked, Enqueued, Nacked, NewJob, Queue, Reserve};
pub use reader::Reader;
pub use secret::Secret;
pub use statistics::ClientStats;
pub use streams::Stream;
pub use subscription::{Commit, Progress, SubscribeOptions, Subscription, SubscriptionState};
pub use tls::{Identity, Pem, TlsOptions};
pub use trace::TraceContext;
pub use worker::{
    Callbacks, Delivery, EventCallback, JobName, PollMode, Ticket, Verdict, Worker, WorkerEvent,
    WorkerEventKind, WorkerOptions,
};
