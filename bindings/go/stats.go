package flowmesh

// #include "shim.h"
import "C"

import (
	"runtime"
	"time"
)

// ClientStats is what a client has counted since it was opened, and what it holds now.
type ClientStats struct {
	CallsStarted, CallsSucceeded, CallsFailed, CallsCancelled uint64
	CallsRetried                                              uint64 // repeated after the connection failed
	CallsUnderWay                                             uint64

	// Latencies of the calls that succeeded, without those that wait for a job.
	LatencyP50, LatencyP90, LatencyP99, LatencyP999, LatencyMax time.Duration

	BytesSent, BytesReceived         uint64
	ConnectionsMade, ConnectionsLost uint64
	MessagesDelivered                uint64 // to subscribers
	Subscriptions                    uint64 // that have not ended
	PrefetchedBytes                  uint64 // that wait for the application
	ProducerBytes, ProducerMessages  uint64 // accepted and not reported yet
	WorkerJobs                       uint64 // leased, and not settled
}

// Stats reads the statistics, also after the client was closed.
func (c *Client) Stats() (ClientStats, error) {
	defer runtime.KeepAlive(c)
	from := C.flowmesh_client_stats_t{size: C.sizeof_flowmesh_client_stats_t}
	var failure *C.flowmesh_error_t
	if C.flowmesh_client_get_stats(c.c, &from, &failure) != C.FLOWMESH_OK {
		return ClientStats{}, takeError(failure)
	}
	return ClientStats{
		CallsStarted:      uint64(from.calls_started),
		CallsSucceeded:    uint64(from.calls_succeeded),
		CallsFailed:       uint64(from.calls_failed),
		CallsCancelled:    uint64(from.calls_cancelled),
		CallsRetried:      uint64(from.calls_retried),
		CallsUnderWay:     uint64(from.calls_under_way),
		LatencyP50:        time.Duration(from.latency_p50_ns),
		LatencyP90:        time.Duration(from.latency_p90_ns),
		LatencyP99:        time.Duration(from.latency_p99_ns),
		LatencyP999:       time.Duration(from.latency_p999_ns),
		LatencyMax:        time.Duration(from.latency_max_ns),
		BytesSent:         uint64(from.bytes_sent),
		BytesReceived:     uint64(from.bytes_received),
		ConnectionsMade:   uint64(from.connections_made),
		ConnectionsLost:   uint64(from.connections_lost),
		MessagesDelivered: uint64(from.messages_delivered),
		Subscriptions:     uint64(from.subscriptions),
		PrefetchedBytes:   uint64(from.prefetched_bytes),
		ProducerBytes:     uint64(from.producer_bytes),
		ProducerMessages:  uint64(from.producer_messages),
		WorkerJobs:        uint64(from.worker_jobs),
	}, nil
}
