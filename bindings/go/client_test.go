package flowmesh_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flowmesh/libflowmesh/bindings/go"
)

func TestClient(t *testing.T) {
	both(t, func(w *world) {
		w.must(w.client.Connect(w.ctx))
		w.must(w.client.HealthCheck(w.ctx))
		if ready, err := w.client.Ready(w.ctx); err != nil || !ready {
			w.Fatalf("ready: %v, %v", ready, err)
		}
		stats, err := w.client.Stats()
		w.must(err)
		if stats.CallsSucceeded == 0 || stats.CallsUnderWay != 0 {
			w.Fatalf("stats %+v", stats)
		}
		w.must(w.client.Close())
		w.must(w.client.Close())
		if _, err := w.client.Stats(); err != nil {
			w.Fatalf("statistics of a closed client: %v", err)
		}
		if flowmesh.Version() != flowmesh.HeaderVersion {
			w.Fatalf("library %s, header %s", flowmesh.Version(), flowmesh.HeaderVersion)
		}
	})
}

func TestErrors(t *testing.T) {
	in(t, "embedded:", func(w *world) {
		_, err := w.kv("settings").Get(w.ctx, "colour")
		var detail *flowmesh.Error
		if !errors.As(err, &detail) {
			w.Fatalf("%T", err)
		}
		if detail.Code != flowmesh.CodeNotFound || detail.Retryable || detail.Code.String() != "NOT_FOUND" {
			w.Fatalf("%+v", detail)
		}
		if errors.Is(err, flowmesh.ErrClosed) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			w.Fatalf("%v matches what it is not", err)
		}
		wrapped := fmt.Errorf("read settings: %w", err)
		if !errors.Is(wrapped, flowmesh.ErrNotFound) || !strings.Contains(wrapped.Error(), "NOT_FOUND") {
			w.Fatalf("%v", wrapped)
		}
	})
	in(t, "embedded:", func(w *world) {
		_, err := w.stream("s").Write(w.ctx, flowmesh.Event{Payload: []byte("x")})
		if !errors.Is(err, flowmesh.ErrNotFound) {
			w.Fatalf("write where nothing is created: %v", err)
		}
	}, flowmesh.WithCreate(false))
}

func TestTrace(t *testing.T) {
	both(t, func(w *world) {
		const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		s := w.stream("orders")
		_, err := s.Write(flowmesh.ContextWithTrace(w.ctx, parent, "a=b"), flowmesh.Event{Payload: []byte("x")})
		w.must(err)
		messages, err := s.Read(w.ctx, 0, 1)
		w.must(err)
		if h := messages[0].Headers; h["traceparent"] != parent || h["tracestate"] != "a=b" {
			w.Fatalf("headers %v", h)
		}
		_, err = s.Write(flowmesh.ContextWithTrace(w.ctx, "nonsense", ""), flowmesh.Event{Payload: []byte("x")})
		if !errors.Is(err, flowmesh.ErrInvalidArgument) {
			w.Fatalf("malformed trace: %v", err)
		}
	})
}

func TestLogger(t *testing.T) {
	var first, second bytes.Buffer
	logger := func(to *bytes.Buffer) *slog.Logger {
		return slog.New(slog.NewTextHandler(to, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	for _, to := range []*bytes.Buffer{&first, &second} {
		if err := flowmesh.SetLogger(logger(to), slog.LevelDebug); err != nil {
			t.Fatal(err)
		}
		in(t, "unix:"+filepath.Join(t.TempDir(), "nobody"), func(w *world) {
			if err := w.client.HealthCheck(w.ctx); err == nil {
				w.Fatal("somebody answered")
			}
			if to == &second {
				if err := flowmesh.SetLogger(nil, 0); err != nil {
					w.Fatal(err)
				}
				if !strings.Contains(second.String(), fmt.Sprintf("client=%d", w.client.ID())) {
					w.Errorf("log without the client's number: %q", second.String())
				}
			} else {
				// The goroutine that reads the log belongs to nobody's client.
				if err := flowmesh.SetLogger(logger(&first), slog.LevelDebug); err != nil {
					w.Fatal(err)
				}
				if err := flowmesh.SetLogger(nil, 0); err != nil {
					w.Fatal(err)
				}
			}
		})
	}
	if !strings.Contains(first.String(), "target=") {
		t.Errorf("log %q", first.String())
	}
}

// Shutdown ends the library for the whole process, so a child does it.
func TestShutdown(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, os.Args[0])
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGQUIT) } // its stacks
	command.Env = append(os.Environ(), "FLOWMESH_TEST_CHILD=shutdown")
	output, err := command.CombinedOutput()
	if err != nil || strings.TrimSpace(string(output)) != "shut down" {
		t.Fatalf("%v: %s", err, output)
	}
}

func child(what string) {
	if what != "shutdown" {
		panic(what)
	}
	check := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	client, err := flowmesh.Open("embedded:")
	check(err)
	queue, err := client.Queue("t", "n", "q")
	check(err)
	stream, err := client.Stream("t", "n", "s")
	check(err)
	sub, err := stream.Subscribe(context.Background())
	check(err)
	ended := make(chan error)
	const waiting = 10
	for range waiting {
		go func() {
			_, err := queue.Reserve(context.Background(), flowmesh.WithWait(-1))
			ended <- err
		}()
	}
	go func() {
		_, err := sub.Next(context.Background())
		ended <- err
	}()
	for stats, err := client.Stats(); stats.CallsUnderWay < waiting; stats, err = client.Stats() {
		check(err)
		time.Sleep(time.Millisecond)
	}
	check(flowmesh.Shutdown(context.Background()))
	for range waiting + 1 {
		if err := <-ended; !errors.Is(err, flowmesh.ErrClosed) {
			panic(err)
		}
	}
	if _, _, err := queue.Enqueue(context.Background(), []byte("x")); !errors.Is(err, flowmesh.ErrClosed) {
		panic(err)
	}
	check(sub.Close())
	check(client.Close())
	if left := goroutinesLeft(); left != "" {
		panic(left)
	}
	fmt.Println("shut down")
}
