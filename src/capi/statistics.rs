//! What a client counts.

use super::{
    boundary::{guard, handle::Required as _, nullable::NullableError, options::Out},
    client::flowmesh_client_t,
    status::flowmesh_status_t,
};

/// What a client has counted since it was opened, and what it holds now. Each number is right by
/// itself; together they are not one instant. Start from FLOWMESH_CLIENT_STATS_INIT.
///
///     flowmesh_client_stats_t stats = FLOWMESH_CLIENT_STATS_INIT;
///     status = flowmesh_client_get_stats(client, &stats, &error);
///     if (status == FLOWMESH_OK) {
///         printf("%" PRIu64 " calls, p99 %" PRIu64 " us\n", stats.calls_started,
///                stats.latency_p99_ns / 1000);
///     }
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flowmesh_client_stats_t {
    /// sizeof(flowmesh_client_stats_t).
    pub size: usize,
    /// Calls begun, those of subscriptions, producers and workers included. A call that the
    /// library refuses for its arguments, or because the client is closed, is none.
    pub calls_started: u64,
    /// Calls that succeeded.
    pub calls_succeeded: u64,
    /// Calls that failed, at their deadline too.
    pub calls_failed: u64,
    /// Calls that the caller cancelled.
    pub calls_cancelled: u64,
    /// Calls that the library repeated after the connection failed.
    pub calls_retried: u64,
    /// Calls begun and not ended.
    pub calls_under_way: u64,
    /// Half of the calls took at most this long. Latencies are those of calls that succeeded,
    /// without calls that may wait for a job; they are up to 1/16 too high, and 0 without calls.
    pub latency_p50_ns: u64,
    /// 90 of 100 calls took at most this long.
    pub latency_p90_ns: u64,
    /// 99 of 100.
    pub latency_p99_ns: u64,
    /// 999 of 1000.
    pub latency_p999_ns: u64,
    /// The longest, exactly.
    pub latency_max_ns: u64,
    /// Bytes written to sockets; 0 for embedded endpoints, as all about connections.
    pub bytes_sent: u64,
    /// Bytes read from sockets.
    pub bytes_received: u64,
    /// Connections made: the first and every reconnect.
    pub connections_made: u64,
    /// Connections that ended otherwise than by closing the client.
    pub connections_lost: u64,
    /// Messages given to subscribers.
    pub messages_delivered: u64,
    /// Subscriptions that have not ended.
    pub subscriptions: u64,
    /// Bytes that arrived for subscriptions and wait for the application.
    pub prefetched_bytes: u64,
    /// Bytes that producers accepted and have not reported yet.
    pub producer_bytes: u64,
    /// Messages that producers accepted and have not reported yet.
    pub producer_messages: u64,
    /// Jobs that workers hold: leased, and neither acknowledged nor given back.
    pub worker_jobs: u64,
}

/// Reads the client's statistics, also after it was closed. `stats->size` must be set
/// (FLOWMESH_CLIENT_STATS_INIT). Does no I/O and does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_get_stats(
    client: Option<&flowmesh_client_t>,
    stats: *mut flowmesh_client_stats_t,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let client = &client.required("client")?.client;
        let out = Out::new(stats, "stats")?;
        client.check_process()?;
        let stats = client.stats();
        out.write(flowmesh_client_stats_t {
            size: 0,
            calls_started: stats.calls_started,
            calls_succeeded: stats.calls_succeeded,
            calls_failed: stats.calls_failed,
            calls_cancelled: stats.calls_cancelled,
            calls_retried: stats.calls_retried,
            calls_under_way: stats.calls_under_way,
            latency_p50_ns: stats.latency_p50_ns,
            latency_p90_ns: stats.latency_p90_ns,
            latency_p99_ns: stats.latency_p99_ns,
            latency_p999_ns: stats.latency_p999_ns,
            latency_max_ns: stats.latency_max_ns,
            bytes_sent: stats.bytes_sent,
            bytes_received: stats.bytes_received,
            connections_made: stats.connections_made,
            connections_lost: stats.connections_lost,
            messages_delivered: stats.messages_delivered,
            subscriptions: stats.subscriptions,
            prefetched_bytes: stats.prefetched_bytes,
            producer_bytes: stats.producer_bytes,
            producer_messages: stats.producer_messages,
            worker_jobs: stats.worker_jobs,
        });
        Ok(())
    })
}
