package flowmesh_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flowmesh/libflowmesh/bindings/go"
)

func nothing(context.Context, *flowmesh.Job) error { return nil }

func TestProducer(t *testing.T) {
	both(t, func(w *world) {
		s := w.stream("orders")
		const count = 5000
		next := uint64(0) // the reports come one call at a time, in the order of the sends
		p, err := s.Producer(flowmesh.WithBuffer(100, 0), flowmesh.WithReports(func(reports []flowmesh.Report) {
			for _, r := range reports {
				if r.Err != nil || r.Tag != next || r.Position != int64(next) || r.Attempts != 1 {
					w.Errorf("report %+v, not %d", r, next)
				}
				next++
			}
		}))
		w.must(err)
		for i := range count {
			w.must(p.Send(w.ctx, flowmesh.Event{Payload: fmt.Append(nil, i)}, flowmesh.WithTag(uint64(i))))
			if i == count/2 {
				w.must(p.Flush(w.ctx))
			}
		}
		w.must(p.Close())
		w.must(p.Close())
		if next != count {
			w.Fatalf("%d reports for %d messages", next, count)
		}
		if err := p.Send(w.ctx, flowmesh.Event{Payload: []byte("x")}); !errors.Is(err, flowmesh.ErrClosed) {
			w.Fatalf("send to a closed producer: %v", err)
		}
		if latest, err := s.LatestOffset(w.ctx); err != nil || latest != count-1 {
			w.Fatalf("latest %d, %v", latest, err)
		}
	})
}

func TestProducerOfJobs(t *testing.T) {
	both(t, func(w *world) {
		q := w.queue("mails")
		ids := make(chan string, 10)
		p, err := q.Producer(flowmesh.WithReports(func(reports []flowmesh.Report) {
			for _, r := range reports {
				ids <- r.JobID
			}
		}))
		w.must(err)
		w.must(p.Send(w.ctx, flowmesh.Event{Payload: []byte("x"), Headers: map[string]string{"k": "v"}}))
		id := <-ids
		job, err := q.Reserve(w.ctx)
		w.must(err)
		if job.ID != id || job.Headers["k"] != "v" {
			w.Fatalf("job %+v, reported %q", job, id)
		}
		w.must(p.Send(w.ctx, flowmesh.Event{Payload: []byte("later")}, flowmesh.WithDelay(time.Hour)))
		w.must(p.Close())
		if _, err := q.Reserve(w.ctx); !errors.Is(err, flowmesh.ErrNoJob) {
			w.Fatalf("before its time: %v", err)
		}
	})
}

// A full buffer makes Send wait, until its context ends; closing gives up and says how many.
func TestProducerWithoutServer(t *testing.T) {
	endpoint, _ := silent(t)
	in(t, endpoint, func(w *world) {
		reported := 0
		p, err := w.stream("s").Producer(flowmesh.WithBuffer(3, 0), flowmesh.WithReports(func(reports []flowmesh.Report) {
			for _, r := range reports {
				if !errors.Is(r.Err, flowmesh.ErrClosed) || r.Position != -1 {
					w.Errorf("report %+v", r)
				}
				reported++
			}
		}))
		w.must(err)
		event := flowmesh.Event{Payload: []byte("x")}
		for range 3 {
			w.must(p.Send(w.ctx, event))
		}
		ctx, cancel := context.WithTimeout(w.ctx, 20*time.Millisecond)
		defer cancel()
		checkCancelled(w, p.Send(ctx, event), context.DeadlineExceeded, flowmesh.CodeDeadlineExceeded)
		checkCancelled(w, p.Flush(ctx), context.DeadlineExceeded, flowmesh.CodeDeadlineExceeded)
		unsent, err := p.CloseContext(ctx)
		checkCancelled(w, err, context.DeadlineExceeded, flowmesh.CodeDeadlineExceeded)
		if unsent != 3 || reported != 3 {
			w.Fatalf("%d unsent, %d reported", unsent, reported)
		}
	})
}

func TestWorker(t *testing.T) {
	both(t, func(w *world) {
		q := w.queue("mails")
		policy := flowmesh.DefaultRetryPolicy()
		policy.MaxAttempts = 1
		w.must(q.SetRetryPolicy(w.ctx, policy))
		const count = 200
		for i := range count {
			_, _, err := q.Enqueue(w.ctx, fmt.Append(nil, i))
			w.must(err)
		}
		dead := make(chan flowmesh.WorkerEvent, count)
		var now, most, done atomic.Int64
		all := make(chan struct{})
		worker, err := q.Work(func(ctx context.Context, job *flowmesh.Job) error {
			for n := now.Add(1); ; {
				if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
					break
				}
			}
			defer now.Add(-1)
			if done.Add(1) == count {
				close(all)
			}
			if string(job.Payload) == "7" {
				return fmt.Errorf("cannot do %s", job.Payload)
			}
			return ctx.Err()
		}, flowmesh.WithConcurrency(8), flowmesh.WithLease(patience), flowmesh.WithWorkerEvents(func(event flowmesh.WorkerEvent) {
			if event.Kind == flowmesh.WorkerDeadLettered {
				dead <- event
			}
		}))
		w.must(err)
		<-all
		if event := <-dead; event.Seq != 7 || event.Attempts != 1 || event.JobID == "" {
			w.Errorf("dead-lettered %+v", event)
		}
		w.must(worker.Close())
		w.must(worker.Close())
		if most.Load() > 8 || done.Load() != count {
			w.Errorf("%d at once, %d done", most.Load(), done.Load())
		}
		stats, err := q.Stats(w.ctx)
		w.must(err)
		if stats.CompletedJobs != count-1 || stats.FailedJobs != 1 || stats.PendingJobs+stats.InFlightJobs != 0 {
			w.Errorf("stats %+v", stats)
		}
	})
}

// A handler that does not end in time is told by its context, by the lease or by the close.
func TestWorkerWhoseHandlerIsSlow(t *testing.T) {
	in(t, "embedded:", func(w *world) {
		q := w.queue("mails")
		_, _, err := q.Enqueue(w.ctx, []byte("x"))
		w.must(err)
		began := make(chan *flowmesh.Job)
		causes := make(chan error, 2)
		worker, err := q.Work(func(ctx context.Context, job *flowmesh.Job) error {
			began <- job
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return flowmesh.RetryAfter(ctx.Err(), time.Minute)
		}, flowmesh.WithLease(10*time.Second), flowmesh.WithPrefetch(0))
		w.must(err)
		<-began
		// The lease is over, and the second of backoff before the next delivery is not.
		w.must(w.client.AdvanceClock(10*time.Second + 500*time.Millisecond))
		if cause := <-causes; !errors.Is(cause, flowmesh.ErrLeaseLost) {
			w.Fatalf("cause %v", cause)
		}
		w.must(w.client.AdvanceClock(2 * time.Second))
		if job := <-began; job.Attempts != 2 {
			w.Fatalf("again: %+v", job)
		}
		ctx, cancel := context.WithTimeout(w.ctx, 10*time.Millisecond)
		defer cancel()
		closed := make(chan int)
		go func() {
			unfinished, err := worker.CloseContext(ctx)
			checkCancelled(w, err, context.DeadlineExceeded, flowmesh.CodeDeadlineExceeded)
			closed <- unfinished
		}()
		if cause := <-causes; cause == nil || errors.Is(cause, flowmesh.ErrLeaseLost) {
			w.Fatalf("cause %v", cause)
		}
		if unfinished := <-closed; unfinished != 1 {
			w.Fatalf("%d unfinished", unfinished)
		}
	}, flowmesh.WithTestClock())
}
