//! Queues: enqueue, lease, give back, dead letters.

use std::{
    collections::BTreeMap,
    pin::pin,
    time::{Duration, Instant},
};

use bytes::Bytes;
use flowmesh_proto::v1::{
    AckRequest, EnqueueRequest, EnqueueResponse, GetQueueStatsRequest, GetRetryPolicyRequest, Job,
    ListDlqJobsRequest, NackRequest, QueueStats, ReceiveRequest, ReplayDlqJobRequest, ReserveRequest,
    RetryPolicy, SetRetryPolicyRequest, queue_service_client::QueueServiceClient,
};
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::{
    call::Call,
    client::{Client, Resource},
    embedded,
    error::{Effect, Error, Outcome, Result, Status},
    options::{CallOptions, Timeout},
    rules,
    trace::TRACEPARENT,
};

/// The longest wait that a server accepts in one request.
const LONGEST_POLL_SECONDS: i64 = 20;

/// A queue of a client.
#[derive(Debug, Clone)]
pub struct Queue(Resource);

/// A job to enqueue.
#[derive(Debug, Clone, Default)]
pub struct NewJob {
    /// At least one byte.
    pub payload: Bytes,
    /// Metadata.
    pub headers: BTreeMap<String, String>,
    /// Time until it is due, in ms; in effect whole seconds, rounded up.
    pub delay_ms: i64,
}

/// A job that was enqueued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enqueued {
    /// Its id.
    pub job_id: String,
    /// Its number in the queue.
    pub seq: i64,
}

/// How to lease jobs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reserve {
    /// Length of the lease in ms; 0 is the server's 30 s. In effect whole seconds, rounded up.
    pub visibility_ms: i64,
    /// How long to wait for a job, in ms: 0 not at all, -1 for ever. In effect whole seconds,
    /// rounded up.
    pub wait_ms: i64,
}

/// What became of a job that was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nacked {
    /// It waits for its next attempt.
    Waiting,
    /// It reached its attempt limit and is in the dead-letter queue.
    DeadLettered,
}

/// What became of jobs that were acknowledged together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acked {
    /// How many the server confirmed.
    pub count: usize,
    /// The failure of the first that it did not.
    pub error: Option<Error>,
}

impl Queue {
    pub(crate) fn new(resource: Resource) -> Self {
        Self(resource)
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// `tenant/namespace/queue/name`.
    pub fn canonical_path(&self) -> &str {
        &self.0.text
    }

    /// Adds a job. Never repeated by itself: a repeat could add it twice.
    pub async fn enqueue(&self, job: NewJob, options: &CallOptions) -> Result<Enqueued> {
        rules::not_empty("payload", &job.payload)?;
        let delay_seconds = rules::delay_seconds("delay_ms", job.delay_ms)?;
        let mut headers = job.headers;
        if let Some(trace) = &options.trace
            && !headers.contains_key(TRACEPARENT)
        {
            headers.extend(
                trace
                    .headers()
                    .into_iter()
                    .flatten()
                    .map(|(name, value)| (name.to_owned(), value.to_owned())),
            );
        }
        let call = self.0.call("enqueue to", Effect::Once, options);
        let request =
            EnqueueRequest { resource_path: self.0.path(), payload: job.payload, delay_seconds, headers };
        let reply = self
            .client()
            .call(call, request, async |wire, request| {
                wire.client(QueueServiceClient::new).enqueue(request).await
            })
            .await?;
        Ok(Enqueued { job_id: reply.job_id, seq: reply.seq })
    }

    /// As [`Queue::enqueue`], of a job that is a whole request in wire form.
    pub(crate) async fn enqueue_encoded(&self, request: Bytes, options: &CallOptions) -> Result<Enqueued> {
        let call = self.0.call("enqueue to", Effect::Once, options);
        let reply: EnqueueResponse = self
            .client()
            .call(call, request, async |wire, request| {
                wire.call_encoded("/flowmesh.v1.QueueService/Enqueue", request).await
            })
            .await?;
        Ok(Enqueued { job_id: reply.job_id, seq: reply.seq })
    }

    pub(crate) fn resource(&self) -> &Resource {
        &self.0
    }

    /// Leases one job, `None` when there is none within the wait. The call's timeout counts on
    /// top of the wait. When the connection is lost, a job may stay leased until its lease ends.
    pub async fn reserve(&self, reserve: Reserve, options: &CallOptions) -> Result<Option<Job>> {
        let mut polls = Polls::new(&reserve)?;
        let visibility_timeout_seconds =
            rules::visibility_seconds("visibility_timeout_ms", reserve.visibility_ms)?;
        while let Some(long_poll_timeout_seconds) = polls.next() {
            let request = ReserveRequest {
                resource_path: self.0.path(),
                visibility_timeout_seconds,
                long_poll_timeout_seconds,
            };
            let reply = self
                .client()
                .call(self.lease_call(long_poll_timeout_seconds, options), request, async |wire, request| {
                    wire.client(QueueServiceClient::new).reserve(request).await
                })
                .await?;
            if reply.job.is_some() {
                return Ok(reply.job);
            }
        }
        Ok(None)
    }

    /// Leases up to `max_jobs` (1 to 100) jobs; as [`Queue::reserve`] otherwise.
    pub async fn receive(&self, max_jobs: i32, reserve: Reserve, options: &CallOptions) -> Result<Vec<Job>> {
        rules::most("max_jobs", max_jobs)?;
        let mut polls = Polls::new(&reserve)?;
        let visibility_timeout_seconds =
            rules::visibility_seconds("visibility_timeout_ms", reserve.visibility_ms)?;
        while let Some(long_poll_timeout_seconds) = polls.next() {
            let request = ReceiveRequest {
                resource_path: self.0.path(),
                max_jobs,
                visibility_timeout_seconds,
                long_poll_timeout_seconds,
            };
            let reply = self
                .client()
                .call(self.lease_call(long_poll_timeout_seconds, options), request, async |wire, request| {
                    wire.client(QueueServiceClient::new).receive(request).await
                })
                .await?;
            if !reply.jobs.is_empty() {
                return Ok(reply.jobs);
            }
        }
        Ok(Vec::new())
    }

    fn lease_call<'a>(&self, poll_seconds: i64, options: &'a CallOptions) -> Call<'a> {
        let wait = Duration::from_secs(poll_seconds.unsigned_abs());
        self.0.call("reserve from", Effect::Once, options).with_server_wait(wait)
    }

    /// Removes a leased job for good; fine when its lease has ended.
    pub async fn ack(&self, job_id: &str, options: &CallOptions) -> Result<()> {
        rules::not_empty("job_id", job_id.as_bytes())?;
        let call = self.0.call("ack a job of", Effect::Idempotent, options);
        let request = AckRequest { resource_path: self.0.path(), job_id: job_id.to_owned() };
        self.client()
            .call(call, request, async |wire, request| {
                wire.client(QueueServiceClient::new).ack(request).await
            })
            .await
            .map(drop)
    }

    /// Acknowledges many jobs, all on their way at once; an embedded engine commits them
    /// together.
    pub async fn ack_all(&self, job_ids: &[String], options: &CallOptions) -> Acked {
        // The time and the token count for all of them; the closed client ends each by itself.
        let each =
            CallOptions { timeout: Timeout::Never, trace: options.trace.clone(), ..CallOptions::default() };
        let mut running: FuturesUnordered<_> = job_ids.iter().map(|id| self.ack(id, &each)).collect();
        let mut acked = Acked { count: 0, error: None };
        let mut begun = false;
        let all = async {
            begun = true;
            while let Some(result) =
                std::future::poll_fn(|cx| embedded::gathered(|| running.poll_next_unpin(cx))).await
            {
                match result {
                    Ok(()) => acked.count += 1,
                    Err(e) => acked.error = acked.error.take().or(Some(e)),
                }
            }
        };
        let time = options.time(self.client().inner().options().timeout);
        if let Err(end) = self.client().until_ended(options, time, pin!(all)).await {
            let what = format!("ack jobs of {}", self.0.text);
            let outcome = if begun { Outcome::Unknown } else { Outcome::NotApplied };
            acked.error = Some(self.client().end_error(end, &what).with_outcome(outcome));
        }
        acked
    }

    /// Gives a leased job back, due again after `delay_ms` (0: the retry policy's backoff). At
    /// its attempt limit it goes to the dead-letter queue, which is no failure. Never repeated by
    /// itself: the repeat of a nack that succeeded would find no lease.
    pub async fn nack(&self, job_id: &str, delay_ms: i64, options: &CallOptions) -> Result<Nacked> {
        rules::not_empty("job_id", job_id.as_bytes())?;
        let delay_seconds = rules::delay_seconds("delay_ms", delay_ms)?;
        let call = self.0.call("nack a job of", Effect::Once, options);
        let request = NackRequest { resource_path: self.0.path(), job_id: job_id.to_owned(), delay_seconds };
        let reply = self
            .client()
            .call(call, request, async |wire, request| {
                wire.client(QueueServiceClient::new).nack(request).await
            })
            .await;
        match reply {
            Ok(_) => Ok(Nacked::Waiting),
            Err(e) if e.is_from_server() && e.status() == Status::FAILED_PRECONDITION => {
                Ok(Nacked::DeadLettered)
            }
            Err(e) => Err(e),
        }
    }

    /// The queue's counters.
    pub async fn stats(&self, options: &CallOptions) -> Result<QueueStats> {
        let call = self.0.call("get the stats of", Effect::None, options);
        let request = GetQueueStatsRequest { resource_path: self.0.path() };
        let reply = self
            .client()
            .call(call, request, async |wire, request| {
                wire.client(QueueServiceClient::new).get_queue_stats(request).await
            })
            .await?;
        Ok(reply.stats.unwrap_or_default())
    }

    /// Replaces the retry policy.
    pub async fn set_retry_policy(&self, policy: RetryPolicy, options: &CallOptions) -> Result<()> {
        let call = self.0.call("set the retry policy of", Effect::Idempotent, options);
        let request = SetRetryPolicyRequest { resource_path: self.0.path(), policy: Some(policy) };
        self.client()
            .call(call, request, async |wire, request| {
                wire.client(QueueServiceClient::new).set_retry_policy(request).await
            })
            .await
            .map(drop)
    }

    /// The retry policy in force.
    pub async fn retry_policy(&self, options: &CallOptions) -> Result<RetryPolicy> {
        let call = self.0.call("get the retry policy of", Effect::None, options);
        let request = GetRetryPolicyRequest { resource_path: self.0.path() };
        let reply = self
            .client()
            .call(call, request, async |wire, request| {
                wire.client(QueueServiceClient::new).get_retry_policy(request).await
            })
            .await?;
        reply.policy.ok_or_else(|| {
            Error::local(
                Status::INTERNAL,
                format!("get the retry policy of {}: the reply has none", self.0.text),
            )
        })
    }

    /// Dead letters of this queue that wait, in ready order; `max_jobs` 0 is the server's page.
    pub async fn list_dlq_jobs(&self, max_jobs: i32, options: &CallOptions) -> Result<Vec<Job>> {
        rules::most("max_jobs", max_jobs)?;
        let call = self.0.call("list dead letters of", Effect::None, options);
        let request = ListDlqJobsRequest { resource_path: self.0.path(), max_jobs };
        let reply = self
            .client()
            .call(call, request, async |wire, request| {
                wire.client(QueueServiceClient::new).list_dlq_jobs(request).await
            })
            .await?;
        Ok(reply.jobs)
    }

    /// Moves a dead letter back into this queue, as a new job. Never repeated by itself: the
    /// repeat of a replay that succeeded would not find the dead letter.
    pub async fn replay_dlq_job(&self, job_id: &str, options: &CallOptions) -> Result<Enqueued> {
        rules::not_empty("job_id", job_id.as_bytes())?;
        let call = self.0.call("replay a dead letter of", Effect::Once, options);
        let request = ReplayDlqJobRequest { resource_path: self.0.path(), job_id: job_id.to_owned() };
        let reply = self
            .client()
            .call(call, request, async |wire, request| {
                wire.client(QueueServiceClient::new).replay_dlq_job(request).await
            })
            .await?;
        Ok(Enqueued { job_id: reply.job_id, seq: reply.seq })
    }
}

/// A wait cut into polls that a server accepts.
struct Polls {
    /// When the wait is over; `None` for never.
    until: Option<Instant>,
    first: bool,
}

impl Polls {
    fn new(reserve: &Reserve) -> Result<Self> {
        let until = match reserve.wait_ms {
            -1 => None,
            ..-1 => {
                return Err(Error::invalid(format!(
                    "wait_ms must be -1 (for ever), 0 (do not wait) or above, got {}",
                    reserve.wait_ms
                )));
            }
            ms => crate::runtime::deadline_after(Timeout::of_wait_ms(ms)?),
        };
        Ok(Self { until, first: true })
    }

    /// Seconds of the next poll; at least one poll is made.
    fn next(&mut self) -> Option<i64> {
        let first = std::mem::replace(&mut self.first, false);
        let Some(until) = self.until else { return Some(LONGEST_POLL_SECONDS) };
        let rest = until.saturating_duration_since(Instant::now());
        let seconds = i64::try_from(rest.as_millis()).map_or(LONGEST_POLL_SECONDS, rules::ceil_seconds);
        if first || seconds > 0 { Some(seconds.min(LONGEST_POLL_SECONDS)) } else { None }
    }
}
