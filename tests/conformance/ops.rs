//! Short forms of calls, so that a rule reads in a few lines. Every resource is in tenant `t`,
//! namespace `n`.

use bytes::Bytes;
use flowmesh_proto::v1::*;
use prost::Message as _;
use tokio::task::JoinHandle;
use tonic::{Code, Streaming};

use crate::world::World;

pub type Reply<T> = Result<T, tonic::Status>;

pub fn path(kind: &str, name: &str) -> Option<ResourcePath> {
    Some(ResourcePath {
        tenant: "t".into(),
        namespace: "n".into(),
        resource_type: kind.into(),
        name: name.into(),
    })
}

pub fn stream(name: &str) -> Option<ResourcePath> {
    path("stream", name)
}

pub fn queue(name: &str) -> Option<ResourcePath> {
    path("queue", name)
}

pub fn store(name: &str) -> Option<ResourcePath> {
    path("kv", name)
}

/// An encoded event without headers.
pub fn event(payload: &[u8]) -> Bytes {
    Event { payload: Bytes::copy_from_slice(payload), ..Default::default() }.encode_to_vec().into()
}

/// The code of a call that must fail.
#[track_caller]
pub fn code<T>(reply: Reply<T>) -> Code {
    match reply {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

/// Checks that a call was refused, with a text that names `argument`.
#[track_caller]
pub fn assert_invalid<T>(reply: Reply<T>, argument: &str) {
    match reply {
        Ok(_) => panic!("accepted although {argument} breaks a rule"),
        Err(status) => {
            assert_eq!(status.code(), Code::InvalidArgument, "{status}");
            assert!(status.message().contains(argument), "{:?} does not name {argument}", status.message());
        }
    }
}

pub fn lease(jobs: &[Job]) -> Vec<&str> {
    jobs.iter().map(|job| std::str::from_utf8(&job.payload).expect("text")).collect()
}

fn decode(wire: &[Bytes]) -> Vec<Message> {
    wire.iter().map(|m| Message::decode(m.clone()).expect("a message")).collect()
}

/// A default policy to change fields of.
pub fn policy() -> RetryPolicy {
    RetryPolicy {
        max_attempts: 3,
        initial_backoff_seconds: 1,
        max_backoff_seconds: 60,
        backoff_multiplier: 2.0,
        backoff_strategy: "exponential".into(),
    }
}

impl World {
    // ---- streams ------------------------------------------------------------------------------

    pub async fn try_write(&self, name: &str, events: Vec<Bytes>) -> Reply<Vec<i64>> {
        let request = WriteEventsRequest { resource_path: stream(name), events };
        Ok(self.streams().write_events(request).await?.into_inner().offsets)
    }

    pub async fn write(&self, name: &str, payloads: &[&str]) -> Vec<i64> {
        let events = payloads.iter().map(|p| event(p.as_bytes())).collect();
        self.try_write(name, events).await.expect("write")
    }

    pub async fn try_read(&self, name: &str, offset: i64, max_messages: i32) -> Reply<Vec<Message>> {
        let request = ReadStreamRequest { resource_path: stream(name), partition: 0, offset, max_messages };
        Ok(decode(&self.streams().read_stream(request).await?.into_inner().messages))
    }

    pub async fn read(&self, name: &str, offset: i64, max_messages: i32) -> Vec<Message> {
        self.try_read(name, offset, max_messages).await.expect("read")
    }

    pub async fn try_subscribe(
        &self,
        name: &str,
        group: &str,
        partition: i32,
        start_offset: i64,
    ) -> Reply<Streaming<SubscribeResponse>> {
        let request = SubscribeRequest {
            resource_path: stream(name),
            consumer_group: group.into(),
            partition,
            start_offset,
        };
        Ok(self.streams().subscribe(request).await?.into_inner())
    }

    pub async fn subscribe(&self, name: &str, start_offset: i64) -> Streaming<SubscribeResponse> {
        self.try_subscribe(name, "g", 0, start_offset).await.expect("subscribe")
    }

    pub async fn try_commit(&self, name: &str, group: &str, partition: i32, offset: i64) -> Reply<()> {
        let request = CommitOffsetRequest {
            resource_path: stream(name),
            consumer_group: group.into(),
            partition,
            offset,
        };
        self.streams().commit_offset(request).await.map(drop)
    }

    pub async fn commit(&self, name: &str, group: &str, offset: i64) {
        self.try_commit(name, group, 0, offset).await.expect("commit");
    }

    pub async fn try_committed(&self, name: &str, group: &str, partition: i32) -> Reply<i64> {
        let request =
            GetOffsetRequest { resource_path: stream(name), consumer_group: group.into(), partition };
        Ok(self.streams().get_offset(request).await?.into_inner().offset)
    }

    pub async fn committed(&self, name: &str, group: &str) -> i64 {
        self.try_committed(name, group, 0).await.expect("committed")
    }

    pub async fn try_latest(&self, name: &str, partition: i32) -> Reply<i64> {
        let request = GetLatestOffsetRequest { resource_path: stream(name), partition };
        Ok(self.streams().get_latest_offset(request).await?.into_inner().offset)
    }

    pub async fn latest(&self, name: &str) -> i64 {
        self.try_latest(name, 0).await.expect("latest")
    }

    pub async fn group_state(&self, name: &str, group: &str, partition: i32) -> ConsumerGroupState {
        let request = GetConsumerGroupStateRequest {
            resource_path: stream(name),
            consumer_group: group.into(),
            partition,
        };
        let reply = self.streams().get_consumer_group_state(request).await.expect("group state");
        reply.into_inner().state.expect("a state")
    }

    // ---- queues -------------------------------------------------------------------------------

    pub async fn try_enqueue(&self, name: &str, payload: &str, delay_seconds: i64) -> Reply<EnqueueResponse> {
        let request = EnqueueRequest {
            resource_path: queue(name),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            delay_seconds,
            headers: Default::default(),
        };
        Ok(self.queues().enqueue(request).await?.into_inner())
    }

    /// Enqueues a job that is due now; gives its id.
    pub async fn enqueue(&self, name: &str, payload: &str) -> String {
        self.try_enqueue(name, payload, 0).await.expect("enqueue").job_id
    }

    pub async fn try_reserve(&self, name: &str, visibility: i64, long_poll: i64) -> Reply<Option<Job>> {
        let request = ReserveRequest {
            resource_path: queue(name),
            visibility_timeout_seconds: visibility,
            long_poll_timeout_seconds: long_poll,
        };
        Ok(self.queues().reserve(request).await?.into_inner().job)
    }

    /// Leases one job for 30 seconds if there is one.
    pub async fn reserve(&self, name: &str) -> Option<Job> {
        self.try_reserve(name, 0, 0).await.expect("reserve")
    }

    /// A Reserve that waits, in its own task.
    pub fn poll(&self, name: &str, long_poll: i64) -> JoinHandle<Reply<Option<Job>>> {
        let mut queues = self.queues();
        let request = ReserveRequest {
            resource_path: queue(name),
            visibility_timeout_seconds: 0,
            long_poll_timeout_seconds: long_poll,
        };
        tokio::spawn(async move { Ok(queues.reserve(request).await?.into_inner().job) })
    }

    pub async fn try_receive(&self, name: &str, max_jobs: i32, visibility: i64) -> Reply<Vec<Job>> {
        let request = ReceiveRequest {
            resource_path: queue(name),
            max_jobs,
            visibility_timeout_seconds: visibility,
            long_poll_timeout_seconds: 0,
        };
        Ok(self.queues().receive(request).await?.into_inner().jobs)
    }

    pub async fn receive(&self, name: &str, max_jobs: i32) -> Vec<Job> {
        self.try_receive(name, max_jobs, 0).await.expect("receive")
    }

    pub async fn try_ack(&self, name: &str, job_id: &str) -> Reply<()> {
        let request = AckRequest { resource_path: queue(name), job_id: job_id.into() };
        self.queues().ack(request).await.map(drop)
    }

    pub async fn ack(&self, name: &str, job_id: &str) {
        self.try_ack(name, job_id).await.expect("ack");
    }

    pub async fn try_nack(&self, name: &str, job_id: &str, delay_seconds: i64) -> Reply<()> {
        let request = NackRequest { resource_path: queue(name), job_id: job_id.into(), delay_seconds };
        self.queues().nack(request).await.map(drop)
    }

    pub async fn nack(&self, name: &str, job_id: &str) {
        self.try_nack(name, job_id, 0).await.expect("nack");
    }

    pub async fn stats(&self, name: &str) -> QueueStats {
        let request = GetQueueStatsRequest { resource_path: queue(name) };
        self.queues().get_queue_stats(request).await.expect("stats").into_inner().stats.expect("stats")
    }

    pub async fn try_set_policy(&self, name: &str, policy: Option<RetryPolicy>) -> Reply<()> {
        let request = SetRetryPolicyRequest { resource_path: queue(name), policy };
        self.queues().set_retry_policy(request).await.map(drop)
    }

    pub async fn set_policy(&self, name: &str, policy: RetryPolicy) {
        self.try_set_policy(name, Some(policy)).await.expect("set policy");
    }

    pub async fn try_policy(&self, name: &str) -> Reply<RetryPolicy> {
        let request = GetRetryPolicyRequest { resource_path: queue(name) };
        Ok(self.queues().get_retry_policy(request).await?.into_inner().policy.expect("a policy"))
    }

    pub async fn dead_letters(&self, name: &str, max_jobs: i32) -> Vec<Job> {
        let request = ListDlqJobsRequest { resource_path: queue(name), max_jobs };
        self.queues().list_dlq_jobs(request).await.expect("dead letters").into_inner().jobs
    }

    pub async fn try_replay(&self, name: &str, job_id: &str) -> Reply<ReplayDlqJobResponse> {
        let request = ReplayDlqJobRequest { resource_path: queue(name), job_id: job_id.into() };
        Ok(self.queues().replay_dlq_job(request).await?.into_inner())
    }

    /// A queue whose jobs are dead-lettered by the first nack, and one such job; gives its old id.
    pub async fn dead_letter(&self, name: &str, payload: &str) -> String {
        self.set_policy(name, RetryPolicy { max_attempts: 1, ..policy() }).await;
        self.enqueue(name, payload).await;
        let job = self.reserve(name).await.expect("a job");
        assert_eq!(code(self.try_nack(name, &job.id, 0).await), Code::FailedPrecondition);
        job.id
    }

    // ---- KV -----------------------------------------------------------------------------------

    pub async fn try_set(&self, name: &str, key: &str, value: &[u8], ttl_seconds: i64) -> Reply<()> {
        let request = SetRequest {
            resource_path: store(name),
            key: key.into(),
            value: Bytes::copy_from_slice(value),
            ttl_seconds,
        };
        self.kv().set(request).await.map(drop)
    }

    pub async fn set(&self, name: &str, key: &str, value: &str) {
        self.try_set(name, key, value.as_bytes(), 0).await.expect("set");
    }

    pub async fn try_get(&self, name: &str, key: &str) -> Reply<Bytes> {
        let request = GetRequest { resource_path: store(name), key: key.into() };
        Ok(self.kv().get(request).await?.into_inner().value)
    }

    /// The value as text; `None` when the key is absent.
    pub async fn get(&self, name: &str, key: &str) -> Option<String> {
        match self.try_get(name, key).await {
            Ok(value) => Some(String::from_utf8(value.into()).expect("text")),
            Err(status) => {
                assert_eq!(status.code(), Code::NotFound, "{status}");
                None
            }
        }
    }

    pub async fn try_delete(&self, name: &str, key: &str) -> Reply<()> {
        let request = DeleteRequest { resource_path: store(name), key: key.into() };
        self.kv().delete(request).await.map(drop)
    }

    pub async fn try_exists(&self, name: &str, key: &str) -> Reply<bool> {
        let request = ExistsRequest { resource_path: store(name), key: key.into() };
        Ok(self.kv().exists(request).await?.into_inner().exists)
    }

    pub async fn list(&self, name: &str, prefix: &str) -> Vec<String> {
        let request = ListKeysRequest { resource_path: store(name), prefix: prefix.into() };
        self.kv().list_keys(request).await.expect("list").into_inner().keys
    }
}

/// The next message of a subscription.
pub async fn next(subscription: &mut Streaming<SubscribeResponse>) -> Message {
    let reply = subscription.message().await.expect("no failure").expect("no end");
    assert_eq!(reply.status, None, "an in-band status");
    Message::decode(reply.message.expect("a message")).expect("a message")
}
