//! Calls of the engine, with short names for what they are about.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use flowmesh_proto::{v1::RetryPolicy, wire::encode_event};

use super::tables::{Operation, Outcome};
use crate::{
    Engine, ErrorKind, commit,
    engine::{Lease, Leased, Local, Nacked, NewJob},
    error::Error,
    resource::{ResourceKind, ResourceName},
};

fn name(kind: ResourceKind, name: String) -> ResourceName {
    ResourceName::new("t", "n", kind, &name)
}

pub fn stream_name(stream: usize) -> ResourceName {
    name(ResourceKind::Stream, format!("s{stream}"))
}

pub fn queue_name(queue: usize) -> String {
    name(ResourceKind::Queue, format!("q{queue}")).as_str().to_owned()
}

pub fn store_name(store: usize) -> String {
    name(ResourceKind::Kv, format!("k{store}")).as_str().to_owned()
}

pub fn event(payload: &[u8]) -> Bytes {
    let mut wire = BytesMut::new();
    encode_event(&mut wire, payload, std::iter::empty());
    wire.freeze()
}

pub async fn perform(engine: Engine, local: Arc<Local>, operation: Operation) -> Result<Outcome, Error> {
    let named = |name: &str| ResourceName::from_stored(name.to_owned());
    let id = |(queue, seq): (i64, i64)| local.database.job_id(queue << 40 | seq).unwrap_or_default();
    let result = match operation {
        Operation::Enqueue { queue, payload, delay } => {
            let job = NewJob { payload: payload.into(), headers: Default::default(), delay_seconds: delay };
            engine.queues.enqueue(&named(&queue), job).await.map(|enqueued| Outcome::Enqueued(enqueued.seq))
        }
        Operation::Lease { queue, max, seconds } => {
            let lease =
                Lease { max_jobs: max, max_bytes: 4 << 20, visibility_seconds: seconds, wait_seconds: 0 };
            let jobs = engine.queues.lease(&named(&queue), lease).await.map(Leased::taken);
            jobs.map(|jobs| Outcome::Leased(jobs.iter().map(|j| (j.seq, i64::from(j.attempts))).collect()))
        }
        Operation::Ack { queue, job } => {
            engine.queues.ack(&named(&queue), &id(job)).await.map(|()| Outcome::Done)
        }
        Operation::Nack { queue, job, delay } => {
            let nacked = engine.queues.nack(&named(&queue), &id(job), delay).await;
            nacked.map(|nacked| match nacked {
                Nacked::Waiting => Outcome::Done,
                Nacked::DeadLettered => Outcome::DeadLettered,
            })
        }
        Operation::Policy { queue, max_attempts } => {
            let policy = RetryPolicy {
                max_attempts,
                initial_backoff_seconds: 1,
                max_backoff_seconds: 1,
                backoff_multiplier: 1.0,
                backoff_strategy: "fixed".to_owned(),
            };
            engine.queues.set_retry_policy(&named(&queue), policy).await.map(|()| Outcome::Done)
        }
        Operation::Replay { queue, job } => {
            let replayed = engine.queues.replay_dead_letter(&named(&queue), &id(job)).await;
            replayed.map(|enqueued| Outcome::Enqueued(enqueued.seq))
        }
        Operation::Set { store, key, value, ttl } => {
            engine.kv.set(&named(&store), &key, value.into(), ttl).await.map(|()| Outcome::Done)
        }
        Operation::Delete { store, key } => {
            engine.kv.delete(&named(&store), &key).await.map(|()| Outcome::Done)
        }
        Operation::Commit { stream, group, offset } => {
            engine.streams.commit(&named(&stream), &group, offset).await.map(|()| Outcome::Done)
        }
    };
    match result {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Outcome::NotFound),
        result => result,
    }
}

pub type Call<T> = Pin<Box<dyn Future<Output = T>>>;

pub fn boxed<T>(call: impl Future<Output = T> + 'static) -> Call<T> {
    Box::pin(call)
}

/// Makes calls, all before `held` is let go, and waits for their answers. A lone call may commit in
/// this thread.
pub fn together<T>(mut calls: Vec<Call<T>>, held: impl Sized) -> Vec<T> {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = Context::from_waker(&waker);
    let mut answers: Vec<Option<T>> = calls.iter().map(|_| None).collect();
    let alone = calls.len() == 1;
    let mut held = Some(held);
    loop {
        for (call, answer) in calls.iter_mut().zip(&mut answers) {
            if answer.is_none() {
                let mut poll = || call.as_mut().poll(&mut context);
                let polled = if alone { commit::inline(poll) } else { poll() };
                if let Poll::Ready(value) = polled {
                    *answer = Some(value);
                }
            }
        }
        held.take();
        if answers.iter().all(Option::is_some) {
            return answers.into_iter().flatten().collect();
        }
        std::thread::park();
    }
}
