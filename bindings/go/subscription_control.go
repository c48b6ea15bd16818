package flowmesh

// #include "shim.h"
import "C"

import "context"

// Pause has nothing given out until [Subscription.Resume]: who asks for messages waits. What arrives
// waits, too, as far as there is room, then the server is held up. What was given out already is not
// called back, nor is a batch that another goroutine is about to get.
func (s *Subscription) Pause() error { return s.hold(true) }

// Resume ends a pause.
func (s *Subscription) Resume() error { return s.hold(false) }

func (s *Subscription) hold(held bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c == nil {
		return s.ended
	}
	s.held = held
	C.fm_subscription_hold(s.c, C.bool(held))
	s.wake()
	return nil
}

func (s *Subscription) isHeld() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// Position is the offset of the next message that will be given out.
func (s *Subscription) Position() (int64, error) {
	s.use.RLock()
	defer s.use.RUnlock()
	s.mu.Lock()
	c, last := s.c, s.last.Load()
	s.mu.Unlock()
	if c == nil {
		return 0, s.reason()
	}
	if last >= 0 {
		return last + 1, nil
	}
	// Between two turns of the pump, what the library has handed out is where the shim finds it.
	s.stream.client.p.turns.Lock()
	defer s.stream.client.p.turns.Unlock()
	var offset C.int64_t
	var failure *C.flowmesh_error_t
	if C.fm_subscription_position(c, &offset, &failure) != C.FLOWMESH_OK {
		return 0, takeError(failure)
	}
	return int64(offset), nil
}

// State says how the subscription stands with the server and, where it is lost or has ended, why. It
// is ahead of what is given out: messages may still wait.
func (s *Subscription) State() (state SubscriptionState, reason error, err error) {
	s.use.RLock()
	defer s.use.RUnlock()
	if s.c == nil {
		return SubscriptionEnded, s.reason(), nil
	}
	var to C.int32_t
	var why, failure *C.flowmesh_error_t
	if C.fm_subscription_state(s.c, &to, &why, &failure) != C.FLOWMESH_OK {
		return 0, nil, takeError(failure)
	}
	if why != nil {
		reason = takeError(why)
	}
	return SubscriptionState(to), reason, nil
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
		s.auto.sought()
	}
	C.fm_subscription_sought(s.c, C.bool(moved))
	s.mu.Unlock()
	s.wake()
	return err
}
