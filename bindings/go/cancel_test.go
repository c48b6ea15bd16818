package flowmesh_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flowmesh/libflowmesh/bindings/go"
)

// silent gives an endpoint that takes connections and never says a word.
func silent(t *testing.T) (endpoint string, accepted <-chan struct{}) {
	path := filepath.Join(t.TempDir(), "silent")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	came := make(chan struct{}, 100)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			came <- struct{}{}
		}
	}()
	return "unix:" + path, came
}

// calls is every call that can wait, by name.
func calls(w *world) map[string]func(ctx context.Context) error {
	s, q, kv := w.stream("s"), w.queue("q"), w.kv("k")
	reader, err := s.Reader(0, 10)
	w.must(err)
	event := flowmesh.Event{Payload: []byte("x")}
	return map[string]func(ctx context.Context) error{
		"connect":          w.client.Connect,
		"health check":     w.client.HealthCheck,
		"ready":            func(ctx context.Context) error { _, err := w.client.Ready(ctx); return err },
		"write":            func(ctx context.Context) error { _, err := s.Write(ctx, event); return err },
		"read":             func(ctx context.Context) error { _, err := s.Read(ctx, 0, 1); return err },
		"reader next":      func(ctx context.Context) error { _, err := reader.Next(ctx); return err },
		"subscribe":        func(ctx context.Context) error { _, err := s.Subscribe(ctx); return err },
		"commit":           func(ctx context.Context) error { return s.CommitOffset(ctx, "g", 1) },
		"committed":        func(ctx context.Context) error { _, err := s.CommittedOffset(ctx, "g"); return err },
		"latest":           func(ctx context.Context) error { _, err := s.LatestOffset(ctx); return err },
		"group state":      func(ctx context.Context) error { _, err := s.GroupState(ctx, "g"); return err },
		"enqueue":          func(ctx context.Context) error { _, _, err := q.Enqueue(ctx, []byte("x")); return err },
		"reserve":          func(ctx context.Context) error { _, err := q.Reserve(ctx); return err },
		"reserve, waiting": func(ctx context.Context) error { _, err := q.Reserve(ctx, flowmesh.WithWait(-1)); return err },
		"receive":          func(ctx context.Context) error { _, err := q.Receive(ctx, 5); return err },
		"receive, waiting": func(ctx context.Context) error { _, err := q.Receive(ctx, 5, flowmesh.WithWait(time.Hour)); return err },
		"ack":              func(ctx context.Context) error { return q.Ack(ctx, "0123456789abcdef0123456789abcdef") },
		"nack":             func(ctx context.Context) error { _, err := q.Nack(ctx, "0123456789abcdef0123456789abcdef"); return err },
		"queue stats":      func(ctx context.Context) error { _, err := q.Stats(ctx); return err },
		"set retry policy": func(ctx context.Context) error { return q.SetRetryPolicy(ctx, flowmesh.DefaultRetryPolicy()) },
		"get retry policy": func(ctx context.Context) error { _, err := q.RetryPolicy(ctx); return err },
		"dead letters":     func(ctx context.Context) error { _, err := q.DeadLetters(ctx, 1); return err },
		"replay": func(ctx context.Context) error {
			_, _, err := q.Replay(ctx, "0123456789abcdef0123456789abcdef")
			return err
		},
		"kv set":    func(ctx context.Context) error { return kv.Set(ctx, "k", []byte("v")) },
		"kv get":    func(ctx context.Context) error { _, err := kv.Get(ctx, "k"); return err },
		"kv delete": func(ctx context.Context) error { return kv.Delete(ctx, "k") },
		"kv exists": func(ctx context.Context) error { _, err := kv.Exists(ctx, "k"); return err },
		"kv keys":   func(ctx context.Context) error { _, err := kv.Keys(ctx, ""); return err },
	}
}

// checkCancelled checks the error of a call that its context ended.
func checkCancelled(t testing.TB, err error, is error, code flowmesh.Code) {
	t.Helper()
	var detail *flowmesh.Error
	if !errors.Is(err, is) || !errors.Is(err, code) || !errors.As(err, &detail) || detail.Code != code {
		t.Errorf("%v (%T), which should be %v and %v", err, err, is, code)
	} else if code == flowmesh.CodeDeadlineExceeded && strings.Contains(detail.Message, "cancelled") {
		t.Errorf("%v: nobody cancelled it", err)
	}
}

func TestCancellationOfEachCall(t *testing.T) {
	endpoint, accepted := silent(t)
	in(t, endpoint, func(w *world) {
		for name, call := range calls(w) {
			for _, crowd := range []bool{false, true} {
				ctx, cancel := context.WithCancelCause(context.Background())
				release := func() {}
				if crowd {
					// Another call is under way, so that this one is not made in its caller's thread.
					var other context.Context
					other, release = context.WithCancel(context.Background())
					go w.client.HealthCheck(other)
					waitUnderWay(w, 1)
				}
				ended := make(chan error, 1)
				go func() { ended <- call(ctx) }()
				if crowd {
					waitUnderWay(w, 2)
				} else {
					waitUnderWay(w, 1)
				}
				reason := errors.New("a reason")
				cancel(reason)
				err := <-ended
				checkCancelled(w, err, context.Canceled, flowmesh.CodeCancelled)
				if !errors.Is(err, reason) {
					w.Errorf("%s: %v does not have the cause of the context", name, err)
				}
				// With a context that has ended already.
				checkCancelled(w, call(ctx), context.Canceled, flowmesh.CodeCancelled)
				release()
				waitUnderWay(w, 0)
			}
		}
	})
	<-accepted
}

// waitUnderWay waits until so many calls are under way, as the library counts them.
func waitUnderWay(w *world, count uint64) {
	w.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		stats, err := w.client.Stats()
		w.must(err)
		if stats.CallsUnderWay >= count && (count > 0 || stats.CallsUnderWay == 0) {
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("%d calls under way, not %d", stats.CallsUnderWay, count)
		}
	}
}

func TestDeadlineOfEachCall(t *testing.T) {
	endpoint, _ := silent(t)
	in(t, endpoint, func(w *world) {
		for _, call := range calls(w) {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
			checkCancelled(w, call(ctx), context.DeadlineExceeded, flowmesh.CodeDeadlineExceeded)
			cancel()
		}
	})
}

// The client's own deadline is an error of this package, and reads as one of a context.
func TestDeadlineOfTheClient(t *testing.T) {
	endpoint, _ := silent(t)
	in(t, endpoint, func(w *world) {
		err := w.client.HealthCheck(context.Background())
		checkCancelled(w, err, context.DeadlineExceeded, flowmesh.CodeDeadlineExceeded)
	}, flowmesh.WithTimeout(20*time.Millisecond))
}

func TestCancellationOfWaits(t *testing.T) {
	both(t, func(w *world) {
		s, q := w.stream("s"), w.queue("q")
		sub, err := s.Subscribe(w.ctx)
		w.must(err)
		defer sub.Close()
		waits := map[string]func(ctx context.Context) error{
			"next":       func(ctx context.Context) error { _, err := sub.Next(ctx); return err },
			"next batch": func(ctx context.Context) error { _, err := sub.NextBatch(ctx); return err },
			"messages": func(ctx context.Context) error {
				for _, err := range sub.Messages(ctx) {
					return err
				}
				return nil
			},
			"reserve": func(ctx context.Context) error { _, err := q.Reserve(ctx, flowmesh.WithWait(-1)); return err },
		}
		for name, wait := range waits {
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- wait(ctx) }()
			cancel()
			err := <-ended
			w.Log(name)
			checkCancelled(w, err, context.Canceled, flowmesh.CodeCancelled)
		}
		// Nothing was lost by that.
		w.write(s, "a")
		if m, err := sub.Next(w.ctx); err != nil || string(m.Payload) != "a" {
			w.Fatalf("after the cancelled ones: %v, %v", m, err)
		}
	})
}

// Closing the client ends what waits for a job.
func TestCloseEndsCalls(t *testing.T) {
	both(t, func(w *world) {
		q := w.queue("q")
		ended := make(chan error)
		for range 10 {
			go func() {
				_, err := q.Reserve(context.Background(), flowmesh.WithWait(-1))
				ended <- err
			}()
		}
		waitUnderWay(w, 10)
		w.must(w.client.Close())
		for range 10 {
			if err := <-ended; !errors.Is(err, flowmesh.ErrClosed) {
				w.Errorf("reserve: %v", err)
			}
		}
		for name, call := range calls(w) {
			if err := call(w.ctx); !errors.Is(err, flowmesh.ErrClosed) {
				w.Errorf("%s of a closed client: %v", name, err)
			}
		}
	})
}

func TestNobodyThere(t *testing.T) {
	in(t, "unix:"+filepath.Join(t.TempDir(), "nobody"), func(w *world) {
		err := w.client.Connect(w.ctx)
		var detail *flowmesh.Error
		if !errors.Is(err, flowmesh.ErrUnavailable) || !errors.As(err, &detail) || !detail.Retryable {
			w.Fatalf("connect: %v", err)
		}
		if _, err := w.stream("s").Write(w.ctx, flowmesh.Event{Payload: []byte("x")}); !errors.As(err, &detail) ||
			detail.Code != flowmesh.CodeUnavailable || detail.Outcome != flowmesh.OutcomeNotApplied {
			w.Fatalf("write: %v", err)
		}
	})
}
