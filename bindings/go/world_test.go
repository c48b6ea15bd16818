package flowmesh_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/flowmesh/libflowmesh/bindings/go"
)

// patience is how long a test waits for what must come, on a machine with other things to do.
const patience = time.Minute

// server is the flowmesh-server of this run, on a unix socket.
var server struct {
	once     sync.Once
	endpoint string
	err      error
	stop     func()
}

func TestMain(m *testing.M) {
	if os.Getenv("FLOWMESH_TEST_CHILD") != "" {
		child(os.Getenv("FLOWMESH_TEST_CHILD"))
		return
	}
	code := m.Run()
	if server.stop != nil {
		server.stop()
	}
	if left := goroutinesLeft(); code == 0 && left != "" {
		fmt.Fprintf(os.Stderr, "goroutines were left after the last test:\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

func startServer() (string, error) {
	server.once.Do(func() {
		var directory string
		if directory, server.err = os.MkdirTemp("", "flowmesh-go-"); server.err != nil {
			return
		}
		listen := "unix:" + filepath.Join(directory, "socket")
		var stop func()
		server.endpoint, stop, server.err = launch(listen, directory, "--fsync", "none")
		server.stop = func() {
			stop()
			os.RemoveAll(directory)
		}
	})
	return server.endpoint, server.err
}

// launch starts a flowmesh-server and gives the address at which it listens.
func launch(listen, directory string, arguments ...string) (address string, stop func(), err error) {
	binary := os.Getenv("FLOWMESH_SERVER")
	arguments = append([]string{"--listen", listen, "--data-dir", filepath.Join(directory, "data")}, arguments...)
	command := exec.Command(binary, arguments...)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := command.StderrPipe()
	if err != nil {
		return "", func() {}, err
	}
	// The signal of the parent's death is that of the thread that started it, so it stays.
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		started <- command.Start()
		select {}
	}()
	if err := <-started; err != nil {
		return "", func() {}, err
	}
	lines := bufio.NewScanner(log)
	said := ""
	for address == "" && lines.Scan() {
		said += lines.Text() + "\n"
		if _, rest, found := strings.Cut(lines.Text(), "listening on "); found {
			address, _, _ = strings.Cut(rest, " ")
		}
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for lines.Scan() {
		}
	}()
	stop = func() {
		command.Process.Signal(syscall.SIGTERM)
		<-drained
		command.Wait()
	}
	if address == "" {
		stop()
		return "", func() {}, fmt.Errorf("%s did not start: %s", binary, said)
	}
	return address, stop, nil
}

var worlds atomic.Int64

// world is a client of an engine in memory or of the server, with names of its own.
type world struct {
	*testing.T
	client *flowmesh.Client
	ctx    context.Context
	tenant string
}

// both runs a test on either kind of endpoint, and checks that it leaves no goroutine.
func both(t *testing.T, test func(w *world)) {
	t.Run("embedded", func(t *testing.T) { in(t, "embedded:", test) })
	t.Run("server", func(t *testing.T) {
		if os.Getenv("FLOWMESH_SERVER") == "" {
			t.Skip("FLOWMESH_SERVER names no server")
		}
		endpoint, err := startServer()
		if err != nil {
			t.Fatal(err)
		}
		in(t, endpoint, test)
	})
}

func in(t *testing.T, endpoint string, test func(w *world), options ...flowmesh.ClientOption) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := flowmesh.Open(endpoint, options...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := client.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if left := goroutinesLeft(); left != "" {
			t.Errorf("goroutines were left:\n%s", left)
		}
	}()
	// Another one each time, so that tests can be repeated (-count).
	tenant := fmt.Sprintf("%s.%d", strings.ReplaceAll(t.Name(), "/", "."), worlds.Add(1))
	test(&world{T: t, client: client, ctx: ctx, tenant: tenant})
}

func (w *world) stream(name string) *flowmesh.Stream {
	w.Helper()
	s, err := w.client.Stream(w.tenant, "test", name)
	w.must(err)
	return s
}

func (w *world) queue(name string) *flowmesh.Queue {
	w.Helper()
	q, err := w.client.Queue(w.tenant, "test", name)
	w.must(err)
	return q
}

func (w *world) kv(name string) *flowmesh.KV {
	w.Helper()
	kv, err := w.client.KV(w.tenant, "test", name)
	w.must(err)
	return kv
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// write writes events with these payloads.
func (w *world) write(s *flowmesh.Stream, payloads ...string) []int64 {
	w.Helper()
	events := make([]flowmesh.Event, len(payloads))
	for i, payload := range payloads {
		events[i].Payload = []byte(payload)
	}
	offsets, err := s.Write(w.ctx, events...)
	w.must(err)
	return offsets
}

// goroutinesLeft gives the stacks of goroutines of the binding, once they had time to end.
func goroutinesLeft() string {
	var left string
	for deadline := time.Now().Add(patience); ; runtime.Gosched() {
		left = ""
		all := make([]byte, 4<<20)
		for _, stack := range strings.Split(string(all[:runtime.Stack(all, true)]), "\n\n") {
			if strings.Contains(stack, "libflowmesh/bindings/go.") {
				left += stack + "\n\n"
			}
		}
		if left == "" || time.Now().After(deadline) {
			return left
		}
		time.Sleep(time.Millisecond)
	}
}
