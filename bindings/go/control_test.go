package flowmesh_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/flowmesh/libflowmesh/bindings/go"
)

func TestSubscriptionPause(t *testing.T) {
	both(t, func(w *world) {
		s := w.stream("orders")
		w.write(s, "0", "1", "2")
		sub, err := s.Subscribe(w.ctx, flowmesh.WithStart(0), flowmesh.WithMaxBatchBytes(1))
		w.must(err)
		defer sub.Close()
		position := func(want int64) {
			w.Helper()
			if at, err := sub.Position(); err != nil || at != want {
				w.Fatalf("position %d, %v; not %d", at, err, want)
			}
		}
		position(0)
		m, err := sub.Next(w.ctx)
		w.must(err)
		if m.Offset != 0 {
			w.Fatalf("offset %d", m.Offset)
		}
		position(1)
		w.must(sub.Pause())
		ctx, cancel := context.WithTimeout(w.ctx, 20*time.Millisecond)
		defer cancel()
		if m, err := sub.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			w.Fatalf("while paused: %+v, %v", m, err)
		}
		// One that waits goes on when the pause ends.
		next := make(chan *flowmesh.Message)
		go func() {
			m, err := sub.Next(w.ctx)
			if err != nil {
				w.Error(err)
			}
			next <- m
		}()
		w.must(sub.Resume())
		if m := <-next; m.Offset != 1 {
			w.Fatalf("after the pause: %d", m.Offset)
		}
		// A pause within a loop.
		for m, err := range sub.Messages(w.ctx) {
			w.must(err)
			if m.Offset == 2 {
				w.must(sub.Pause())
				w.write(s, "3", "4")
				time.AfterFunc(time.Millisecond, func() { sub.Resume() })
			}
			if m.Offset == 4 {
				break
			}
		}
		position(5)
		// A pause outlasts a seek.
		w.must(sub.Pause())
		w.must(sub.Seek(w.ctx, 1))
		position(1)
		ctx, cancel = context.WithTimeout(w.ctx, 20*time.Millisecond)
		defer cancel()
		if m, err := sub.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			w.Fatalf("while paused: %+v, %v", m, err)
		}
		w.must(sub.Resume())
		if m, err = sub.Next(w.ctx); err != nil || m.Offset != 1 {
			w.Fatalf("after the seek: %+v, %v", m, err)
		}
		w.must(sub.Close())
		if err := sub.Pause(); !errors.Is(err, flowmesh.ErrClosed) {
			w.Fatalf("pause of a closed subscription: %v", err)
		}
		if _, err := sub.Position(); !errors.Is(err, flowmesh.ErrClosed) {
			w.Fatalf("position of a closed subscription: %v", err)
		}
	})
}

func TestSubscriptionState(t *testing.T) {
	both(t, func(w *world) {
		sub, err := w.stream("orders").Subscribe(w.ctx)
		w.must(err)
		for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			state, reason, err := sub.State()
			w.must(err)
			if state == flowmesh.SubscriptionConnected && reason == nil {
				break
			}
			if state != flowmesh.SubscriptionConnecting || reason != nil || time.Now().After(deadline) {
				w.Fatalf("state %d, %v", state, reason)
			}
		}
		w.must(sub.Close())
		state, reason, err := sub.State()
		if state != flowmesh.SubscriptionEnded || !errors.Is(reason, flowmesh.ErrClosed) || err != nil {
			w.Fatalf("closed: state %d, %v, %v", state, reason, err)
		}
	})
}

func TestAutoCommit(t *testing.T) {
	both(t, func(w *world) {
		s := w.stream("orders")
		w.write(s, "0", "1", "2", "3")
		committed := func(want int64) {
			w.Helper()
			if offset, err := s.CommittedOffset(w.ctx, "g"); err != nil || offset != want {
				w.Fatalf("committed %d, %v; not %d", offset, err, want)
			}
		}
		sub, err := s.Subscribe(w.ctx, flowmesh.WithGroup("g"), flowmesh.WithAutoCommit(time.Hour))
		w.must(err)
		for m, err := range sub.Messages(w.ctx) {
			w.must(err)
			if m.Offset == 2 {
				break // not done with it
			}
		}
		w.must(sub.Close())
		committed(1)

		// Without a pause between the commits, they need no close.
		sub, err = s.Subscribe(w.ctx, flowmesh.WithGroup("g"), flowmesh.WithAutoCommit(0))
		w.must(err)
		for offset := int64(2); offset < 4; offset++ {
			m, err := sub.Next(w.ctx)
			w.must(err)
			if m.Offset != offset {
				w.Fatalf("offset %d, not %d", m.Offset, offset)
			}
		}
		for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			offset, err := s.CommittedOffset(w.ctx, "g")
			w.must(err)
			if offset == 2 {
				break
			}
			if time.Now().After(deadline) {
				w.Fatalf("committed %d", offset)
			}
		}
		// A seek forgets what is due, and by hand goes what was given out last.
		w.must(sub.Seek(w.ctx, 0))
		_, err = sub.NextBatch(w.ctx)
		w.must(err)
		w.must(sub.Commit(w.ctx))
		w.must(sub.Close())
		committed(3)
		if _, err := s.Subscribe(w.ctx, flowmesh.WithAutoCommit(-1)); !errors.Is(err, flowmesh.ErrInvalidArgument) {
			w.Fatalf("a negative interval: %v", err)
		}
	})
}

// A commit that fails is told, and tried again by the close.
func TestAutoCommitThatFails(t *testing.T) {
	both(t, func(w *world) {
		s := w.stream("orders")
		w.write(s, "0", "1")
		failed := make(chan error, 10)
		sub, err := s.Subscribe(w.ctx, flowmesh.WithStart(0), flowmesh.WithGroup("g"), flowmesh.WithAutoCommit(time.Nanosecond),
			flowmesh.WithStateFunc(func(state flowmesh.SubscriptionState, reason error) {
				if state == flowmesh.SubscriptionCommitFailed {
					failed <- reason
				}
			}))
		w.must(err)
		flowmesh.BreakCommits(sub)
		for range 2 {
			_, err = sub.Next(w.ctx)
			w.must(err)
		}
		if err := <-failed; !errors.Is(err, flowmesh.ErrInvalidArgument) {
			w.Fatalf("told %v", err)
		}
		if err := sub.Close(); !errors.Is(err, flowmesh.ErrInvalidArgument) {
			w.Fatalf("close: %v", err)
		}
		w.must(sub.Close())
	})
}

func TestAckAll(t *testing.T) {
	both(t, func(w *world) {
		q := w.queue("mails")
		const count = 50
		for i := range count {
			_, _, err := q.Enqueue(w.ctx, fmt.Append(nil, i))
			w.must(err)
		}
		jobs, err := q.Receive(w.ctx, count)
		w.must(err)
		if acked, err := q.AckAll(w.ctx, jobs); err != nil || acked != count {
			w.Fatalf("%d, %v", acked, err)
		}
		stats, err := q.Stats(w.ctx)
		w.must(err)
		if stats.CompletedJobs != count || stats.InFlightJobs != 0 {
			w.Fatalf("stats %+v", stats)
		}
		if acked, err := q.AckAll(w.ctx, nil); err != nil || acked != 0 {
			w.Fatalf("nothing: %d, %v", acked, err)
		}
		if _, err := q.AckAll(w.ctx, []*flowmesh.Job{{ID: jobs[0].ID}}); !errors.Is(err, flowmesh.ErrFailedPrecondition) {
			w.Fatalf("not leased: %v", err)
		}
		// One that cannot be acknowledged does not stop the others.
		for range 3 {
			_, _, err := q.Enqueue(w.ctx, []byte("x"))
			w.must(err)
		}
		jobs, err = q.Receive(w.ctx, 3)
		w.must(err)
		jobs[1].ID = ""
		if acked, err := q.AckAll(w.ctx, jobs); !errors.Is(err, flowmesh.ErrInvalidArgument) || acked != 2 {
			w.Fatalf("one without an id: %d, %v", acked, err)
		}
	})
	endpoint, _ := silent(t)
	in(t, endpoint, func(w *world) {
		ctx, cancel := context.WithCancel(w.ctx)
		ended := make(chan error)
		go func() {
			_, err := w.queue("q").AckAll(ctx, flowmesh.Leased(w.queue("q"), "1", "2", "3"))
			ended <- err
		}()
		waitUnderWay(w, 3)
		cancel()
		checkCancelled(w, <-ended, context.Canceled, flowmesh.CodeCancelled)
	})
}

func TestWorkerStop(t *testing.T) {
	both(t, func(w *world) {
		q := w.queue("mails")
		_, _, err := q.Enqueue(w.ctx, []byte("x"))
		w.must(err)
		began := make(chan struct{})
		worker, err := q.Work(func(ctx context.Context, job *flowmesh.Job) error {
			close(began)
			<-ctx.Done()
			return nil // a verdict that is not sent any more
		})
		w.must(err)
		<-began
		w.must(worker.Stop())
		w.must(worker.Close())
		w.must(worker.Stop())
		stats, err := q.Stats(w.ctx)
		w.must(err)
		if stats.InFlightJobs != 1 || stats.CompletedJobs != 0 {
			w.Fatalf("stats %+v", stats)
		}
	})
}
