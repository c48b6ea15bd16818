package flowmesh_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/flowmesh/libflowmesh/bindings/go"
)

func payloads(messages []flowmesh.Message) (texts []string) {
	for _, m := range messages {
		texts = append(texts, string(m.Payload))
	}
	return texts
}

func TestWriteAndRead(t *testing.T) {
	both(t, func(w *world) {
		s := w.stream("orders")
		if _, err := s.Read(w.ctx, 0, 0); !errors.Is(err, flowmesh.ErrNotFound) {
			w.Fatalf("read of a stream that is not there: %v", err)
		}
		headers := map[string]string{"kind": "order", "empty": "", "ümlaut": "ß"}
		offsets, err := s.Write(w.ctx,
			flowmesh.Event{Payload: []byte("a"), Headers: headers},
			flowmesh.Event{Payload: []byte{0, 1, 255}},
			flowmesh.Event{Payload: []byte("c"), Headers: map[string]string{"n": "1"}})
		w.must(err)
		if !slices.Equal(offsets, []int64{0, 1, 2}) {
			w.Fatalf("offsets %v", offsets)
		}
		if got := w.write(s, "d"); got[0] != 3 {
			w.Fatalf("offsets %v", got)
		}
		messages, err := s.Read(w.ctx, 0, 1000)
		w.must(err)
		if got := payloads(messages); !slices.Equal(got, []string{"a", "\x00\x01\xff", "c", "d"}) {
			w.Fatalf("payloads %q", got)
		}
		first := messages[0]
		if !maps.Equal(first.Headers, headers) || messages[1].Headers != nil || messages[2].Headers["n"] != "1" {
			w.Fatalf("headers %v, %v, %v", first.Headers, messages[1].Headers, messages[2].Headers)
		}
		if len(first.ID) != 32 || first.CreatedAt.IsZero() || first.Partition != 0 {
			w.Fatalf("message %+v", first)
		}
		// A payload ends where it ends, although it lies in one piece with others.
		_ = append(messages[0].Payload, "zzzz"...)
		if string(messages[1].Payload) != "\x00\x01\xff" {
			w.Fatalf("an append has changed the next message: %q", messages[1].Payload)
		}
		if page, err := s.Read(w.ctx, 1, 2); err != nil || len(page) != 2 || page[0].Offset != 1 {
			w.Fatalf("page %v, %v", page, err)
		}
		if latest, err := s.LatestOffset(w.ctx); err != nil || latest != 3 {
			w.Fatalf("latest %d, %v", latest, err)
		}
	})
}

func TestReader(t *testing.T) {
	both(t, func(w *world) {
		s := w.stream("log")
		for i := range 25 {
			w.write(s, fmt.Sprint(i))
		}
		r, err := s.Reader(3, 10)
		w.must(err)
		page, err := r.Next(w.ctx)
		w.must(err)
		if len(page) != 10 || page[0].Offset != 3 {
			w.Fatalf("first page %v", payloads(page))
		}
		next := int64(13)
		for m, err := range r.Messages(w.ctx) {
			w.must(err)
			if m.Offset != next {
				w.Fatalf("offset %d, not %d", m.Offset, next)
			}
			next++
		}
		if next != 25 {
			w.Fatalf("ended at %d", next)
		}
	})
}

func TestOffsetsAndGroups(t *testing.T) {
	both(t, func(w *world) {
		s := w.stream("orders")
		if _, err := s.CommittedOffset(w.ctx, "g"); !errors.Is(err, flowmesh.ErrNotFound) {
			w.Fatalf("no such stream: %v", err)
		}
		w.write(s, "a", "b", "c")
		if offset, err := s.CommittedOffset(w.ctx, "g"); err != nil || offset != -1 {
			w.Fatalf("committed %d, %v", offset, err)
		}
		w.must(s.CommitOffset(w.ctx, "g", 1))
		state, err := s.GroupState(w.ctx, "g")
		w.must(err)
		if state != (flowmesh.GroupState{CommittedOffset: 1, LatestOffset: 2, Lag: 1}) {
			w.Fatalf("state %+v", state)
		}
		if err := s.CommitOffset(w.ctx, "g", -2); !errors.Is(err, flowmesh.ErrInvalidArgument) {
			w.Fatalf("offset -2: %v", err)
		}
		if err := s.CommitOffset(w.ctx, "a\x00b", 1); !errors.Is(err, flowmesh.ErrInvalidArgument) {
			w.Fatalf("group with NUL: %v", err)
		}
	})
}

func TestSubscription(t *testing.T) {
	both(t, func(w *world) {
		s := w.stream("orders")
		w.write(s, "0", "1", "2")
		sub, err := s.Subscribe(w.ctx, flowmesh.WithGroup("g"))
		w.must(err)
		m, err := sub.Next(w.ctx)
		w.must(err)
		if m.Offset != 0 {
			w.Fatalf("first offset %d", m.Offset)
		}
		w.must(sub.Commit(w.ctx))
		if offset, err := s.CommittedOffset(w.ctx, "g"); err != nil || offset != 0 {
			w.Fatalf("what was given out was committed, not what has arrived: %d, %v", offset, err)
		}
		next := int64(1)
		for m, err := range sub.Messages(w.ctx) {
			w.must(err)
			if m.Offset != next {
				w.Fatalf("offset %d, not %d", m.Offset, next)
			}
			if next == 2 {
				w.write(s, "3", "4", "5")
			}
			if next++; next == 5 {
				break
			}
		}
		// What the loop has left comes next.
		batch, err := sub.NextBatch(w.ctx)
		w.must(err)
		if len(batch) != 1 || batch[0].Offset != 5 {
			w.Fatalf("after the loop: %v", payloads(batch))
		}
		w.must(sub.Seek(w.ctx, 1))
		if m, err = sub.Next(w.ctx); err != nil || m.Offset != 1 {
			w.Fatalf("after the seek: %+v, %v", m, err)
		}
		w.must(sub.Seek(w.ctx, flowmesh.StartCommitted))
		if m, err = sub.Next(w.ctx); err != nil || m.Offset != 1 {
			w.Fatalf("after the commit: %+v, %v", m, err)
		}
		w.must(sub.Close())
		w.must(sub.Close())
		if _, err := sub.Next(w.ctx); !errors.Is(err, flowmesh.ErrClosed) {
			w.Fatalf("next of a closed subscription: %v", err)
		}
	})
}

// A reader that is slower than the server holds it up, and loses nothing.
func TestSubscriptionThatIsSlow(t *testing.T) {
	both(t, func(w *world) {
		s := w.stream("much")
		const batches, size = 60, 100
		payload := make([]byte, 1000)
		for range batches {
			events := make([]flowmesh.Event, size)
			for i := range events {
				events[i].Payload = payload
			}
			_, err := s.Write(w.ctx, events...)
			w.must(err)
		}
		sub, err := s.Subscribe(w.ctx, flowmesh.WithStart(0), flowmesh.WithMaxBatch(50), flowmesh.WithPrefetchBytes(100_000))
		w.must(err)
		defer sub.Close()
		for want := int64(0); want < batches*size; {
			batch, err := sub.NextBatch(w.ctx)
			w.must(err)
			if len(batch) > 50 {
				w.Fatalf("batch of %d", len(batch))
			}
			for _, m := range batch {
				if m.Offset != want {
					w.Fatalf("offset %d, not %d", m.Offset, want)
				}
				want++
			}
		}
	})
}

func TestSubscriptionStartNewAndSeekInLoop(t *testing.T) {
	both(t, func(w *world) {
		s := w.stream("orders")
		w.write(s, "0", "1")
		sub, err := s.Subscribe(w.ctx, flowmesh.WithStart(flowmesh.StartNew))
		w.must(err)
		defer sub.Close()
		w.write(s, "2", "3", "4")
		var seen []int64
		sought := false
		for m, err := range sub.Messages(w.ctx) {
			w.must(err)
			seen = append(seen, m.Offset)
			if m.Offset == 3 && !sought {
				sought = true
				w.must(sub.Seek(w.ctx, 0))
			}
			if m.Offset == 4 {
				break
			}
		}
		if !slices.Equal(seen, []int64{2, 3, 0, 1, 2, 3, 4}) {
			w.Fatalf("seen %v", seen)
		}
	})
}

func TestClosingTheClientEndsItsSubscriptions(t *testing.T) {
	both(t, func(w *world) {
		s := w.stream("orders")
		states := make(chan flowmesh.SubscriptionState, 10)
		sub, err := s.Subscribe(w.ctx, flowmesh.WithStateFunc(func(state flowmesh.SubscriptionState, reason error) {
			states <- state
		}))
		w.must(err)
		ended := make(chan error)
		go func() {
			_, err := sub.Next(context.Background())
			ended <- err
		}()
		w.must(w.client.Close())
		if err := <-ended; !errors.Is(err, flowmesh.ErrClosed) {
			w.Fatalf("next: %v", err)
		}
		for state := range states {
			if state == flowmesh.SubscriptionEnded {
				break
			}
		}
		w.must(sub.Close())
		if _, err := s.Write(w.ctx, flowmesh.Event{Payload: []byte("x")}); !errors.Is(err, flowmesh.ErrClosed) {
			w.Fatalf("write: %v", err)
		}
		if _, err := s.Subscribe(w.ctx); !errors.Is(err, flowmesh.ErrClosed) {
			w.Fatalf("subscribe: %v", err)
		}
	})
}
