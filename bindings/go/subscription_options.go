package flowmesh

// #include "shim.h"
import "C"

import "time"

// Where a subscription starts, beside an offset from 0 on.
const (
	StartCommitted int64 = C.FLOWMESH_START_COMMITTED // after the last offset that the group committed, 0 without one
	StartNew       int64 = C.FLOWMESH_START_NEW       // with what is written from now on
)

// SubscriptionState is how a subscription stands with the server.
type SubscriptionState int32

// The states.
const (
	SubscriptionConnecting SubscriptionState = C.FLOWMESH_SUBSCRIPTION_CONNECTING // not yet, or not yet again after a seek
	SubscriptionConnected  SubscriptionState = C.FLOWMESH_SUBSCRIPTION_CONNECTED  // connected, or connected again
	SubscriptionLost       SubscriptionState = C.FLOWMESH_SUBSCRIPTION_LOST       // it reconnects by itself
	SubscriptionEnded      SubscriptionState = C.FLOWMESH_SUBSCRIPTION_ENDED      // the server refused it, or its client was closed

	// A commit of [WithAutoCommit] failed, for the reason given: the next one covers it. State does not
	// give it.
	SubscriptionCommitFailed SubscriptionState = C.FLOWMESH_SUBSCRIPTION_COMMIT_FAILED
)

// SubscribeOption is an option of [Stream.Subscribe].
type SubscribeOption func(*subscribeOptions)

type subscribeOptions struct {
	group             string
	start             int64
	batch, batchBytes int
	prefetchBytes     int
	backoff, longest  time.Duration
	commits           bool
	commitInterval    time.Duration
	state             func(SubscriptionState, error)
}

// WithGroup is the consumer group that [StartCommitted] and [Subscription.Commit] mean. Default
// "default".
func WithGroup(group string) SubscribeOption { return func(o *subscribeOptions) { o.group = group } }

// WithStart is where to start: an offset, [StartCommitted] (the default) or [StartNew].
func WithStart(offset int64) SubscribeOption { return func(o *subscribeOptions) { o.start = offset } }

// WithMaxBatch is how many messages [Subscription.NextBatch] gives at most. Default 1024.
func WithMaxBatch(messages int) SubscribeOption {
	return func(o *subscribeOptions) { o.batch = messages }
}

// WithMaxBatchBytes is how many bytes [Subscription.NextBatch] gives at most, but for the message that
// reaches them. Default 256 KiB.
func WithMaxBatchBytes(bytes int) SubscribeOption {
	return func(o *subscribeOptions) { o.batchBytes = bytes }
}

// WithPrefetchBytes is how much may have arrived and wait beside a few batches; then the server is
// held up. Default 4 MiB.
func WithPrefetchBytes(bytes int) SubscribeOption {
	return func(o *subscribeOptions) { o.prefetchBytes = bytes }
}

// WithBackoff is how long to wait before connecting again: up to first after the second attempt, twice
// as much with each, up to longest. Default 100 ms and 10 s.
func WithBackoff(first, longest time.Duration) SubscribeOption {
	return func(o *subscribeOptions) { o.backoff, o.longest = first, longest }
}

// WithAutoCommit has the subscription commit by itself, for its consumer group, at most once per
// interval (0: whenever there is something): all that was given out before the last request for more, as asking for the next message
// says that those before it are done. So it is for one goroutine that handles messages in turn. The
// close commits what is still due; what was given out last is committed by [Subscription.Commit] alone.
// A commit that fails is told as [SubscriptionCommitFailed], and covered by the next.
func WithAutoCommit(interval time.Duration) SubscribeOption {
	return func(o *subscribeOptions) { o.commits, o.commitInterval = true, interval }
}

// WithStateFunc has f told of changes of state, and why: one call at a time, in order.
func WithStateFunc(f func(state SubscriptionState, reason error)) SubscribeOption {
	return func(o *subscribeOptions) { o.state = f }
}

func (o *subscribeOptions) build() (*C.flowmesh_subscription_options_t, error) {
	group, err := inline("group", o.group)
	if err != nil {
		return nil, err
	}
	if o.commitInterval < 0 {
		return nil, invalid("interval of automatic commits: %v is negative", o.commitInterval)
	}
	var to *C.flowmesh_subscription_options_t
	var try setters
	try.set(func(failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_subscription_options_new(&to, failure)
	})
	try.set(func(failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_subscription_options_set_consumer_group(to, chars(group), failure)
	})
	try.set(func(failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_subscription_options_set_start_offset(to, C.int64_t(o.start), failure)
	})
	try.size(o.batch, func(value C.size_t, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_subscription_options_set_max_batch_messages(to, value, failure)
	})
	try.size(o.batchBytes, func(value C.size_t, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_subscription_options_set_max_batch_bytes(to, value, failure)
	})
	try.size(o.prefetchBytes, func(value C.size_t, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_subscription_options_set_max_prefetch_bytes(to, value, failure)
	})
	if o.backoff != 0 || o.longest != 0 {
		try.set(func(failure **C.flowmesh_error_t) C.flowmesh_status_t {
			return C.flowmesh_subscription_options_set_backoff(to, C.int64_t(milliseconds(o.backoff)), C.int64_t(milliseconds(o.longest)), failure)
		})
	}
	if err := try.err(); err != nil {
		C.flowmesh_subscription_options_free(to)
		return nil, err
	}
	return to, nil
}
