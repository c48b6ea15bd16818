package flowmesh

// #include "shim.h"
// #include <stdlib.h>
// #cgo noescape fm_client_connect
// #cgo nocallback fm_client_connect
// #cgo noescape fm_client_close
// #cgo nocallback fm_client_close
// #cgo noescape fm_client_health
// #cgo nocallback fm_client_health
// #cgo noescape fm_client_ready
// #cgo nocallback fm_client_ready
import "C"

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Client is a connection to one endpoint, or an engine in this process. One serves any number of
// goroutines. Close it when done.
type Client struct {
	c     *C.flowmesh_client_t
	p     *pump
	clock atomic.Int64 // of a test clock: how far it was advanced
	test  bool
	close func() error
}

// Open makes a client for "host:port", "https://host:port" (TLS), "unix:/path", "embedded:/dir" (a
// directory in this process) or "embedded:" (in memory, a world of its own). "" is the environment's
// FLOWMESH_ENDPOINT, else "localhost:50051". It does no I/O: the first call connects.
func Open(endpoint string, options ...ClientOption) (*Client, error) {
	var failure *C.flowmesh_error_t
	var set *C.flowmesh_client_options_t
	if C.flowmesh_client_options_new(&set, &failure) != C.FLOWMESH_OK {
		return nil, takeError(failure)
	}
	defer C.flowmesh_client_options_free(set)
	client := &Client{}
	for _, option := range options {
		if err := option(set, client); err != nil {
			return nil, err
		}
	}
	p, err := newPump()
	if err != nil {
		return nil, err
	}
	if C.flowmesh_client_options_set_dispatcher(set, C.fm_pump_dispatcher(p.c), &failure) != C.FLOWMESH_OK {
		p.abandon()
		return nil, takeError(failure)
	}
	var name *C.char
	if endpoint != "" {
		if name, err = cName("endpoint", endpoint); err != nil {
			p.abandon()
			return nil, err
		}
		defer C.free(unsafe.Pointer(name))
	}
	if C.flowmesh_client_open(name, set, &client.c, &failure) != C.FLOWMESH_OK {
		p.abandon()
		return nil, takeError(failure)
	}
	client.p = p
	client.close = sync.OnceValue(client.closeNow)
	return client, nil
}

// Connect connects now, for those who want to know early: until the endpoint answers a health
// check, or an embedded engine is open. Nobody there is [ErrUnavailable]. A server looks at the token
// with the calls that need one, and this one does not.
func (c *Client) Connect(ctx context.Context) error {
	call, err := c.p.beginLong(ctx)
	if err != nil {
		return err
	}
	defer call.end()
	if call.c.timeout_ms == 0 {
		call.c.timeout_ms = -1
		if ctx.Done() == nil {
			call.c.timeout_ms = C.int64_t(defaultTimeout.Milliseconds())
		}
	}
	return call.wait(ctx, C.fm_client_connect(call.c, c.c))
}

// HealthCheck asks the server for a sign of life.
func (c *Client) HealthCheck(ctx context.Context) error {
	return done(c.p.long(ctx, func(to *C.fm_call_t) C.bool {
		return C.fm_client_health(to, c.c)
	}))
}

// Ready reports whether the server's storage can take work; that it cannot is no error.
func (c *Client) Ready(ctx context.Context) (bool, error) {
	call, err := c.p.long(ctx, func(to *C.fm_call_t) C.bool {
		return C.fm_client_ready(to, c.c)
	})
	if err != nil {
		return false, err
	}
	defer call.end()
	return call.c.number[0] != 0, nil
}

// ID is the number by which the log names the client.
func (c *Client) ID() uint64 { return uint64(C.flowmesh_client_id(c.c)) }

// AdvanceClock moves the test clock forward, see [WithTestClock]: what became due by then (leases,
// delays, times to live) is due when it returns.
func (c *Client) AdvanceClock(by time.Duration) error {
	var failure *C.flowmesh_error_t
	if C.flowmesh_test_clock_advance(c.c, C.int64_t(milliseconds(by)), &failure) != C.FLOWMESH_OK {
		return takeError(failure)
	}
	c.clock.Add(int64(milliseconds(by)) * int64(time.Millisecond))
	return nil
}

// now is the clock by which leases run: the test clock's, where there is one.
func (c *Client) now() time.Time {
	if c.test {
		return time.Unix(0, c.clock.Load())
	}
	return time.Now()
}

// Close ends everything that was opened from the client: calls and subscriptions that wait end with
// [ErrClosed]. Its goroutine and its memory are gone when it returns. A second Close is fine.
func (c *Client) Close() error { return c.close() }

func (c *Client) closeNow() error {
	call, err := c.p.beginLong(context.Background())
	if err == nil {
		err = call.wait(context.Background(), C.fm_client_close(call.c, c.c))
		call.end()
	}
	c.p.close()
	// Streams and the like may be in use for one last refusal: the collector frees them.
	runtime.AddCleanup(c, func(client closedClient) { client.free() }, closedClient{c.c, c.p})
	if isCode(err, CodeClosed) {
		return nil // the library was shut down
	}
	return err
}

// closedClient is what is left of a client until nobody can use it any more.
type closedClient struct {
	c *C.flowmesh_client_t
	p *pump
}

func (c closedClient) free() {
	C.flowmesh_client_free(c.c)
	c.p.free()
}

// cName is a name for C, to be freed.
func cName(what, name string) (*C.char, error) {
	if hasNUL(name) {
		return nil, invalid("%s %q: a NUL byte is not allowed", what, name)
	}
	return C.CString(name), nil
}

// named opens a stream, queue or store by its three names.
func named[H any](tenant, namespace, name string, open func(tenant, namespace, name *C.char, to *H, failure **C.flowmesh_error_t) C.flowmesh_status_t) (handle H, err error) {
	names := [3]*C.char{}
	for i, text := range [3]string{tenant, namespace, name} {
		made, err := cName([3]string{"tenant", "namespace", "name"}[i], text)
		if err != nil {
			return handle, err
		}
		defer C.free(unsafe.Pointer(made))
		names[i] = made
	}
	var failure *C.flowmesh_error_t
	if open(names[0], names[1], names[2], &handle, &failure) != C.FLOWMESH_OK {
		return handle, takeError(failure)
	}
	return handle, nil
}
