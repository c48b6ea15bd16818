//! QueueService.

use std::sync::Arc;

use flowmesh_proto::{
    server::queue_service_server::QueueService,
    v1::{
        AckRequest, AckResponse, EnqueueRequest, EnqueueResponse, GetQueueStatsRequest,
        GetQueueStatsResponse, GetRetryPolicyRequest, GetRetryPolicyResponse, ListDlqJobsRequest,
        ListDlqJobsResponse, NackRequest, NackResponse, ReceiveRequest, ReceiveResponse, ReplayDlqJobRequest,
        ReplayDlqJobResponse, ReserveRequest, ReserveResponse, SetRetryPolicyRequest, SetRetryPolicyResponse,
    },
};
use tonic::{Request, Response, Result, Status, async_trait};

use super::{PAGE_BYTES, fields, ok, open};
use crate::{
    access::Permission,
    engine::{Delivery, Lease, Leased, Nacked, NewJob, QueueStore},
    limits::Tenants,
    resource::{ResourceKind::Queue as KIND, ResourceName},
};

/// Most jobs that one Receive leases.
const MAX_RECEIVE: usize = 100;
const DEFAULT_DEAD_LETTERS: usize = 100;

pub struct Queues {
    queues: Arc<dyn QueueStore>,
    tenants: Arc<Tenants>,
}

impl Queues {
    pub fn new(queues: Arc<dyn QueueStore>, tenants: Arc<Tenants>) -> Self {
        Self { queues, tenants }
    }

    /// Leases jobs; one of the tenant's waiters as long as it may wait for them.
    async fn lease(&self, queue: &ResourceName, lease: Lease) -> Result<Leased> {
        let _seat = if lease.wait_seconds > 0 { Some(self.tenants.waiter(queue)?) } else { None };
        Ok(self.queues.lease(queue, lease).await?)
    }
}

/// A reply with leased jobs. Whoever sends it says when it has left (or takes back the jobs).
fn with_delivery<T>(reply: T, delivery: Delivery) -> Response<T> {
    let mut reply = Response::new(reply);
    if delivery.is_needed() {
        reply.extensions_mut().insert(delivery);
    }
    reply
}

#[async_trait]
impl QueueService for Queues {
    async fn enqueue(&self, request: Request<EnqueueRequest>) -> Result<Response<EnqueueResponse>> {
        let (caller, r) = open(request);
        let queue = fields::resource(r.resource_path, KIND)?;
        fields::not_empty("payload", &r.payload)?;
        fields::seconds("delay_seconds", r.delay_seconds)?;
        let job = NewJob { payload: r.payload, headers: r.headers, delay_seconds: r.delay_seconds };
        caller.may(Permission::QueueWrite, &queue)?;
        let stored = self.queues.enqueue(&queue, job).await?;
        Ok(Response::new(EnqueueResponse { status: ok(), job_id: stored.job_id, seq: stored.seq }))
    }

    async fn reserve(&self, request: Request<ReserveRequest>) -> Result<Response<ReserveResponse>> {
        let (caller, r) = open(request);
        let queue = fields::resource(r.resource_path, KIND)?;
        let lease = Lease {
            max_jobs: 1,
            max_bytes: PAGE_BYTES,
            visibility_seconds: fields::visibility(r.visibility_timeout_seconds)?,
            wait_seconds: fields::long_poll(r.long_poll_timeout_seconds),
        };
        caller.may(Permission::QueueRead, &queue)?;
        let Leased { mut jobs, delivery } = self.lease(&queue, lease).await?;
        Ok(with_delivery(ReserveResponse { status: ok(), job: jobs.pop() }, delivery))
    }

    async fn receive(&self, request: Request<ReceiveRequest>) -> Result<Response<ReceiveResponse>> {
        let (caller, r) = open(request);
        let queue = fields::resource(r.resource_path, KIND)?;
        let lease = Lease {
            max_jobs: fields::page(r.max_jobs, 1, MAX_RECEIVE),
            max_bytes: PAGE_BYTES,
            visibility_seconds: fields::visibility(r.visibility_timeout_seconds)?,
            wait_seconds: fields::long_poll(r.long_poll_timeout_seconds),
        };
        caller.may(Permission::QueueRead, &queue)?;
        let Leased { jobs, delivery } = self.lease(&queue, lease).await?;
        Ok(with_delivery(ReceiveResponse { status: ok(), jobs }, delivery))
    }

    async fn ack(&self, request: Request<AckRequest>) -> Result<Response<AckResponse>> {
        let (caller, r) = open(request);
        let queue = fields::resource(r.resource_path, KIND)?;
        fields::not_empty("job_id", r.job_id.as_bytes())?;
        caller.may(Permission::QueueRead, &queue)?;
        self.queues.ack(&queue, &r.job_id).await?;
        Ok(Response::new(AckResponse { status: ok() }))
    }

    async fn nack(&self, request: Request<NackRequest>) -> Result<Response<NackResponse>> {
        let (caller, r) = open(request);
        let queue = fields::resource(r.resource_path, KIND)?;
        fields::not_empty("job_id", r.job_id.as_bytes())?;
        fields::seconds("delay_seconds", r.delay_seconds)?;
        caller.may(Permission::QueueRead, &queue)?;
        match self.queues.nack(&queue, &r.job_id, r.delay_seconds).await? {
            Nacked::Waiting => Ok(Response::new(NackResponse { status: ok() })),
            Nacked::DeadLettered => Err(Status::failed_precondition(format!(
                "the job has had all its attempts and is now in {}",
                queue.dead_letters()
            ))),
        }
    }

    async fn get_queue_stats(
        &self,
        request: Request<GetQueueStatsRequest>,
    ) -> Result<Response<GetQueueStatsResponse>> {
        let (caller, r) = open(request);
        let queue = fields::resource(r.resource_path, KIND)?;
        caller.may(Permission::QueueRead, &queue)?;
        let stats = self.queues.stats(&queue).await?;
        Ok(Response::new(GetQueueStatsResponse { status: ok(), stats: Some(stats) }))
    }

    async fn set_retry_policy(
        &self,
        request: Request<SetRetryPolicyRequest>,
    ) -> Result<Response<SetRetryPolicyResponse>> {
        let (caller, r) = open(request);
        let queue = fields::resource(r.resource_path, KIND)?;
        let policy = fields::retry_policy(r.policy)?;
        caller.may(Permission::QueueWrite, &queue)?;
        self.queues.set_retry_policy(&queue, policy).await?;
        Ok(Response::new(SetRetryPolicyResponse { status: ok() }))
    }

    async fn get_retry_policy(
        &self,
        request: Request<GetRetryPolicyRequest>,
    ) -> Result<Response<GetRetryPolicyResponse>> {
        let (caller, r) = open(request);
        let queue = fields::resource(r.resource_path, KIND)?;
        caller.may(Permission::QueueRead, &queue)?;
        let policy = self.queues.retry_policy(&queue).await?;
        Ok(Response::new(GetRetryPolicyResponse { status: ok(), policy: Some(policy) }))
    }

    async fn list_dlq_jobs(
        &self,
        request: Request<ListDlqJobsRequest>,
    ) -> Result<Response<ListDlqJobsResponse>> {
        let (caller, r) = open(request);
        let queue = fields::resource(r.resource_path, KIND)?;
        let max_jobs = fields::page(r.max_jobs, DEFAULT_DEAD_LETTERS, usize::MAX);
        caller.may(Permission::QueueRead, &queue)?;
        let jobs = self.queues.dead_letters(&queue, max_jobs, PAGE_BYTES).await?;
        Ok(Response::new(ListDlqJobsResponse { status: ok(), jobs }))
    }

    async fn replay_dlq_job(
        &self,
        request: Request<ReplayDlqJobRequest>,
    ) -> Result<Response<ReplayDlqJobResponse>> {
        let (caller, r) = open(request);
        let queue = fields::resource(r.resource_path, KIND)?;
        fields::not_empty("job_id", r.job_id.as_bytes())?;
        caller.may(Permission::QueueWrite, &queue)?;
        let stored = self.queues.replay_dead_letter(&queue, &r.job_id).await?;
        Ok(Response::new(ReplayDlqJobResponse { status: ok(), job_id: stored.job_id, seq: stored.seq }))
    }
}
