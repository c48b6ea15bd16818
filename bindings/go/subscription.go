package flowmesh

// #include "shim.h"
// #include <stdlib.h>
// #cgo noescape fm_subscription_take
// #cgo nocallback fm_subscription_take
import "C"

import (
	"context"
	"iter"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Subscription follows a stream: its messages in offset order, without gap or repeat for as long as
// it lives. After a lost connection it connects again by itself and goes on where it was. Get
// messages with [Subscription.Messages], [Subscription.Next] or [Subscription.NextBatch]; close it when
// done.
type Subscription struct {
	stream *Stream
	id     uint64
	group  string
	state  func(SubscriptionState, error)
	calls  serial
	ready  chan struct{} // a batch may wait
	over   chan struct{} // closed with the end
	last   atomic.Int64  // offset last given out, -1 for none since the start or a seek
	auto   *autoCommit   // nil without

	seeks sync.Mutex   // one at a time
	use   sync.RWMutex // of the handle, beyond mu

	mu      sync.Mutex
	c       *C.fm_subscription_t // nil once released
	pending []Message
	held    bool  // Pause
	epoch   int   // counts the seeks
	ended   error // why
}

// Subscribe starts to follow the stream. When it returns, the position is fixed: nothing written
// after is missed. A stream that does not exist is created.
func (s *Stream) Subscribe(ctx context.Context, options ...SubscribeOption) (*Subscription, error) {
	set := subscribeOptions{group: "default", start: StartCommitted}
	for _, option := range options {
		option(&set)
	}
	to, err := set.build()
	if err != nil {
		return nil, err
	}
	defer C.flowmesh_subscription_options_free(to)
	p := s.client.p
	call, err := p.beginLong(ctx)
	if err != nil {
		return nil, err
	}
	defer call.end()
	sub := &Subscription{
		stream: s,
		id:     p.nextID(),
		group:  set.group,
		state:  set.state,
		ready:  make(chan struct{}, 1),
		over:   make(chan struct{}),
	}
	sub.last.Store(-1)
	sub.c = C.fm_subscription_new(p.c, C.uint64_t(sub.id))
	p.register(sub.id, sub)
	var failure *C.flowmesh_error_t
	if C.fm_subscription_watch(sub.c, to, &failure) != C.FLOWMESH_OK {
		err = takeError(failure)
	} else {
		err = call.wait(ctx, C.fm_subscription_open(call.c, sub.c, s.c, to))
	}
	runtime.KeepAlive(s)
	if err != nil {
		p.unregister(sub.id)
		sub.release()
		return nil, err
	}
	if set.commits {
		sub.auto = newAutoCommit(sub, set.commitInterval)
		go sub.auto.run()
	}
	return sub, nil
}

// Messages goes through the messages as they come, until the loop ends, ctx ends, or the
// subscription does; the error, if there is one, is the last thing it yields. What a loop that was
// left has not seen comes next time.
func (s *Subscription) Messages(ctx context.Context) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		for {
			batch, epoch, err := s.fetch(ctx)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range batch {
				if ctx.Err() != nil || s.isHeld() {
					s.putBack(batch[i:], epoch)
					break
				}
				if !s.given(&batch[i], epoch) {
					break // a seek: the rest is from before it
				}
				if !yield(&batch[i], nil) {
					s.putBack(batch[i+1:], epoch)
					return
				}
				s.auto.handled(s.last.Load())
			}
		}
	}
}

// Next waits for the next message.
func (s *Subscription) Next(ctx context.Context) (*Message, error) {
	for {
		batch, epoch, err := s.fetch(ctx)
		if err != nil {
			return nil, err
		}
		s.putBack(batch[1:], epoch)
		if s.given(&batch[0], epoch) {
			return &batch[0], nil
		}
	}
}

// NextBatch waits for messages and gives what has arrived, at least one.
func (s *Subscription) NextBatch(ctx context.Context) ([]Message, error) {
	for {
		batch, epoch, err := s.fetch(ctx)
		if err != nil {
			return nil, err
		}
		if s.given(&batch[len(batch)-1], epoch) {
			return batch, nil
		}
	}
}

// fetch takes what waits, or waits for it. The epoch tells whether a seek has overtaken it.
func (s *Subscription) fetch(ctx context.Context) ([]Message, int, error) {
	if ctx.Err() == nil {
		s.auto.handled(s.last.Load())
	}
	for {
		if ctx.Err() != nil {
			return nil, 0, endedBy(ctx, &Error{Message: "wait for messages", Outcome: OutcomeNotApplied})
		}
		s.mu.Lock()
		epoch := s.epoch
		if batch := s.pending; len(batch) > 0 && s.c != nil && !s.held {
			s.pending = nil
			s.mu.Unlock()
			return batch, epoch, nil
		}
		if s.c == nil {
			s.mu.Unlock()
			return nil, 0, s.reason()
		}
		var more C.bool
		from := C.fm_subscription_take(s.c, &more)
		ended := s.ended
		s.mu.Unlock()
		if more {
			s.wake()
		}
		switch {
		case from != nil:
			return messagesOf(from), epoch, nil
		case ended != nil:
			return nil, 0, ended
		}
		select {
		case <-s.ready:
		case <-s.over:
		case <-ctx.Done():
		}
	}
}

// given notes that a message is given out; false when a seek has overtaken it.
func (s *Subscription) given(m *Message, epoch int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != epoch {
		return false
	}
	s.last.Store(m.Offset)
	return true
}

// putBack keeps what was fetched and not given out.
func (s *Subscription) putBack(rest []Message, epoch int) {
	if len(rest) == 0 {
		return
	}
	s.mu.Lock()
	if s.epoch == epoch {
		s.pending = append(rest, s.pending...)
	}
	s.mu.Unlock()
	s.wake()
}

// Commit records, for the consumer group, the last message that was given out since the start or
// the last seek as processed; it does nothing when there was none. Where several goroutines handle
// messages, commit what you know to be handled with [Stream.CommitOffset].
func (s *Subscription) Commit(ctx context.Context) error {
	last := s.last.Load()
	if last < 0 {
		return nil
	}
	return s.stream.CommitOffset(ctx, s.group, last)
}

// Close ends the subscription; whoever waits for messages gets [ErrClosed]. It waits for the last commit
// of [WithAutoCommit], whose error it gives. A second Close is fine.
func (s *Subscription) Close() error {
	if !s.end(closedError()) {
		return nil
	}
	failed := s.auto.wait()
	p := s.stream.client.p
	call, err := p.beginLong(context.Background())
	if err != nil {
		return failed // the client has been closed, and sees to the rest
	}
	err = call.wait(context.Background(), C.fm_subscription_close(call.c, s.c))
	p.unregister(s.id)
	s.release()
	call.end()
	if err == nil || isCode(err, CodeClosed) {
		return failed
	}
	return err
}

// end notes the reason of the end, once for each way to it; true where Close is the first to.
func (s *Subscription) end(reason error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.over:
	default:
		close(s.over)
	}
	first := !isCode(s.ended, CodeClosed)
	if s.ended == nil || isCode(reason, CodeClosed) {
		s.ended = reason
	}
	return first
}

func (s *Subscription) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

func (s *Subscription) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// tell is called by the pump.
func (s *Subscription) tell(node *C.fm_node_t) {
	if node.kind == C.FM_SUBSCRIPTION {
		C.free(unsafe.Pointer(node))
		s.wake()
		return
	}
	event := (*C.fm_event_t)(unsafe.Pointer(node))
	state := SubscriptionState(event.what)
	var reason error
	if event.has_reason {
		reason = failureError(&event.reason)
	}
	C.fm_event_free(event)
	s.changed(state, reason)
	if state == SubscriptionEnded {
		s.end(reason)
	}
}

// changed tells the application.
func (s *Subscription) changed(state SubscriptionState, reason error) {
	if s.state != nil {
		s.calls.post(func() { s.state(state, reason) })
	}
}

// release frees the handle; nobody is in a call with it any more.
func (s *Subscription) release() {
	s.end(closedError())
	s.use.Lock()
	defer s.use.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c != nil {
		C.fm_subscription_release(s.c)
		s.c = nil
	}
}
