package flowmesh

// #include "shim.h"
// #include <stdlib.h>
import "C"

import (
	"strings"
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

// WithToken sends this bearer token with every call. Default: the environment's FLOWMESH_AUTH_TOKEN,
// or else what is in the file that its FLOWMESH_AUTH_TOKEN_FILE names; "" means none.
func WithToken(token string) ClientOption {
	return textOption("token", token, func(o *clientOptions, text *C.char, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_client_options_set_auth_token(o, text, failure)
	})
}

// WithTokenFile sends the token that this file holds. It is read at the first call, and again when
// the server refuses what it held.
func WithTokenFile(path string) ClientOption {
	return textOption("token file", path, func(o *clientOptions, text *C.char, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_client_options_set_auth_token_file(o, text, failure)
	})
}

// WithPlaintextToken says whether a token may go unencrypted to another machine, where everybody on
// the way can read it. Default false, unless the environment's FLOWMESH_ALLOW_PLAINTEXT_TOKEN is 1.
func WithPlaintextToken(allow bool) ClientOption {
	return option(func(o *clientOptions, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_client_options_set_allow_plaintext_token(o, C.bool(allow), failure)
	})
}

// WithCAFile trusts servers ("https://host:port") by the authorities in this file, PEM. Default: the
// environment's FLOWMESH_TLS_CA_FILE, or else what the system trusts. Files for TLS are read whenever a
// connection is made; what is wrong with them ends calls with [ErrUnavailable].
func WithCAFile(path string) ClientOption {
	return textOption("CA file", path, func(o *clientOptions, text *C.char, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_client_options_set_tls_ca_file(o, text, failure)
	})
}

// WithCA is [WithCAFile] with the authorities themselves: at least one certificate, PEM.
func WithCA(pem []byte) ClientOption {
	return option(func(o *clientOptions, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		view, free := viewOf(pem)
		defer free()
		return C.flowmesh_client_options_set_tls_ca_pem(o, view, failure)
	})
}

// WithCertificateFile shows servers that ask for it this certificate (followed by those that lead to
// its authority), and proves it by this private key: two files, PEM, the key not encrypted. Default:
// the environment's FLOWMESH_TLS_CERT_FILE and FLOWMESH_TLS_KEY_FILE, or else none.
func WithCertificateFile(certificate, key string) ClientOption {
	if hasNUL(key) {
		return refused("key file")
	}
	return textOption("certificate file", certificate, func(o *clientOptions, certificate *C.char, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		path := C.CString(key)
		defer C.free(unsafe.Pointer(path))
		return C.flowmesh_client_options_set_tls_certificate_file(o, certificate, path, failure)
	})
}

// WithCertificate is [WithCertificateFile] with certificate and key themselves, PEM.
func WithCertificate(certificate, key []byte) ClientOption {
	return option(func(o *clientOptions, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		certificateView, freeCertificate := viewOf(certificate)
		defer freeCertificate()
		keyView, freeKey := viewOf(key)
		defer freeKey()
		return C.flowmesh_client_options_set_tls_certificate_pem(o, certificateView, keyView, failure)
	})
}

// WithServerName is the name, or address, that the server's certificate must have. Default: the
// environment's FLOWMESH_TLS_SERVER_NAME, or else the endpoint's host.
func WithServerName(name string) ClientOption {
	return textOption("server name", name, func(o *clientOptions, text *C.char, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_client_options_set_tls_server_name(o, text, failure)
	})
}

// WithTimeout is the deadline of calls whose context has none. Default 30 s; below 0 for none.
func WithTimeout(timeout time.Duration) ClientOption {
	return option(func(o *clientOptions, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_client_options_set_timeout_ms(o, C.int64_t(orNever(timeout)), failure)
	})
}

// WithConnectTimeout is how long one attempt to connect may take. Default 10 s.
func WithConnectTimeout(timeout time.Duration) ClientOption {
	return option(func(o *clientOptions, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_client_options_set_connect_timeout_ms(o, C.int64_t(milliseconds(timeout)), failure)
	})
}

// WithMaxMessageBytes is the largest reply accepted. Default 256 MiB.
func WithMaxMessageBytes(bytes uint) ClientOption {
	return option(func(o *clientOptions, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_client_options_set_max_message_bytes(o, C.size_t(bytes), failure)
	})
}

// WithFsync says when writes of an embedded directory reach the disk.
func WithFsync(policy Fsync) ClientOption {
	return option(func(o *clientOptions, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_client_options_set_fsync(o, C.flowmesh_fsync_t(policy), failure)
	})
}

// WithCreate says whether calls to an embedded engine create the stream, queue or store that they
// need. Default true; with false they end with [ErrNotFound].
func WithCreate(create bool) ClientOption {
	return option(func(o *clientOptions, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_client_options_set_create(o, C.bool(create), failure)
	})
}

// WithTestClock gives an "embedded:" engine a clock that only [Client.AdvanceClock] moves, so that
// tests of delays, leases and times to live need not sleep.
func WithTestClock() ClientOption {
	set := option(func(o *clientOptions, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_client_options_set_test_clock(o, true, failure)
	})
	return func(o *clientOptions, c *Client) error {
		c.test = true
		return set(o, c)
	}
}

type clientOptions = C.flowmesh_client_options_t

// option is one that a setter of the library sets.
func option(set func(*clientOptions, **C.flowmesh_error_t) C.flowmesh_status_t) ClientOption {
	return func(o *clientOptions, _ *Client) error {
		var to setters
		to.set(func(failure **C.flowmesh_error_t) C.flowmesh_status_t { return set(o, failure) })
		return to.err()
	}
}

// textOption is one whose value is a text, which no error repeats: it may be a secret.
func textOption(what, value string, set func(*clientOptions, *C.char, **C.flowmesh_error_t) C.flowmesh_status_t) ClientOption {
	if hasNUL(value) {
		return refused(what)
	}
	return option(func(o *clientOptions, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		text := C.CString(value)
		defer C.free(unsafe.Pointer(text))
		return set(o, text, failure)
	})
}

func hasNUL(text string) bool { return strings.IndexByte(text, 0) >= 0 }

func refused(what string) ClientOption {
	return func(*clientOptions, *Client) error { return invalid("%s: a NUL byte is not allowed", what) }
}

// viewOf copies bytes for C: a view must not hold a pointer into Go's memory.
func viewOf(bytes []byte) (view C.flowmesh_view_t, free func()) {
	data := C.CBytes(bytes)
	return C.flowmesh_view_t{data: (*C.uint8_t)(data), len: C.size_t(len(bytes))}, func() { C.free(data) }
}

// setters calls setters of the library one after the other, up to the first that refuses its value.
type setters struct {
	failure *C.flowmesh_error_t
	refused bool
}

func (s *setters) set(call func(failure **C.flowmesh_error_t) C.flowmesh_status_t) {
	s.refused = s.refused || call(&s.failure) != C.FLOWMESH_OK
}

// size sets a size unless it is 0, which means the default.
func (s *setters) size(value int, call func(value C.size_t, failure **C.flowmesh_error_t) C.flowmesh_status_t) {
	if value != 0 {
		s.set(func(failure **C.flowmesh_error_t) C.flowmesh_status_t {
			return call(C.size_t(max(0, value)), failure)
		})
	}
}

func (s *setters) err() error {
	if s.refused {
		return takeError(s.failure)
	}
	return nil
}

// orNever is a time limit in milliseconds, -1 for none.
func orNever(limit time.Duration) int64 {
	if limit < 0 {
		return -1
	}
	return milliseconds(limit)
}
