package flowmesh_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowmesh/libflowmesh/bindings/go"
)

func TestKV(t *testing.T) {
	both(t, func(w *world) {
		kv := w.kv("settings")
		if _, err := kv.Get(w.ctx, "colour"); !errors.Is(err, flowmesh.ErrNotFound) {
			w.Fatalf("get of nothing: %v", err)
		}
		if keys, err := kv.Keys(w.ctx, ""); err != nil || len(keys) != 0 {
			w.Fatalf("keys %v, %v", keys, err)
		}
		large := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		w.must(kv.Set(w.ctx, "colour", []byte("red")))
		w.must(kv.Set(w.ctx, "colour", []byte("blue")))
		w.must(kv.Set(w.ctx, "cölour", large))
		w.must(kv.Set(w.ctx, "x", []byte{0}))
		if value, err := kv.Get(w.ctx, "colour"); err != nil || string(value) != "blue" {
			w.Fatalf("get: %q, %v", value, err)
		}
		if value, err := kv.Get(w.ctx, "cölour"); err != nil || !bytes.Equal(value, large) {
			w.Fatalf("get of a large value: %d bytes, %v", len(value), err)
		}
		if keys, err := kv.Keys(w.ctx, "c"); err != nil || !slices.Equal(keys, []string{"colour", "cölour"}) {
			w.Fatalf("keys %q, %v", keys, err)
		}
		if there, err := kv.Exists(w.ctx, "x"); err != nil || !there {
			w.Fatalf("exists: %v, %v", there, err)
		}
		w.must(kv.Delete(w.ctx, "x"))
		w.must(kv.Delete(w.ctx, "x"))
		if there, err := kv.Exists(w.ctx, "x"); err != nil || there {
			w.Fatalf("exists: %v, %v", there, err)
		}
	})
}

// Bytes that lie next to Go pointers may be given to C.
func TestKVOfBytesInAStruct(t *testing.T) {
	both(t, func(w *world) {
		kv := w.kv("settings")
		type record struct {
			next  *int
			bytes [4]byte
			after *int
		}
		r := &record{next: new(int), bytes: [4]byte{1, 2, 3, 4}, after: new(int)}
		w.must(kv.Set(w.ctx, "k", r.bytes[:]))
		if value, err := kv.Get(w.ctx, "k"); err != nil || !bytes.Equal(value, r.bytes[:]) {
			w.Fatalf("get: %v, %v", value, err)
		}
		_, err := w.stream("s").Write(w.ctx, flowmesh.Event{Payload: r.bytes[:]})
		w.must(err)
	})
}

func TestBadInput(t *testing.T) {
	both(t, func(w *world) {
		kv, s, q := w.kv("settings"), w.stream("s"), w.queue("q")
		_, emptyEvent := s.Write(w.ctx, flowmesh.Event{})
		_, noEvent := s.Write(w.ctx)
		_, badHeader := s.Write(w.ctx, flowmesh.Event{Payload: []byte("x"), Headers: map[string]string{"k": "\xff"}})
		_, _, emptyJob := q.Enqueue(w.ctx, nil)
		_, negativeOffset := s.Read(w.ctx, -1, 1)
		_, negativePage := s.Reader(-1, 1)
		_, badName := w.client.KV("", "test", "x")
		_, nulName := w.client.Stream(w.tenant, "te\x00st", "x")
		_, badGroup := s.Subscribe(w.ctx, flowmesh.WithGroup(""))
		_, badStart := s.Subscribe(w.ctx, flowmesh.WithStart(-3))
		_, noHandler := q.Work(nil)
		_, badConcurrency := q.Work(nothing, flowmesh.WithConcurrency(5000))
		_, badBuffer := s.Producer(flowmesh.WithBuffer(-1, 0))
		_, badEndpoint := flowmesh.Open("ftp://x")
		_, nulEndpoint := flowmesh.Open("unix:/\x00")
		_, badOption := flowmesh.Open("embedded:", flowmesh.WithTimeout(0))
		_, badConnectTimeout := flowmesh.Open("embedded:", flowmesh.WithConnectTimeout(-1))
		_, _, overDelay := q.Enqueue(w.ctx, []byte("x"), flowmesh.WithDelay(-1))
		_, overNack := q.Nack(w.ctx, "0123456789abcdef0123456789abcdef", flowmesh.WithDelay(-time.Microsecond))
		_, overLease := q.Reserve(w.ctx, flowmesh.WithLease(-999*time.Microsecond))
		_, overWorker := q.Work(nothing, flowmesh.WithLease(-1))
		_, badPrefetch := q.Work(nothing, flowmesh.WithPrefetch(-1))
		_, badBackoff := s.Subscribe(w.ctx, flowmesh.WithBackoff(-1, time.Second))
		policy := flowmesh.DefaultRetryPolicy()
		policy.MaxAttempts = -1
		_, negativeLimit := s.Read(w.ctx, 0, -1)
		_, negativeSize := s.Reader(0, -1)
		_, negativeJobs := q.Receive(w.ctx, -5)
		_, negativeLetters := q.DeadLetters(w.ctx, -1)
		for name, err := range map[string]error{
			"empty key": kv.Set(w.ctx, "", []byte("v")), "long key": kv.Set(w.ctx, strings.Repeat("k", 1025), []byte("v")),
			"empty value": kv.Set(w.ctx, "k", nil), "negative TTL": kv.Set(w.ctx, "k", []byte("v"), flowmesh.WithTTL(-1e9)),
			"empty event": emptyEvent, "no event": noEvent, "header that is not UTF-8": badHeader, "empty job": emptyJob,
			"negative offset": negativeOffset, "negative page": negativePage, "bad name": badName, "name with NUL": nulName,
			"bad group": badGroup, "bad start": badStart, "no handler": noHandler, "bad concurrency": badConcurrency,
			"bad buffer": badBuffer, "bad endpoint": badEndpoint, "endpoint with NUL": nulEndpoint, "bad option": badOption,
			"connect timeout that is over": badConnectTimeout, "delay that is over": overDelay, "delay of a nack that is over": overNack,
			"lease that is over": overLease, "lease of a worker that is over": overWorker, "negative prefetch": badPrefetch,
			"negative backoff": badBackoff, "negative attempts": q.SetRetryPolicy(w.ctx, policy), "negative limit": negativeLimit,
			"negative size": negativeSize, "negative number of jobs": negativeJobs, "negative number of letters": negativeLetters,
			"TTL that is just over": kv.Set(w.ctx, "k", []byte("v"), flowmesh.WithTTL(-1)),
			"TTL of nothing":        kv.Set(w.ctx, "k", []byte("v"), flowmesh.WithTTL(0)),
		} {
			var detail *flowmesh.Error
			if !errors.Is(err, flowmesh.ErrInvalidArgument) || !errors.As(err, &detail) {
				w.Errorf("%s: %v", name, err)
			} else if detail.Message == "" || detail.Outcome != flowmesh.OutcomeNotApplied {
				w.Errorf("%s: %+v", name, detail)
			}
		}
		if there, err := kv.Exists(w.ctx, "k"); err != nil || there {
			w.Errorf("a value that was refused: %v, %v", there, err)
		}
	})
}
