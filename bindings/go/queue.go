package flowmesh

// #include "shim.h"
// #cgo noescape fm_queue_enqueue
// #cgo nocallback fm_queue_enqueue
// #cgo noescape fm_queue_reserve
// #cgo nocallback fm_queue_reserve
// #cgo noescape fm_queue_receive
// #cgo nocallback fm_queue_receive
// #cgo noescape fm_queue_ack
// #cgo nocallback fm_queue_ack
// #cgo noescape fm_queue_nack
// #cgo nocallback fm_queue_nack
// #cgo noescape fm_queue_replay
// #cgo nocallback fm_queue_replay
import "C"

import (
	"context"
	"runtime"
	"time"
)

// Queue is a job queue.
type Queue struct {
	client *Client
	c      *C.flowmesh_queue_t
}

// Queue names a queue. It does no I/O; the first enqueue, reserve or policy creates the queue.
func (c *Client) Queue(tenant, namespace, name string) (*Queue, error) {
	handle, err := named(tenant, namespace, name, func(tenant, namespace, name *C.char, to **C.flowmesh_queue_t, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_queue_open(c.c, tenant, namespace, name, to, failure)
	})
	if err != nil {
		return nil, err
	}
	q := &Queue{client: c, c: handle}
	runtime.AddCleanup(q, func(handle *C.flowmesh_queue_t) { C.flowmesh_queue_free(handle) }, handle)
	return q, nil
}

// EnqueueOption is an option of [Queue.Enqueue].
type EnqueueOption interface{ enqueue(*enqueueOptions) }

// NackOption is an option of [Queue.Nack] and [Job.Nack].
type NackOption interface{ nack(*nackOptions) }

// ReserveOption is an option of [Queue.Reserve] and [Queue.Receive].
type ReserveOption interface{ reserve(*reserveOptions) }

type (
	enqueueOptions struct {
		delay   time.Duration
		headers map[string]string
	}
	nackOptions    struct{ delay time.Duration }
	reserveOptions struct{ lease, wait time.Duration }
)

// Delay is an option of [Queue.Enqueue], [Queue.Nack], [Job.Nack] and [Producer.Send].
type Delay time.Duration

// WithDelay has the job due after so long, in whole seconds, rounded up; at most a year. Without it, or
// with 0, a new job is due now, and one given back when the retry policy says.
func WithDelay(delay time.Duration) Delay { return Delay(delay) }

func (d Delay) enqueue(o *enqueueOptions) { o.delay = time.Duration(d) }
func (d Delay) nack(o *nackOptions)       { o.delay = time.Duration(d) }

// Headers is an option of [Queue.Enqueue].
type Headers map[string]string

// WithHeaders gives the job metadata, as UTF-8.
func WithHeaders(headers map[string]string) Headers { return headers }

func (h Headers) enqueue(o *enqueueOptions) { o.headers = h }

// Lease is an option of [Queue.Reserve], [Queue.Receive] and [Queue.Work].
type Lease time.Duration

// WithLease is the length of the lease, at most 12 hours; the default is 30 s.
func WithLease(length time.Duration) Lease { return Lease(length) }

func (l Lease) reserve(o *reserveOptions) { o.lease = time.Duration(l) }

type wait time.Duration

// WithWait waits so long for a job; below 0 until the context ends. The default is not to wait.
func WithWait(longest time.Duration) ReserveOption { return wait(longest) }

func (w wait) reserve(o *reserveOptions) { o.wait = time.Duration(w) }

// Enqueue adds a job and returns its id and its number in the queue. It is never repeated: after an
// error with [OutcomeUnknown] the job may be stored.
func (q *Queue) Enqueue(ctx context.Context, payload []byte, options ...EnqueueOption) (id string, seq int64, err error) {
	var set enqueueOptions
	if len(options) > 0 {
		set = enqueueOptionsOf(options)
	}
	var p packed
	p.pack([]Event{{Payload: payload, Headers: set.headers}})
	defer runtime.KeepAlive(q)
	call, err := q.client.p.short(ctx, func(c *C.fm_call_t) C.bool {
		return C.fm_queue_enqueue(c, q.c, bytesData(p.bytes), &p.lengths[0], C.int64_t(milliseconds(set.delay)))
	})
	if err != nil {
		return "", 0, err
	}
	defer call.end()
	return C.GoString(&call.c.text[0]), int64(call.c.number[0]), nil
}

func enqueueOptionsOf(options []EnqueueOption) (set enqueueOptions) {
	for _, option := range options {
		option.enqueue(&set)
	}
	return set
}

// milliseconds of the wait; -1 for ever, as the context ends it.
func (o *reserveOptions) waitMS() int64 {
	if o.wait < 0 {
		return -1
	}
	return milliseconds(o.wait)
}

// Reserve leases the next due job. When none was due within the time of [WithWait], the error is
// [ErrNoJob]. The lease stays until the job is acknowledged, given back, or its time is over.
func (q *Queue) Reserve(ctx context.Context, options ...ReserveOption) (*Job, error) {
	call, set, err := q.reserving(ctx, options)
	if err != nil {
		return nil, err
	}
	defer call.end()
	defer runtime.KeepAlive(q)
	leave := call.enter(ctx)
	ok := C.fm_queue_reserve(call.c, q.c, C.int64_t(milliseconds(set.lease)), C.int64_t(set.waitMS()))
	leave()
	if err := call.wait(ctx, ok); err != nil {
		return nil, err
	}
	if call.c.object == nil {
		return nil, ErrNoJob
	}
	return q.jobsOf(C.fm_jobs_take(call.c))[0], nil
}

// Receive leases up to limit due jobs (1 to 100; 0 is 1), waiting as [WithWait] says for the first; none is
// no error.
func (q *Queue) Receive(ctx context.Context, limit int, options ...ReserveOption) ([]*Job, error) {
	size, err := countOf("limit", limit)
	if err != nil {
		return nil, err
	}
	call, set, err := q.reserving(ctx, options)
	if err != nil {
		return nil, err
	}
	defer call.end()
	defer runtime.KeepAlive(q)
	leave := call.enter(ctx)
	ok := C.fm_queue_receive(call.c, q.c, size, C.int64_t(milliseconds(set.lease)), C.int64_t(set.waitMS()))
	leave()
	if err := call.wait(ctx, ok); err != nil {
		return nil, err
	}
	return q.jobsOf(C.fm_jobs_take(call.c)), nil
}

// reserving begins a call that waits for as long as the options say.
func (q *Queue) reserving(ctx context.Context, options []ReserveOption) (*call, *reserveOptions, error) {
	set := &reserveOptions{}
	for _, option := range options {
		option.reserve(set)
	}
	begin := q.client.p.begin
	if set.wait != 0 {
		begin = q.client.p.beginLong
	}
	call, err := begin(ctx)
	if err == nil && set.wait != 0 {
		// The library's own deadline is beyond the wait; that of the context, within it.
		call.c.timeout_ms = 0
	}
	return call, set, err
}

// Ack acknowledges a leased job by its id: it is done and gone. An id that is not leased (any more)
// is no error and changes nothing.
func (q *Queue) Ack(ctx context.Context, id string) error {
	name, err := inline("id", id)
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(q)
	return done(q.client.p.short(ctx, func(c *C.fm_call_t) C.bool {
		return C.fm_queue_ack(c, q.c, chars(name))
	}))
}

// AckAll acknowledges jobs of this queue, all on their way at once, and returns how many were. One
// that fails does not stop the others; the first failure is the error.
func (q *Queue) AckAll(ctx context.Context, jobs []*Job) (acked int, err error) {
	var ids []byte
	for _, job := range jobs {
		if job.until.IsZero() {
			return 0, notLeased("acknowledged")
		}
		ids = append(append(ids, job.ID...), 0)
	}
	if len(jobs) == 0 {
		return 0, nil
	}
	call, err := q.client.p.beginLong(ctx)
	if err != nil {
		return 0, err
	}
	defer call.end()
	defer runtime.KeepAlive(q)
	err = call.wait(ctx, C.fm_queue_ack_all(call.c, q.c, chars(ids), C.size_t(len(jobs))))
	return int(call.c.number[0]), err
}

// Nack gives a leased job back, to be tried again after [WithDelay] or the policy's backoff. A job at
// its last attempt goes to the dead-letter queue instead, which is no error: deadLettered says
// so. A job that is not leased (any more) is [ErrNotFound].
func (q *Queue) Nack(ctx context.Context, id string, options ...NackOption) (deadLettered bool, err error) {
	var set nackOptions
	for _, option := range options {
		option.nack(&set)
	}
	name, err := inline("id", id)
	if err != nil {
		return false, err
	}
	defer runtime.KeepAlive(q)
	call, err := q.client.p.short(ctx, func(c *C.fm_call_t) C.bool {
		return C.fm_queue_nack(c, q.c, chars(name), C.int64_t(milliseconds(set.delay)))
	})
	if err != nil {
		return false, err
	}
	defer call.end()
	return call.c.number[0] != 0, nil
}
