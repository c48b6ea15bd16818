package flowmesh

// #include "shim.h"
import "C"

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"
	"unsafe"
)

// Handler handles a job. With nil the job is done; with an error it is given back, to be tried again
// when the retry policy says, or after [RetryAfter]. Do not call the job's own Ack or Nack. The context
// ends when the lease was lost ([ErrLeaseLost] is its cause) or the worker was stopped: the handler had
// better stop then, as its verdict is not sent.
type Handler func(ctx context.Context, job *Job) error

// ErrLeaseLost is the cause of a handler's context when the lease of its job is over.
var ErrLeaseLost = errors.New("flowmesh: the lease of the job is over")

var errWorkerStopped = errors.New("flowmesh: the worker was stopped")

type retryAfter struct {
	error
	delay time.Duration
}

func (r retryAfter) Unwrap() error { return r.error }

// RetryAfter has a handler's error give the job back for so long.
func RetryAfter(err error, delay time.Duration) error { return retryAfter{err, delay} }

// WorkerEventKind says what happened to a worker.
type WorkerEventKind int32

// The kinds.
const (
	WorkerFetchFailed  WorkerEventKind = C.FLOWMESH_WORKER_FETCH_FAILED  // jobs cannot be fetched; it goes on trying
	WorkerFetchResumed WorkerEventKind = C.FLOWMESH_WORKER_FETCH_RESUMED // they can again
	WorkerLeaseLost    WorkerEventKind = C.FLOWMESH_WORKER_LEASE_LOST    // a lease ended before its verdict was stored
	WorkerDeadLettered WorkerEventKind = C.FLOWMESH_WORKER_DEAD_LETTERED // a job given back had reached its attempt limit
	WorkerNotSettled   WorkerEventKind = C.FLOWMESH_WORKER_NOT_SETTLED   // a verdict could not be stored
	WorkerEnded        WorkerEventKind = C.FLOWMESH_WORKER_ENDED         // the server refuses it, or its client was closed
)

// WorkerEvent is something that happened to a worker.
type WorkerEvent struct {
	Kind     WorkerEventKind
	JobID    string // "" where it is not about a job
	Seq      int64  // -1 where it is not about a job
	Attempts int
	Reason   error // nil where there is none
}

// PollMode is how a worker asks for jobs.
type PollMode int32

// The modes.
const (
	PollAuto PollMode = C.FLOWMESH_POLL_AUTO // as the server can; the default
	PollLong PollMode = C.FLOWMESH_POLL_LONG // the server waits until there is a job
	PollSafe PollMode = C.FLOWMESH_POLL_SAFE // for the original engine, see flowmesh.h
)

// WorkerOption is an option of [Queue.Work]; [WithLease] is one as well.
type WorkerOption interface{ worker(*workerOptions) }

type workerOptions struct {
	concurrency int
	prefetch    *int // nil for the default
	lease       time.Duration
	mode        PollMode
	events      func(WorkerEvent)
}

type workerOption func(*workerOptions)

func (f workerOption) worker(o *workerOptions) { f(o) }
func (l Lease) worker(o *workerOptions)        { o.lease = time.Duration(l) }

// WithConcurrency is how many jobs are handled at once, each on a goroutine: 1, the default, to 4096.
func WithConcurrency(jobs int) WorkerOption {
	return workerOption(func(o *workerOptions) { o.concurrency = jobs })
}

// WithPrefetch is how many jobs are leased ahead at most, 0 to 100. Default 16.
func WithPrefetch(jobs int) WorkerOption {
	return workerOption(func(o *workerOptions) { o.prefetch = &jobs })
}

// WithPollMode is how to ask for jobs.
func WithPollMode(mode PollMode) WorkerOption {
	return workerOption(func(o *workerOptions) { o.mode = mode })
}

// WithWorkerEvents has f told of what happens: one call at a time, in order.
func WithWorkerEvents(f func(WorkerEvent)) WorkerOption {
	return workerOption(func(o *workerOptions) { o.events = f })
}

// Worker hands the jobs of a queue to a [Handler], each on a goroutine of its own. It fetches by long
// poll and sends verdicts in the background, many at a time. Close it when done.
type Worker struct {
	queue   *Queue
	id      uint64
	handler Handler
	events  func(WorkerEvent)
	calls   serial
	ctx     context.Context
	stop    context.CancelCauseFunc
	jobs    sync.WaitGroup

	use sync.RWMutex
	c   *C.flowmesh_worker_t // nil once released

	mu      sync.Mutex
	running map[string]context.CancelCauseFunc // by the id of the job
}

// Work starts to work on the queue; a queue that does not exist is created. It connects in the
// background: what fails there is told as an event.
func (q *Queue) Work(handler Handler, options ...WorkerOption) (*Worker, error) {
	set := workerOptions{concurrency: 1}
	for _, option := range options {
		option.worker(&set)
	}
	if handler == nil {
		return nil, invalid("handler: must not be nil")
	}
	to, err := set.build()
	if err != nil {
		return nil, err
	}
	defer C.flowmesh_worker_options_free(to)
	p := q.client.p
	// As of a call: the pump must not end before this is registered.
	call, err := p.beginLong(context.Background())
	if err != nil {
		return nil, err
	}
	defer call.end()
	w := &Worker{queue: q, id: p.nextID(), handler: handler, events: set.events, running: map[string]context.CancelCauseFunc{}}
	w.ctx, w.stop = context.WithCancelCause(context.Background())
	p.register(w.id, w)
	var failure *C.flowmesh_error_t
	status := C.fm_worker_open(q.c, to, p.c, C.uint64_t(w.id), &w.c, &failure)
	runtime.KeepAlive(q)
	if status != C.FLOWMESH_OK {
		p.unregister(w.id)
		w.stop(errWorkerStopped)
		return nil, takeError(failure)
	}
	return w, nil
}

func (o *workerOptions) build() (*C.flowmesh_worker_options_t, error) {
	concurrency, err := countOf("concurrency", o.concurrency)
	if err != nil {
		return nil, err
	}
	var prefetch C.int32_t
	if o.prefetch != nil {
		if prefetch, err = countOf("prefetch", *o.prefetch); err != nil {
			return nil, err
		}
	}
	var to *C.flowmesh_worker_options_t
	var try setters
	try.set(func(failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_worker_options_new(&to, failure)
	})
	try.set(func(failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_worker_options_set_concurrency(to, C.size_t(concurrency), failure)
	})
	if o.prefetch != nil {
		try.set(func(failure **C.flowmesh_error_t) C.flowmesh_status_t {
			return C.flowmesh_worker_options_set_prefetch(to, C.size_t(prefetch), failure)
		})
	}
	if o.lease != 0 {
		try.set(func(failure **C.flowmesh_error_t) C.flowmesh_status_t {
			return C.flowmesh_worker_options_set_visibility_timeout_ms(to, C.int64_t(milliseconds(o.lease)), failure)
		})
	}
	try.set(func(failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_worker_options_set_poll_mode(to, C.flowmesh_poll_mode_t(o.mode), failure)
	})
	if err := try.err(); err != nil {
		C.flowmesh_worker_options_free(to)
		return nil, err
	}
	return to, nil
}

// tell is called by the pump.
func (w *Worker) tell(node *C.fm_node_t) {
	if node.kind != C.FM_JOB {
		w.happened((*C.fm_event_t)(unsafe.Pointer(node)))
		return
	}
	handed := (*C.fm_handed_t)(unsafe.Pointer(node))
	ctx, cancel := context.WithCancelCause(w.ctx)
	job := w.queue.jobsOf(C.fm_jobs_of(handed.job))[0]
	// Before the pump can tell that the lease is lost.
	w.mu.Lock()
	w.running[job.ID] = cancel
	w.mu.Unlock()
	w.jobs.Add(1)
	go w.handle(ctx, cancel, job, handed)
}

func (w *Worker) handle(ctx context.Context, cancel context.CancelCauseFunc, job *Job, handed *C.fm_handed_t) {
	defer w.jobs.Done()
	defer cancel(nil)
	err := w.handler(ctx, job)
	verdict, delay := C.int32_t(C.FLOWMESH_VERDICT_ACK), time.Duration(0)
	if err != nil {
		verdict = C.FLOWMESH_VERDICT_NACK
		var after retryAfter
		if errors.As(err, &after) {
			delay = after.delay
		}
	}
	w.mu.Lock()
	delete(w.running, job.ID)
	w.mu.Unlock()
	var failure *C.flowmesh_error_t
	status := C.fm_worker_settle(handed, verdict, C.int64_t(milliseconds(delay)), &failure)
	if status == C.FLOWMESH_INVALID_ARGUMENT {
		// A delay that cannot be; the job must not wait for the end of its lease for that.
		w.report(WorkerEvent{Kind: WorkerNotSettled, JobID: job.ID, Seq: job.Seq, Attempts: job.Attempts, Reason: newError(failure)})
		C.fm_worker_settle(handed, verdict, 0, nil)
	}
	// Other refusals say that the worker has ended, or that the lease has, which was told.
	C.flowmesh_error_free(failure)
	C.fm_handed_free(handed)
}

// happened takes an event from the pump.
func (w *Worker) happened(from *C.fm_event_t) {
	event := WorkerEvent{
		Kind:     WorkerEventKind(from.what),
		JobID:    C.GoString(&from.job_id[0]),
		Seq:      int64(from.seq),
		Attempts: int(from.attempts),
	}
	if from.has_reason {
		event.Reason = failureError(&from.reason)
	}
	C.fm_event_free(from)
	if event.Kind == WorkerLeaseLost {
		w.mu.Lock()
		cancel := w.running[event.JobID]
		w.mu.Unlock()
		if cancel != nil {
			cancel(ErrLeaseLost)
		}
	}
	w.report(event)
}

func (w *Worker) report(event WorkerEvent) {
	if w.events != nil {
		w.calls.post(func() { w.events(event) })
	}
}

// Close drains the worker: it fetches nothing more, handlers finish, and their verdicts are stored.
func (w *Worker) Close() error {
	_, err := w.CloseContext(context.Background())
	return err
}

// CloseContext is Close until ctx ends: then the contexts of the handlers that still run end, and it
// returns how many leased jobs have no stored verdict; they come again. A second close is fine.
func (w *Worker) CloseContext(ctx context.Context) (unfinished int, err error) {
	unfinished, err = w.closeNow(ctx)
	w.stop(errWorkerStopped)
	if err == nil || !isCode(err, CodeClosed) {
		w.queue.client.p.unregister(w.id)
		w.release()
	}
	if err == nil {
		w.jobs.Wait() // they have settled
		w.calls.flush()
	}
	return unfinished, err
}

// Stop ends the worker at once: it fetches, hands out and settles nothing more, and the contexts of the
// handlers that still run end. Jobs without a stored verdict come again at the end of their lease. Close
// it all the same: that waits for the handlers.
func (w *Worker) Stop() error {
	w.use.RLock()
	defer w.use.RUnlock()
	if w.c == nil {
		return nil
	}
	var failure *C.flowmesh_error_t
	if C.flowmesh_worker_stop(w.c, &failure) != C.FLOWMESH_OK {
		return takeError(failure)
	}
	w.stop(errWorkerStopped)
	return nil
}

func (w *Worker) closeNow(ctx context.Context) (unfinished int, err error) {
	w.use.RLock()
	defer w.use.RUnlock()
	if w.c == nil {
		return 0, nil
	}
	call, err := w.queue.client.p.beginLong(context.Background())
	if err != nil {
		return 0, err
	}
	err = call.wait(ctx, C.fm_worker_close(call.c, w.c, -1))
	unfinished = int(call.c.number[0])
	call.end()
	if ctx.Err() == nil || err == nil {
		return unfinished, err
	}
	call, beginErr := w.queue.client.p.beginLong(context.Background())
	if beginErr != nil {
		return unfinished, beginErr
	}
	defer call.end()
	call.wait(context.Background(), C.fm_worker_close(call.c, w.c, 0))
	return int(call.c.number[0]), err
}

// release frees the handle; nobody is in a call with it any more.
func (w *Worker) release() {
	w.stop(errWorkerStopped)
	w.use.Lock()
	defer w.use.Unlock()
	if w.c != nil {
		C.flowmesh_worker_free(w.c)
		w.c = nil
	}
}
