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
	"time"
	"unsafe"
)

// Where a subscription starts, beside an offset from 0 on.
const (
	StartCommitted int64 = C.FLOWMESH_START_COMMITTED // after the last offset that the group committed, 0 without one
	StartNew       int64 = C.FLOWMESH_START_NEW       // with what is written from now on
)

// SubscriptionState is how a subscription stands with the server.
type SubscriptionState int32

// The states.
const (
	SubscriptionConnected SubscriptionState = C.FLOWMESH_SUBSCRIPTION_CONNECTED // connected, or connected again
	SubscriptionLost      SubscriptionState = C.FLOWMESH_SUBSCRIPTION_LOST      // it reconnects by itself
	SubscriptionEnded     SubscriptionState = C.FLOWMESH_SUBSCRIPTION_ENDED     // the server refused it, or its client was closed
)

// SubscribeOption is an option of [Stream.Subscribe].
type SubscribeOption func(*subscribeOptions)

type subscribeOptions struct {
	group                string
	start                int64
	batch, prefetchBytes int
	backoff, longest     time.Duration
	state                func(SubscriptionState, error)
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

// WithStateFunc has f told of changes of state, and why: one call at a time, in order.
func WithStateFunc(f func(state SubscriptionState, reason error)) SubscribeOption {
	return func(o *subscribeOptions) { o.state = f }
}

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

	seeks sync.Mutex   // one at a time
	use   sync.RWMutex // of the handle, beyond mu

	mu      sync.Mutex
	c       *C.fm_subscription_t // nil once released
	pending []Message
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
	return sub, nil
}

func (o *subscribeOptions) build() (*C.flowmesh_subscription_options_t, error) {
	group, err := inline("group", o.group)
	if err != nil {
		return nil, err
	}
	var to *C.flowmesh_subscription_options_t
	var failure *C.flowmesh_error_t
	status := C.flowmesh_subscription_options_new(&to, &failure)
	if status == C.FLOWMESH_OK {
		status = C.flowmesh_subscription_options_set_consumer_group(to, chars(group), &failure)
	}
	if status == C.FLOWMESH_OK {
		status = C.flowmesh_subscription_options_set_start_offset(to, C.int64_t(o.start), &failure)
	}
	if status == C.FLOWMESH_OK && o.batch != 0 {
		status = C.flowmesh_subscription_options_set_max_batch_messages(to, C.size_t(max(0, o.batch)), &failure)
	}
	if status == C.FLOWMESH_OK && o.prefetchBytes != 0 {
		status = C.flowmesh_subscription_options_set_max_prefetch_bytes(to, C.size_t(max(0, o.prefetchBytes)), &failure)
	}
	if status == C.FLOWMESH_OK && (o.backoff != 0 || o.longest != 0) {
		status = C.flowmesh_subscription_options_set_backoff(to, C.int64_t(milliseconds(o.backoff)), C.int64_t(milliseconds(o.longest)), &failure)
	}
	if status != C.FLOWMESH_OK {
		C.flowmesh_subscription_options_free(to)
		return nil, takeError(failure)
	}
	return to, nil
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
				if ctx.Err() != nil {
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
	for {
		if ctx.Err() != nil {
			return nil, 0, endedBy(ctx, &Error{Message: "wait for messages", Outcome: OutcomeNotApplied})
		}
		s.mu.Lock()
		epoch := s.epoch
		if batch := s.pending; len(batch) > 0 && s.c != nil {
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

// Seek goes on at offset: one from 0 on, [StartCommitted] or [StartNew]. After it no message from
// before comes any more.
func (s *Subscription) Seek(ctx context.Context, offset int64) error {
	s.seeks.Lock()
	defer s.seeks.Unlock()
	s.use.RLock()
	defer s.use.RUnlock()
	if s.c == nil {
		return s.reason()
	}
	call, err := s.stream.client.p.beginLong(ctx)
	if err != nil {
		return err
	}
	defer call.end()
	err = call.wait(ctx, C.fm_subscription_seek(call.c, s.c, C.int64_t(offset)))
	moved := err == nil || err.(*Error).Outcome == OutcomeApplied
	s.mu.Lock()
	if moved {
		s.epoch++
		s.pending = nil
		s.last.Store(-1)
	}
	C.fm_subscription_sought(s.c, C.bool(moved))
	s.mu.Unlock()
	s.wake()
	return err
}

// Close ends the subscription; whoever waits for messages gets [ErrClosed]. A second Close is fine.
func (s *Subscription) Close() error {
	if !s.end(closedError()) {
		return nil
	}
	p := s.stream.client.p
	call, err := p.beginLong(context.Background())
	if err != nil {
		return nil // the client has been closed, and sees to the rest
	}
	err = call.wait(context.Background(), C.fm_subscription_close(call.c, s.c))
	p.unregister(s.id)
	s.release()
	call.end()
	if isCode(err, CodeClosed) {
		return nil
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
	if s.state != nil {
		s.calls.post(func() { s.state(state, reason) })
	}
	if state == SubscriptionEnded {
		s.end(reason)
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
