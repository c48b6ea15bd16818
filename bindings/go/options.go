package flowmesh

// #include "shim.h"
// #include <stdlib.h>
import "C"

import (
	"time"
	"unsafe"
)

const defaultTimeout = 30 * time.Second

// ClientOption is an option of [Open].
type ClientOption func(*C.flowmesh_client_options_t, *Client) error

// Fsync says when an embedded engine has acknowledged writes on disk.
type Fsync int32

// The policies.
const (
	FsyncAlways   Fsync = C.FLOWMESH_FSYNC_ALWAYS   // before the call returns; the default
	FsyncInterval Fsync = C.FLOWMESH_FSYNC_INTERVAL // within a second
	FsyncNone     Fsync = C.FLOWMESH_FSYNC_NONE     // when the system likes
)

// WithToken sends this bearer token with every call. Default: the environment's FLOWMESH_AUTH_TOKEN;
// "" means none.
func WithToken(token string) ClientOption {
	return func(o *C.flowmesh_client_options_t, _ *Client) error {
		text, err := cName("token", token)
		if err != nil {
			return invalid("token: a NUL byte is not allowed")
		}
		defer C.free(unsafe.Pointer(text))
		var failure *C.flowmesh_error_t
		return setting(C.flowmesh_client_options_set_auth_token(o, text, &failure), &failure)
	}
}

// WithTimeout is the deadline of calls whose context has none. Default 30 s; below 0 for none.
func WithTimeout(timeout time.Duration) ClientOption {
	return func(o *C.flowmesh_client_options_t, _ *Client) error {
		var failure *C.flowmesh_error_t
		ms := C.int64_t(max(-1, milliseconds(timeout)))
		if timeout < 0 {
			ms = -1
		}
		return setting(C.flowmesh_client_options_set_timeout_ms(o, ms, &failure), &failure)
	}
}

// WithConnectTimeout is how long one attempt to connect may take. Default 10 s.
func WithConnectTimeout(timeout time.Duration) ClientOption {
	return func(o *C.flowmesh_client_options_t, _ *Client) error {
		var failure *C.flowmesh_error_t
		ms := C.int64_t(milliseconds(timeout))
		return setting(C.flowmesh_client_options_set_connect_timeout_ms(o, ms, &failure), &failure)
	}
}

// WithMaxMessageBytes is the largest reply accepted. Default 256 MiB.
func WithMaxMessageBytes(bytes uint) ClientOption {
	return func(o *C.flowmesh_client_options_t, _ *Client) error {
		var failure *C.flowmesh_error_t
		return setting(C.flowmesh_client_options_set_max_message_bytes(o, C.size_t(bytes), &failure), &failure)
	}
}

// WithFsync says when writes of an embedded directory reach the disk.
func WithFsync(policy Fsync) ClientOption {
	return func(o *C.flowmesh_client_options_t, _ *Client) error {
		var failure *C.flowmesh_error_t
		return setting(C.flowmesh_client_options_set_fsync(o, C.flowmesh_fsync_t(policy), &failure), &failure)
	}
}

// WithCreate says whether calls to an embedded engine create the stream, queue or store that they
// need. Default true; with false they end with [ErrNotFound].
func WithCreate(create bool) ClientOption {
	return func(o *C.flowmesh_client_options_t, _ *Client) error {
		var failure *C.flowmesh_error_t
		return setting(C.flowmesh_client_options_set_create(o, C.bool(create), &failure), &failure)
	}
}

// WithTestClock gives an "embedded:" engine a clock that only [Client.AdvanceClock] moves, so that
// tests of delays, leases and times to live need not sleep.
func WithTestClock() ClientOption {
	return func(o *C.flowmesh_client_options_t, c *Client) error {
		var failure *C.flowmesh_error_t
		c.test = true
		return setting(C.flowmesh_client_options_set_test_clock(o, true, &failure), &failure)
	}
}

// setting is the result of a setter.
func setting(status C.flowmesh_status_t, failure **C.flowmesh_error_t) error {
	if status != C.FLOWMESH_OK {
		return takeError(*failure)
	}
	return nil
}
