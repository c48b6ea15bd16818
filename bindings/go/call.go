package flowmesh

// #include "shim.h"
import "C"

import (
	"context"
	"sync"
	"time"
	"unsafe"
)

// So many calls are made at a time when more are under way than ever before.
const callsAtOnce = 64

// call is one call under way: memory of C for its result, and a channel that says when it is
// there. Calls are used again and again; there are as many as were ever under way at once.
type call struct {
	c    *C.fm_call_t
	p    *pump
	done chan struct{}

	// A context that ends late must not cancel the next call.
	mu     sync.Mutex
	serial uint64
}

// begin takes a call for one that ends soon; end gives it back.
func (p *pump) begin(ctx context.Context) (*call, error) { return p.take(ctx, true) }

// beginLong is begin for a call that may wait for long, and so never holds a thread.
func (p *pump) beginLong(ctx context.Context) (*call, error) { return p.take(ctx, false) }

// short makes a call that ends soon: `start` starts it, and it has ended when this returns. The caller
// gives it back with end; after an error there is none.
func (p *pump) short(ctx context.Context, start func(c *C.fm_call_t) C.bool) (*call, error) {
	c, err := p.begin(ctx)
	if err != nil {
		return nil, err
	}
	leave := c.enter(ctx)
	accepted := start(c.c)
	leave()
	return c.ended(ctx, accepted)
}

// long is short for a call that may wait for long, and so never holds a thread.
func (p *pump) long(ctx context.Context, start func(c *C.fm_call_t) C.bool) (*call, error) {
	c, err := p.beginLong(ctx)
	if err != nil {
		return nil, err
	}
	return c.ended(ctx, start(c.c))
}

func (c *call) ended(ctx context.Context, accepted C.bool) (*call, error) {
	if err := c.wait(ctx, accepted); err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

// done is the end of a call without a result.
func done(c *call, err error) error {
	if err == nil {
		c.end()
	}
	return err
}

func (p *pump) take(ctx context.Context, short bool) (*call, error) {
	if ctx.Err() != nil {
		message := "its context had ended before the call began"
		return nil, endedBy(ctx, &Error{Message: message, Outcome: OutcomeNotApplied})
	}
	p.mu.Lock()
	if p.closed || p.dead {
		p.mu.Unlock()
		return nil, closedError()
	}
	if len(p.idle) == 0 {
		p.grow()
	}
	last := len(p.idle) - 1
	c := p.idle[last]
	p.idle = p.idle[:last]
	p.busy++
	alone := short && p.busy == 1
	p.mu.Unlock()

	c.c.timeout_ms = timeoutOf(ctx)
	c.c.number[0] = 0
	c.c.alone = C.bool(alone)
	c.c.cancellable = ctx.Done() != nil
	if c.c.cancellable && c.c.cancel == nil {
		C.fm_call_arm(c.c)
	}
	if trace, ok := ctx.Value(traceKey{}).(trace); ok {
		c.c.traceparent = C.CString(trace.parent)
		if trace.state != "" {
			c.c.tracestate = C.CString(trace.state)
		}
	}
	return c, nil
}

// grow makes more calls; with the lock.
func (p *pump) grow() {
	var made [callsAtOnce]*C.fm_call_t
	C.fm_calls_new(p.c, &made[0], callsAtOnce, C.uint64_t(len(p.calls)))
	for _, c := range made {
		one := &call{c: c, p: p, done: make(chan struct{}, 1)}
		p.calls = append(p.calls, one)
		p.idle = append(p.idle, one)
	}
}

// end gives the call back, and frees its result.
func (c *call) end() {
	if c.c.object != nil || c.c.error != nil || c.c.refusal != nil || c.c.operation != nil ||
		c.c.cancelled || c.c.traceparent != nil {
		c.mu.Lock()
		C.fm_call_clear(c.c)
		c.mu.Unlock()
	}
	p := c.p
	p.mu.Lock()
	p.idle = append(p.idle, c)
	p.busy--
	last := p.closed && p.busy == 0
	p.mu.Unlock()
	if last {
		p.kick()
	}
}

// enter goes before the crossing into C, leave after it. A call that is alone holds its caller there,
// so the end of ctx cancels it from elsewhere. All others cross one at a time: where they contend
// for the library's locks, goroutines wait in that way, and not threads.
func (c *call) enter(ctx context.Context) (leave func()) {
	if !c.c.alone {
		c.p.crossing.Lock()
		return c.p.crossed
	}
	if ctx.Done() == nil {
		return func() {}
	}
	serial := c.serial
	cancel := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.serial == serial {
			C.fm_call_cancel(c.c)
		}
	})
	return func() {
		if !cancel() {
			c.mu.Lock()
			c.serial++
			c.mu.Unlock()
		}
	}
}

// wait waits for the end of a call that the library accepted, and gives its error.
func (c *call) wait(ctx context.Context, accepted C.bool) error {
	if !accepted {
		return newError(c.c.refusal)
	}
	if !c.c.alone {
		select {
		case <-c.done:
		default:
			select {
			case <-c.done:
			case <-ctx.Done():
				C.fm_call_cancel(c.c)
				<-c.done
			}
		}
	}
	if c.c.error == nil {
		return nil
	}
	err := newError(c.c.error)
	if ctx.Err() != nil && (err.Code == CodeCancelled || err.Code == CodeDeadlineExceeded) {
		return endedBy(ctx, err)
	}
	return err
}

// bytes copies a value.
func (c *call) bytes() []byte {
	return append(make([]byte, 0, int(c.c.len)), unsafe.Slice((*byte)(c.c.data), int(c.c.len))...)
}

// timeoutOf is the deadline of ctx for the library: at least a millisecond, 0 without one.
func timeoutOf(ctx context.Context) C.int64_t {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return C.int64_t(max(1, milliseconds(time.Until(deadline))))
}

// milliseconds rounds away from 0: 0 means something else, so a short time must not become none, nor a
// negative one pass for it.
func milliseconds(d time.Duration) int64 {
	whole := int64(d / time.Millisecond)
	switch rest := d % time.Millisecond; {
	case rest > 0:
		whole++
	case rest < 0:
		whole--
	}
	return whole
}

type traceKey struct{}

type trace struct{ parent, state string }

// ContextWithTrace has calls with the context carry a W3C Trace Context to the server: traceparent,
// and tracestate unless it is "". What stores an event or a job also puts them into its headers.
func ContextWithTrace(ctx context.Context, traceparent, tracestate string) context.Context {
	return context.WithValue(ctx, traceKey{}, trace{traceparent, tracestate})
}
