//! Every rpc of the four services that takes a resource path, with valid fields beside it.

use std::collections::BTreeMap;

use bytes::Bytes;
use flowmesh_proto::v1::*;
use tonic::Code;

use crate::{
    ops::{event, policy},
    world::World,
};

/// Method paths of the four services.
pub const METHODS: [&str; 24] = [
    "flowmesh.v1.HealthService/HealthCheck",
    "flowmesh.v1.HealthService/ReadinessCheck",
    "flowmesh.v1.StreamService/WriteEvents",
    "flowmesh.v1.StreamService/ReadStream",
    "flowmesh.v1.StreamService/Subscribe",
    "flowmesh.v1.StreamService/CommitOffset",
    "flowmesh.v1.StreamService/GetOffset",
    "flowmesh.v1.StreamService/GetLatestOffset",
    "flowmesh.v1.StreamService/GetConsumerGroupState",
    "flowmesh.v1.QueueService/Enqueue",
    "flowmesh.v1.QueueService/Reserve",
    "flowmesh.v1.QueueService/Receive",
    "flowmesh.v1.QueueService/ACK",
    "flowmesh.v1.QueueService/NACK",
    "flowmesh.v1.QueueService/GetQueueStats",
    "flowmesh.v1.QueueService/SetRetryPolicy",
    "flowmesh.v1.QueueService/GetRetryPolicy",
    "flowmesh.v1.QueueService/ListDLQJobs",
    "flowmesh.v1.QueueService/ReplayDLQJob",
    "flowmesh.v1.KVService/Set",
    "flowmesh.v1.KVService/Get",
    "flowmesh.v1.KVService/Delete",
    "flowmesh.v1.KVService/Exists",
    "flowmesh.v1.KVService/ListKeys",
];

/// Calls each with the path that `path` makes for its resource type and name; the name is that
/// of the rpc, so that no rpc sees what another one created. Gives rpc, code and text.
pub async fn call_every_rpc(
    w: &World,
    path: impl Fn(&str, &str) -> Option<ResourcePath>,
) -> Vec<(&'static str, Code, String)> {
    let mut results = Vec::new();
    macro_rules! call {
        ($client:ident $kind:literal $rpc:ident $request:ident { $($fields:tt)* }) => {
            let request = $request { resource_path: path($kind, stringify!($rpc)), $($fields)* };
            let (code, text) = match w.$client().$rpc(request).await {
                Ok(_) => (Code::Ok, String::new()),
                Err(e) => (e.code(), e.message().to_owned()),
            };
            results.push((stringify!($rpc), code, text));
        };
    }
    let (consumer_group, partition) = ("g".to_owned(), 0);
    let (payload, headers, key) = (Bytes::from_static(b"x"), BTreeMap::new(), "k".to_owned());
    let job_id = "0123456789abcdef0123456789abcdef".to_owned();
    let (visibility_timeout_seconds, long_poll_timeout_seconds) = (0, 0);
    let group = || consumer_group.clone();
    let events = vec![event(b"x")];

    call!(streams "stream" write_events WriteEventsRequest { events });
    call!(streams "stream" read_stream ReadStreamRequest { partition, offset: 0, max_messages: 0 });
    call!(streams "stream" subscribe SubscribeRequest { consumer_group: group(), partition, start_offset: -1 });
    call!(streams "stream" commit_offset CommitOffsetRequest { consumer_group: group(), partition, offset: 0 });
    call!(streams "stream" get_offset GetOffsetRequest { consumer_group: group(), partition });
    call!(streams "stream" get_latest_offset GetLatestOffsetRequest { partition });
    call!(streams "stream" get_consumer_group_state GetConsumerGroupStateRequest {
        consumer_group: group(), partition
    });
    call!(queues "queue" enqueue EnqueueRequest { payload: payload.clone(), delay_seconds: 0, headers });
    call!(queues "queue" reserve ReserveRequest { visibility_timeout_seconds, long_poll_timeout_seconds });
    call!(queues "queue" receive ReceiveRequest {
        max_jobs: 1, visibility_timeout_seconds, long_poll_timeout_seconds
    });
    call!(queues "queue" ack AckRequest { job_id: job_id.clone() });
    call!(queues "queue" nack NackRequest { job_id: job_id.clone(), delay_seconds: 0 });
    call!(queues "queue" get_queue_stats GetQueueStatsRequest {});
    call!(queues "queue" set_retry_policy SetRetryPolicyRequest { policy: Some(policy()) });
    call!(queues "queue" get_retry_policy GetRetryPolicyRequest {});
    call!(queues "queue" list_dlq_jobs ListDlqJobsRequest { max_jobs: 0 });
    call!(queues "queue" replay_dlq_job ReplayDlqJobRequest { job_id });
    call!(kv "kv" set SetRequest { key: key.clone(), value: payload, ttl_seconds: 0 });
    call!(kv "kv" get GetRequest { key: key.clone() });
    call!(kv "kv" delete DeleteRequest { key: key.clone() });
    call!(kv "kv" exists ExistsRequest { key });
    call!(kv "kv" list_keys ListKeysRequest { prefix: String::new() });
    results
}
