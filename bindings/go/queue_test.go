package flowmesh_test

import (
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/flowmesh/libflowmesh/bindings/go"
)

func TestJobs(t *testing.T) {
	both(t, func(w *world) {
		q := w.queue("mails")
		if _, err := q.Reserve(w.ctx); !errors.Is(err, flowmesh.ErrNoJob) {
			w.Fatalf("reserve from an empty queue: %v", err)
		}
		headers := map[string]string{"to": "bob"}
		id, seq, err := q.Enqueue(w.ctx, []byte("hello"), flowmesh.WithHeaders(headers))
		w.must(err)
		if len(id) != 32 || seq != 0 {
			w.Fatalf("id %q, seq %d", id, seq)
		}
		job, err := q.Reserve(w.ctx, flowmesh.WithLease(time.Minute), flowmesh.WithWait(patience))
		w.must(err)
		if job.ID != id || job.Seq != 0 || string(job.Payload) != "hello" || !maps.Equal(job.Headers, headers) || job.Attempts != 1 {
			w.Fatalf("job %+v", job)
		}
		if left := job.TimeLeft(); left <= 0 || left > time.Minute {
			w.Fatalf("time left %v", left)
		}
		w.must(job.Ack(w.ctx))
		w.must(job.Ack(w.ctx)) // which changes nothing
		if _, err := job.Nack(w.ctx); !errors.Is(err, flowmesh.ErrNotFound) {
			w.Fatalf("nack of a job that is done: %v", err)
		}
		for range 3 {
			_, _, err := q.Enqueue(w.ctx, []byte("x"))
			w.must(err)
		}
		jobs, err := q.Receive(w.ctx, 10)
		w.must(err)
		if len(jobs) != 3 || jobs[2].Seq != 3 {
			w.Fatalf("received %d", len(jobs))
		}
		w.must(q.Ack(w.ctx, jobs[0].ID))
		stats, err := q.Stats(w.ctx)
		w.must(err)
		stats.OldestJobAge = 0
		if stats != (flowmesh.QueueStats{TotalJobs: 4, InFlightJobs: 2, CompletedJobs: 2}) {
			w.Fatalf("stats %+v", stats)
		}
		if none, err := q.Receive(w.ctx, 10); err != nil || len(none) != 0 {
			w.Fatalf("received %v, %v", none, err)
		}
	})
}

func TestDeadLetters(t *testing.T) {
	both(t, func(w *world) {
		q := w.queue("mails")
		policy := flowmesh.DefaultRetryPolicy()
		policy.MaxAttempts, policy.Backoff = 1, flowmesh.BackoffFixed
		w.must(q.SetRetryPolicy(w.ctx, policy))
		if got, err := q.RetryPolicy(w.ctx); err != nil || got != policy {
			w.Fatalf("policy %+v, %v", got, err)
		}
		_, _, err := q.Enqueue(w.ctx, []byte("poison"))
		w.must(err)
		job, err := q.Reserve(w.ctx)
		w.must(err)
		dead, err := job.Nack(w.ctx)
		w.must(err)
		if !dead {
			w.Fatal("the job at its last attempt was not dead-lettered")
		}
		letters, err := q.DeadLetters(w.ctx, 0)
		w.must(err)
		if len(letters) != 1 || string(letters[0].Payload) != "poison" || letters[0].TimeLeft() != 0 {
			w.Fatalf("dead letters %v", letters)
		}
		if err := letters[0].Ack(w.ctx); !errors.Is(err, flowmesh.ErrFailedPrecondition) {
			w.Fatalf("ack of a job that was listed: %v", err)
		}
		id, seq, err := q.Replay(w.ctx, letters[0].ID)
		w.must(err)
		job, err = q.Reserve(w.ctx)
		w.must(err)
		if job.ID != id || job.Seq != seq || job.Attempts != 1 {
			w.Fatalf("replayed %q %d, got %+v", id, seq, job)
		}
		if _, _, err := q.Replay(w.ctx, letters[0].ID); !errors.Is(err, flowmesh.ErrNotFound) {
			w.Fatalf("replay again: %v", err)
		}
	})
}

// What takes time is tested with a clock that moves by hand.
func TestTimeByHand(t *testing.T) {
	in(t, "embedded:", func(w *world) {
		q := w.queue("mails")
		_, _, err := q.Enqueue(w.ctx, []byte("later"), flowmesh.WithDelay(time.Hour))
		w.must(err)
		if _, err := q.Reserve(w.ctx); !errors.Is(err, flowmesh.ErrNoJob) {
			w.Fatalf("before its time: %v", err)
		}
		w.must(w.client.AdvanceClock(time.Hour))
		job, err := q.Reserve(w.ctx, flowmesh.WithLease(10*time.Second))
		w.must(err)
		if left := job.TimeLeft(); left != 10*time.Second {
			w.Fatalf("time left %v", left)
		}
		w.must(w.client.AdvanceClock(4 * time.Second))
		if left := job.TimeLeft(); left != 6*time.Second {
			w.Fatalf("time left %v", left)
		}
		_, err = job.Nack(w.ctx, flowmesh.WithDelay(time.Minute))
		w.must(err)
		w.must(w.client.AdvanceClock(time.Minute))
		if job, err = q.Reserve(w.ctx); err != nil || job.Attempts != 2 {
			w.Fatalf("again: %+v, %v", job, err)
		}
		kv := w.kv("settings")
		w.must(kv.Set(w.ctx, "k", []byte("v"), flowmesh.WithTTL(1))) // a nanosecond is a second there, and not for ever
		w.must(w.client.AdvanceClock(time.Second))
		if _, err := kv.Get(w.ctx, "k"); !errors.Is(err, flowmesh.ErrNotFound) {
			w.Fatalf("after its time: %v", err)
		}
	}, flowmesh.WithTestClock())
}
