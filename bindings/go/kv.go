package flowmesh

// #include "shim.h"
// #cgo noescape fm_kv_set
// #cgo nocallback fm_kv_set
// #cgo noescape fm_kv_get
// #cgo nocallback fm_kv_get
// #cgo noescape fm_kv_delete
// #cgo nocallback fm_kv_delete
// #cgo noescape fm_kv_exists
// #cgo nocallback fm_kv_exists
// #cgo noescape fm_kv_keys
// #cgo nocallback fm_kv_keys
import "C"

import (
	"context"
	"runtime"
	"time"
	"unsafe"
)

// KV is a key-value store. Keys have 1 to 1024 bytes, values at least 1.
type KV struct {
	client *Client
	c      *C.flowmesh_kv_t
}

// KV names a store. It does no I/O; the first Set creates the store.
func (c *Client) KV(tenant, namespace, name string) (*KV, error) {
	handle, err := named(tenant, namespace, name, func(tenant, namespace, name *C.char, to **C.flowmesh_kv_t, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_kv_open(c.c, tenant, namespace, name, to, failure)
	})
	if err != nil {
		return nil, err
	}
	kv := &KV{client: c, c: handle}
	runtime.AddCleanup(kv, func(handle *C.flowmesh_kv_t) { C.flowmesh_kv_free(handle) }, handle)
	return kv, nil
}

// SetOption is an option of [KV.Set].
type SetOption func(*setOptions)

type setOptions struct {
	ttl     time.Duration
	expires bool
}

// WithTTL has the value live so long, in whole seconds, rounded up; above 0, at most a year. Without it
// the value stays until it is replaced or deleted.
func WithTTL(ttl time.Duration) SetOption {
	return func(o *setOptions) { o.ttl, o.expires = ttl, true }
}

// Set stores a value, in place of the one before and of its time to live.
func (kv *KV) Set(ctx context.Context, key string, value []byte, options ...SetOption) error {
	var ttl time.Duration
	if len(options) > 0 {
		var set setOptions
		for _, option := range options {
			option(&set)
		}
		if set.expires && set.ttl <= 0 {
			return invalid("TTL: must be above 0, got %v; without WithTTL the value stays for ever", set.ttl)
		}
		ttl = set.ttl
	}
	defer runtime.KeepAlive(kv)
	return done(kv.client.p.short(ctx, func(c *C.fm_call_t) C.bool {
		return C.fm_kv_set(c, kv.c, textData(key), C.size_t(len(key)), bytesData(value), C.size_t(len(value)), C.int64_t(milliseconds(ttl)))
	}))
}

// Get reads the value of a key. No such key, or one whose time is over, is [ErrNotFound].
func (kv *KV) Get(ctx context.Context, key string) ([]byte, error) {
	defer runtime.KeepAlive(kv)
	call, err := kv.client.p.short(ctx, func(c *C.fm_call_t) C.bool {
		return C.fm_kv_get(c, kv.c, textData(key), C.size_t(len(key)))
	})
	if err != nil {
		return nil, err
	}
	defer call.end()
	return call.bytes(), nil
}

// Delete removes a key; one that is not there is no error.
func (kv *KV) Delete(ctx context.Context, key string) error {
	defer runtime.KeepAlive(kv)
	return done(kv.client.p.short(ctx, func(c *C.fm_call_t) C.bool {
		return C.fm_kv_delete(c, kv.c, textData(key), C.size_t(len(key)))
	}))
}

// Exists reports whether a key is there.
func (kv *KV) Exists(ctx context.Context, key string) (bool, error) {
	defer runtime.KeepAlive(kv)
	call, err := kv.client.p.short(ctx, func(c *C.fm_call_t) C.bool {
		return C.fm_kv_exists(c, kv.c, textData(key), C.size_t(len(key)))
	})
	if err != nil {
		return false, err
	}
	defer call.end()
	return call.c.number[0] != 0, nil
}

// Keys lists every key that starts with prefix, in byte order; "" is all.
func (kv *KV) Keys(ctx context.Context, prefix string) ([]string, error) {
	defer runtime.KeepAlive(kv)
	call, err := kv.client.p.long(ctx, func(c *C.fm_call_t) C.bool {
		return C.fm_kv_keys(c, kv.c, textData(prefix), C.size_t(len(prefix)))
	})
	if err != nil {
		return nil, err
	}
	defer call.end()
	keys := make([]string, int(call.c.number[0]))
	if len(keys) == 0 {
		return keys, nil
	}
	text := string(unsafe.Slice((*byte)(call.c.data), int(call.c.len)))
	for i, length := range unsafe.Slice((*uint64)(call.c.object), len(keys)) {
		keys[i], text = text[:length], text[length:]
	}
	return keys, nil
}

// textData and bytesData are views for the time of a call into C. They are typed: of an unsafe.Pointer
// cgo would look for pointers in everything that lies around the bytes.
func textData(text string) *C.uint8_t {
	return (*C.uint8_t)(unsafe.Pointer(unsafe.StringData(text)))
}

func bytesData(bytes []byte) *C.uint8_t {
	return (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(bytes)))
}
