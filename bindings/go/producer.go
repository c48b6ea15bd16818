package flowmesh

// #include "shim.h"
// #cgo noescape fm_producer_send
// #cgo nocallback fm_producer_send
import "C"

import (
	"context"
	"runtime"
	"sync"
	"time"
	"unsafe"
)

// Report says what became of one message.
type Report struct {
	Tag      uint64 // as given with [WithTag]
	Err      error  // nil: it is stored; else an *Error, whose Outcome tells whether it is
	Position int64  // offset in the stream, or number in the queue; -1 after a failure
	JobID    string // "" from a stream and after a failure
	Attempts int    // how often it was tried
}

// ProducerOption is an option of [Stream.Producer] and [Queue.Producer].
type ProducerOption func(*producerOptions)

type producerOptions struct {
	reports                   func([]Report)
	bufferedMessages          int
	bufferedBytes             int
	batchMessages, batchBytes int
	inFlight                  int
	deliveryTimeout           time.Duration
	retryUnknown, stopOnError bool
}

// WithReports has f receive the delivery reports: exactly one for every message accepted, in the order
// of the sends, one call at a time. It may block and use the producer, but for Flush and Close,
// which would wait for themselves. Without it, Flush and Close tell that messages failed.
func WithReports(f func(reports []Report)) ProducerOption {
	return func(o *producerOptions) { o.reports = f }
}

// WithBuffer is how many messages and bytes wait for their outcome at most; 0 is the default, 100000
// and 64 MiB.
func WithBuffer(messages, bytes int) ProducerOption {
	return func(o *producerOptions) { o.bufferedMessages, o.bufferedBytes = messages, bytes }
}

// WithBatch is how many messages and bytes one request to a stream has at most; 0 is the default, 10000
// and 1 MiB.
func WithBatch(messages, bytes int) ProducerOption {
	return func(o *producerOptions) { o.batchMessages, o.batchBytes = messages, bytes }
}

// WithInFlight is how many jobs are on the way to a queue at once, 1 to 200. Default 64; with 1 they
// are stored in the order of the sends.
func WithInFlight(jobs int) ProducerOption { return func(o *producerOptions) { o.inFlight = jobs } }

// WithDeliveryTimeout is how long the producer tries to deliver a message. Default 2 minutes; below 0
// for ever.
func WithDeliveryTimeout(timeout time.Duration) ProducerOption {
	return func(o *producerOptions) { o.deliveryTimeout = timeout }
}

// WithRetryUnknown has a request that may have been stored sent again: at least once, so that its
// messages can be stored twice.
func WithRetryUnknown() ProducerOption { return func(o *producerOptions) { o.retryUnknown = true } }

// WithStopOnError has the first message that fails end the producer, so that nothing is stored behind
// a gap.
func WithStopOnError() ProducerOption { return func(o *producerOptions) { o.stopOnError = true } }

// SendOption is an option of [Producer.Send].
type SendOption interface{ send(*sendOptions) }

type sendOptions struct {
	tag   uint64
	delay time.Duration
}

type tag uint64

// WithTag gives the message a number that comes back in its report.
func WithTag(number uint64) SendOption { return tag(number) }

func (t tag) send(o *sendOptions)   { o.tag = uint64(t) }
func (d Delay) send(o *sendOptions) { o.delay = time.Duration(d) }

// Producer sends messages to one stream or queue without waiting for each. While one request is
// under way, what is sent meanwhile gathers into the next one. Close it when done.
type Producer struct {
	client  *Client
	id      uint64
	reports func([]Report)
	limit   int
	calls   serial

	use sync.RWMutex
	c   *C.flowmesh_producer_t // nil once released

	mu       sync.Mutex
	backlog  int           // reports that wait for the application
	writable chan struct{} // closed when there may be room again
}

// Producer opens a producer of events. It does no I/O.
func (s *Stream) Producer(options ...ProducerOption) (*Producer, error) {
	defer runtime.KeepAlive(s)
	return newProducer(s.client, s.c, nil, options)
}

// Producer opens a producer of jobs. It does no I/O.
func (q *Queue) Producer(options ...ProducerOption) (*Producer, error) {
	defer runtime.KeepAlive(q)
	return newProducer(q.client, nil, q.c, options)
}

func newProducer(client *Client, stream *C.flowmesh_stream_t, queue *C.flowmesh_queue_t, options []ProducerOption) (*Producer, error) {
	var set producerOptions
	for _, option := range options {
		option(&set)
	}
	to, err := set.build()
	if err != nil {
		return nil, err
	}
	defer C.flowmesh_producer_options_free(to)
	// As of a call: the pump must not end before this is registered.
	call, err := client.p.beginLong(context.Background())
	if err != nil {
		return nil, err
	}
	defer call.end()
	p := &Producer{client: client, id: client.p.nextID(), reports: set.reports, limit: 100000, writable: make(chan struct{})}
	if set.bufferedMessages > 0 {
		p.limit = set.bufferedMessages
	}
	client.p.register(p.id, p)
	var failure *C.flowmesh_error_t
	status := C.fm_producer_open(stream, queue, to, p.reports != nil, client.p.c, C.uint64_t(p.id), &p.c, &failure)
	if status != C.FLOWMESH_OK {
		client.p.unregister(p.id)
		return nil, takeError(failure)
	}
	return p, nil
}

func (o *producerOptions) build() (*C.flowmesh_producer_options_t, error) {
	var to *C.flowmesh_producer_options_t
	var try setters
	try.set(func(failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_producer_options_new(&to, failure)
	})
	try.size(o.bufferedMessages, func(value C.size_t, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_producer_options_set_max_buffered_messages(to, value, failure)
	})
	try.size(o.bufferedBytes, func(value C.size_t, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_producer_options_set_max_buffered_bytes(to, value, failure)
	})
	try.size(o.batchMessages, func(value C.size_t, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_producer_options_set_max_batch_messages(to, value, failure)
	})
	try.size(o.batchBytes, func(value C.size_t, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_producer_options_set_max_batch_bytes(to, value, failure)
	})
	try.size(o.inFlight, func(value C.size_t, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_producer_options_set_max_in_flight(to, value, failure)
	})
	if o.deliveryTimeout != 0 {
		try.set(func(failure **C.flowmesh_error_t) C.flowmesh_status_t {
			return C.flowmesh_producer_options_set_delivery_timeout_ms(to, C.int64_t(orNever(o.deliveryTimeout)), failure)
		})
	}
	try.set(func(failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_producer_options_set_retry_unknown(to, C.bool(o.retryUnknown), failure)
	})
	try.set(func(failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_producer_options_set_stop_on_error(to, C.bool(o.stopOnError), failure)
	})
	if err := try.err(); err != nil {
		C.flowmesh_producer_options_free(to)
		return nil, err
	}
	return to, nil
}

// Send accepts an event, or a job with its payload and headers, and returns; while the buffer is
// full, it waits for room until ctx ends. After nil exactly one report follows, after an error none.
// Jobs may have a [WithDelay].
func (p *Producer) Send(ctx context.Context, event Event, options ...SendOption) error {
	var set sendOptions
	if len(options) > 0 {
		set = sendOptionsOf(options)
	}
	var packed packed
	packed.pack([]Event{event})
	for {
		// Before it is tried: what is told after a refusal is so not missed.
		p.mu.Lock()
		writable, full := p.writable, p.backlog >= p.limit
		p.mu.Unlock()
		if !full {
			err := p.send(&packed, &set)
			if err == nil {
				return nil
			}
			if !isCode(err, CodeQueueFull) {
				return err
			}
		}
		select {
		case <-writable:
		case <-ctx.Done():
			message := "send: no room in the buffer before the context ended"
			return endedBy(ctx, &Error{Message: message, Retryable: true, Outcome: OutcomeNotApplied})
		}
	}
}

func sendOptionsOf(options []SendOption) (set sendOptions) {
	for _, option := range options {
		option.send(&set)
	}
	return set
}

func (p *Producer) send(event *packed, set *sendOptions) error {
	p.use.RLock()
	defer p.use.RUnlock()
	if p.c == nil {
		return closedError()
	}
	var failure *C.flowmesh_error_t
	status := C.fm_producer_send(p.c, bytesData(event.bytes), &event.lengths[0], C.int64_t(milliseconds(set.delay)), C.uint64_t(set.tag), &failure)
	if status != C.FLOWMESH_OK {
		return takeError(failure)
	}
	return nil
}

// Flush waits until every message accepted before has been reported, and the report function has
// returned. Without one, [ErrAborted] says that messages failed since the last flush.
func (p *Producer) Flush(ctx context.Context) error {
	call, err := p.client.p.beginLong(ctx)
	if err != nil {
		return err
	}
	defer call.end()
	p.use.RLock()
	defer p.use.RUnlock()
	if p.c == nil {
		return closedError()
	}
	err = call.wait(ctx, C.fm_producer_flush(call.c, p.c))
	if err == nil {
		p.calls.flush()
	}
	return err
}

// Close accepts no more messages, and waits until what was accepted has been sent and reported, as
// long as the delivery timeout allows.
func (p *Producer) Close() error {
	_, err := p.CloseContext(context.Background())
	return err
}

// CloseContext is Close until ctx ends: then the producer gives up what has no outcome yet. Those
// messages, whose number it returns, are reported with [ErrClosed]. A second close is fine.
func (p *Producer) CloseContext(ctx context.Context) (unsent int, err error) {
	unsent, err = p.closeNow(ctx)
	if err == nil || !isCode(err, CodeClosed) {
		p.client.p.unregister(p.id)
		p.release()
		p.calls.flush()
	}
	return unsent, err
}

func (p *Producer) closeNow(ctx context.Context) (unsent int, err error) {
	p.use.RLock()
	defer p.use.RUnlock()
	if p.c == nil {
		return 0, nil
	}
	// Closing is begun even if ctx has ended: by the wait.
	call, err := p.client.p.beginLong(context.Background())
	if err != nil {
		return 0, err
	}
	err = call.wait(ctx, C.fm_producer_close(call.c, p.c, -1))
	unsent = int(call.c.number[0])
	call.end()
	if ctx.Err() == nil || err == nil {
		return unsent, err
	}
	for _, timeout := range []C.int64_t{0, -1} { // give up, and wait for the reports
		call, beginErr := p.client.p.beginLong(context.Background())
		if beginErr != nil {
			return unsent, beginErr
		}
		call.wait(context.Background(), C.fm_producer_close(call.c, p.c, timeout))
		if timeout == 0 {
			unsent = int(call.c.number[0])
		}
		call.end()
	}
	return unsent, err
}

// tell is called by the pump.
func (p *Producer) tell(node *C.fm_node_t) {
	if node.kind != C.FM_REPORTS {
		freeNode(node)
		p.roomAgain()
		return
	}
	reports := reportsOf((*C.fm_reports_t)(unsafe.Pointer(node)))
	p.mu.Lock()
	p.backlog += len(reports)
	p.mu.Unlock()
	p.calls.post(func() {
		p.reports(reports)
		p.mu.Lock()
		p.backlog -= len(reports)
		p.mu.Unlock()
		p.roomAgain()
	})
}

// roomAgain has those that wait for room try again.
func (p *Producer) roomAgain() {
	p.mu.Lock()
	close(p.writable)
	p.writable = make(chan struct{})
	p.mu.Unlock()
}

// reportsOf copies reports and frees them.
func reportsOf(from *C.fm_reports_t) []Report {
	defer C.fm_reports_free(from)
	reports := make([]Report, int(from.count))
	for i := range reports {
		r := &unsafe.Slice(from.items, len(reports))[i]
		reports[i] = Report{Tag: uint64(r.tag), Position: int64(r.position), Attempts: int(r.attempts)}
		if r.failure.status != C.FLOWMESH_OK {
			reports[i].Err = failureError(&r.failure)
		} else if r.job_id[0] != 0 {
			reports[i].JobID = C.GoString(&r.job_id[0])
		}
	}
	return reports
}

// release frees the handle; nobody is in a call with it any more.
func (p *Producer) release() {
	p.use.Lock()
	defer p.use.Unlock()
	if p.c != nil {
		C.flowmesh_producer_free(p.c)
		p.c = nil
		p.roomAgain()
	}
}
