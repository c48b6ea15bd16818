package flowmesh

// #include "shim.h"
import "C"

import (
	"context"
	"runtime"
	"time"
)

// QueueStats are the counters of a queue; they survive restarts.
type QueueStats struct {
	TotalJobs     int64 // ever enqueued, moved or replayed into the queue
	PendingJobs   int64 // waiting, due or not
	InFlightJobs  int64 // leased
	CompletedJobs int64 // acknowledged
	FailedJobs    int64 // moved to the dead-letter queue
	OldestJobAge  time.Duration
}

// Stats reads the counters.
func (q *Queue) Stats(ctx context.Context) (QueueStats, error) {
	defer runtime.KeepAlive(q)
	call, err := q.client.p.long(ctx, func(c *C.fm_call_t) C.bool {
		return C.fm_queue_stats(c, q.c)
	})
	if err != nil {
		return QueueStats{}, err
	}
	defer call.end()
	n := &call.c.number
	return QueueStats{
		TotalJobs:     int64(n[0]),
		PendingJobs:   int64(n[1]),
		InFlightJobs:  int64(n[2]),
		CompletedJobs: int64(n[3]),
		FailedJobs:    int64(n[4]),
		OldestJobAge:  time.Duration(n[5]) * time.Millisecond,
	}, nil
}

// Backoff says how the pause grows with the number n of deliveries.
type Backoff int32

// The ways to back off.
const (
	BackoffFixed       Backoff = C.FLOWMESH_BACKOFF_FIXED       // Initial each time
	BackoffLinear      Backoff = C.FLOWMESH_BACKOFF_LINEAR      // Initial times n
	BackoffExponential Backoff = C.FLOWMESH_BACKOFF_EXPONENTIAL // Initial times Multiplier to the power of n-1
)

// RetryPolicy says when a job that failed is tried again.
type RetryPolicy struct {
	MaxAttempts int // deliveries before a job is dead-lettered, 0 for no limit
	Backoff     Backoff
	Initial     time.Duration // after the first delivery; above 0
	Max         time.Duration // longest pause; from Initial to a year
	Multiplier  float64       // above 0
}

// DefaultRetryPolicy is what a queue has before another one is set: 3 deliveries, 1 s and 2 s apart.
func DefaultRetryPolicy() RetryPolicy {
	return RetryPolicy{MaxAttempts: 3, Backoff: BackoffExponential, Initial: time.Second, Max: time.Minute, Multiplier: 2}
}

// SetRetryPolicy sets the policy; it counts from the next nack or expiry on.
func (q *Queue) SetRetryPolicy(ctx context.Context, policy RetryPolicy) error {
	attempts, err := countOf("MaxAttempts", policy.MaxAttempts)
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(q)
	return done(q.client.p.long(ctx, func(c *C.fm_call_t) C.bool {
		return C.fm_queue_set_policy(c, q.c, attempts, C.int32_t(policy.Backoff),
			C.int64_t(milliseconds(policy.Initial)), C.int64_t(milliseconds(policy.Max)), C.double(policy.Multiplier))
	}))
}

// RetryPolicy reads the policy in force.
func (q *Queue) RetryPolicy(ctx context.Context) (RetryPolicy, error) {
	defer runtime.KeepAlive(q)
	call, err := q.client.p.long(ctx, func(c *C.fm_call_t) C.bool {
		return C.fm_queue_get_policy(c, q.c)
	})
	if err != nil {
		return RetryPolicy{}, err
	}
	defer call.end()
	n := &call.c.number
	return RetryPolicy{
		MaxAttempts: int(n[0]),
		Backoff:     Backoff(n[1]),
		Initial:     time.Duration(n[2]) * time.Millisecond,
		Max:         time.Duration(n[3]) * time.Millisecond,
		Multiplier:  float64(call.c.real),
	}, nil
}

// DeadLetters lists dead letters of this queue that wait: up to limit (0 is 100). They are not
// leased: give their ids to [Queue.Replay]. There is no cursor: later ones show once earlier
// ones are handled.
func (q *Queue) DeadLetters(ctx context.Context, limit int) ([]*Job, error) {
	size, err := countOf("limit", limit)
	if err != nil {
		return nil, err
	}
	defer runtime.KeepAlive(q)
	call, err := q.client.p.long(ctx, func(c *C.fm_call_t) C.bool {
		return C.fm_queue_dead_letters(c, q.c, size)
	})
	if err != nil {
		return nil, err
	}
	defer call.end()
	return q.jobsOf(C.fm_jobs_take(call.c)), nil
}

// Replay moves a dead letter back into this queue as a new job, due now, with no attempts counted. It
// returns the new id and number. No dead letter with this id is [ErrNotFound].
func (q *Queue) Replay(ctx context.Context, id string) (newID string, seq int64, err error) {
	name, err := inline("id", id)
	if err != nil {
		return "", 0, err
	}
	defer runtime.KeepAlive(q)
	call, err := q.client.p.long(ctx, func(c *C.fm_call_t) C.bool {
		return C.fm_queue_replay(c, q.c, chars(name))
	})
	if err != nil {
		return "", 0, err
	}
	defer call.end()
	return C.GoString(&call.c.text[0]), int64(call.c.number[0]), nil
}
