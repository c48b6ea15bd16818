package flowmesh_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/flowmesh/libflowmesh/bindings/go"
)

// threads is how many threads this process has.
func threads(t testing.TB) (count int) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "Threads: %d", &count); err == nil {
			return count
		}
	}
	t.Fatal("no number of threads")
	return 0
}

// mostThreads is far below one for each call. Besides those of the library, and one for each processor,
// Go makes a thread where the system takes the processor from one that is inside C; so a busy
// machine has more: some ten at rest, and 525 were seen with eight others at work.
const mostThreads = 1000

// Ten thousand goroutines wait, and none of them has a thread.
func TestTenThousandWait(t *testing.T) {
	both(t, func(w *world) {
		const count = 10_000
		q := w.queue("jobs")
		ctx, cancel := context.WithCancel(w.ctx)
		defer cancel()
		got := make(chan string, count)
		failed := make(chan error, count)
		var waiting sync.WaitGroup
		for range count {
			waiting.Add(1)
			go func() {
				defer waiting.Done()
				job, err := q.Reserve(ctx, flowmesh.WithWait(-1))
				if err != nil {
					failed <- err
					return
				}
				got <- job.ID
			}()
		}
		waitUnderWay(w, count)
		n := threads(w)
		w.Logf("%d threads", n)
		if n > mostThreads {
			w.Errorf("%d threads for %d goroutines that wait", n, count)
		}
		// Some get a job, the others are cancelled; each ends once.
		const jobs = 100
		enqueued := map[string]bool{}
		for range jobs {
			id, _, err := q.Enqueue(w.ctx, []byte("x"))
			w.must(err)
			enqueued[id] = true
		}
		for range jobs {
			select {
			case id := <-got:
				if !enqueued[id] {
					w.Fatalf("job %s twice, or never enqueued", id)
				}
				delete(enqueued, id)
			case err := <-failed:
				w.Fatal(err)
			}
		}
		cancel()
		waiting.Wait()
		for range count - jobs {
			checkCancelled(w, <-failed, context.Canceled, flowmesh.CodeCancelled)
		}
	})
}

// Ten thousand goroutines at work at the same time.
func TestTenThousandWork(t *testing.T) {
	both(t, func(w *world) {
		const count = 10_000
		kv := w.kv("settings")
		failed := make(chan error, count)
		var all sync.WaitGroup
		for i := range count {
			all.Add(1)
			go func() {
				defer all.Done()
				key := fmt.Sprintf("key-%d", i)
				if err := kv.Set(w.ctx, key, []byte(key)); err != nil {
					failed <- err
					return
				}
				value, err := kv.Get(w.ctx, key)
				if err == nil && string(value) != key {
					err = fmt.Errorf("%s has the value %q", key, value)
				}
				failed <- err
			}()
		}
		for range count {
			if err := <-failed; err != nil {
				w.Fatal(err)
			}
		}
		all.Wait()
		n := threads(w)
		w.Logf("%d threads", n)
		if n > mostThreads {
			w.Errorf("%d threads after %d goroutines", n, count)
		}
	})
}
