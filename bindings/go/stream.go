package flowmesh

// #include "shim.h"
// #cgo noescape fm_stream_write
// #cgo nocallback fm_stream_write
// #cgo noescape fm_stream_read
// #cgo nocallback fm_stream_read
// #cgo noescape fm_reader_next
// #cgo nocallback fm_reader_next
// #cgo noescape fm_stream_commit
// #cgo nocallback fm_stream_commit
// #cgo noescape fm_stream_committed
// #cgo nocallback fm_stream_committed
// #cgo noescape fm_stream_latest
// #cgo nocallback fm_stream_latest
// #cgo noescape fm_stream_group
// #cgo nocallback fm_stream_group
import "C"

import (
	"context"
	"iter"
	"runtime"
)

// Stream is an ordered, durable log of events.
type Stream struct {
	client *Client
	c      *C.flowmesh_stream_t
}

// Stream names a stream. It does no I/O; the first write or subscription creates the stream.
func (c *Client) Stream(tenant, namespace, name string) (*Stream, error) {
	handle, err := named(tenant, namespace, name, func(tenant, namespace, name *C.char, to **C.flowmesh_stream_t, failure **C.flowmesh_error_t) C.flowmesh_status_t {
		return C.flowmesh_stream_open(c.c, tenant, namespace, name, to, failure)
	})
	if err != nil {
		return nil, err
	}
	s := &Stream{client: c, c: handle}
	runtime.AddCleanup(s, func(handle *C.flowmesh_stream_t) { C.flowmesh_stream_free(handle) }, handle)
	return s, nil
}

// Write appends events as one batch: all of them or none, at consecutive offsets, which it returns.
// It is never repeated: after an error with [OutcomeUnknown] the batch may be stored. For many small
// writes without waiting for each, see [Stream.Producer].
func (s *Stream) Write(ctx context.Context, events ...Event) ([]int64, error) {
	if len(events) == 0 {
		return nil, invalid("events: at least one is needed")
	}
	var p packed
	p.pack(events)
	defer runtime.KeepAlive(s)
	call, err := s.client.p.short(ctx, func(c *C.fm_call_t) C.bool {
		return C.fm_stream_write(c, s.c, bytesData(p.bytes), &p.lengths[0], C.size_t(len(events)))
	})
	if err != nil {
		return nil, err
	}
	defer call.end()
	offsets := make([]int64, len(events))
	for i := range offsets {
		offsets[i] = int64(call.c.number[0]) + int64(i)
	}
	return offsets, nil
}

// Read reads up to limit messages from offset on (1 to 1000; 0 is 100), fewer where the reply would
// pass 4 MiB, none past the end. It never waits for new ones. A stream that nobody has written
// to is [ErrNotFound].
func (s *Stream) Read(ctx context.Context, offset int64, limit int) ([]Message, error) {
	size, err := countOf("limit", limit)
	if err != nil {
		return nil, err
	}
	defer runtime.KeepAlive(s)
	call, err := s.client.p.short(ctx, func(c *C.fm_call_t) C.bool {
		return C.fm_stream_read(c, s.c, C.int64_t(offset), size)
	})
	if err != nil {
		return nil, err
	}
	defer call.end()
	return messagesOf(C.fm_messages_take(call.c)), nil
}

// CommitOffset records offset as the last one that the consumer group has processed; -1 forgets.
func (s *Stream) CommitOffset(ctx context.Context, group string, offset int64) error {
	name, err := inline("group", group)
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(s)
	return done(s.client.p.short(ctx, func(c *C.fm_call_t) C.bool {
		return C.fm_stream_commit(c, s.c, chars(name), C.int64_t(offset))
	}))
}

// CommittedOffset asks for the last offset that the group committed, -1 when none.
func (s *Stream) CommittedOffset(ctx context.Context, group string) (int64, error) {
	name, err := inline("group", group)
	if err != nil {
		return 0, err
	}
	defer runtime.KeepAlive(s)
	call, err := s.client.p.long(ctx, func(c *C.fm_call_t) C.bool {
		return C.fm_stream_committed(c, s.c, chars(name))
	})
	if err != nil {
		return 0, err
	}
	defer call.end()
	return int64(call.c.number[0]), nil
}

// LatestOffset asks for the last offset written, -1 when the stream is empty.
func (s *Stream) LatestOffset(ctx context.Context) (int64, error) {
	defer runtime.KeepAlive(s)
	call, err := s.client.p.long(ctx, func(c *C.fm_call_t) C.bool {
		return C.fm_stream_latest(c, s.c)
	})
	if err != nil {
		return 0, err
	}
	defer call.end()
	return int64(call.c.number[0]), nil
}

// GroupState says where a consumer group stands.
type GroupState struct {
	CommittedOffset int64 // last one committed, -1 when none
	LatestOffset    int64 // last one written, -1 when the stream is empty
	Lag             int64 // messages still to process, -1 when the stream is empty
}

// GroupState asks where the group stands.
func (s *Stream) GroupState(ctx context.Context, group string) (GroupState, error) {
	name, err := inline("group", group)
	if err != nil {
		return GroupState{}, err
	}
	defer runtime.KeepAlive(s)
	call, err := s.client.p.long(ctx, func(c *C.fm_call_t) C.bool {
		return C.fm_stream_group(c, s.c, chars(name))
	})
	if err != nil {
		return GroupState{}, err
	}
	defer call.end()
	n := &call.c.number
	return GroupState{CommittedOffset: int64(n[0]), LatestOffset: int64(n[1]), Lag: int64(n[2])}, nil
}

// Reader pages through a stream, remembering where it is.
type Reader struct {
	stream *Stream
	c      *C.flowmesh_stream_reader_t
}

// Reader makes a reader that starts at offset and reads pages of up to size messages (1 to 1000; 0 is
// 100). It does no I/O.
func (s *Stream) Reader(offset int64, size int) (*Reader, error) {
	limit, err := countOf("size", size)
	if err != nil {
		return nil, err
	}
	options := C.flowmesh_read_options_t{size: C.sizeof_flowmesh_read_options_t, max_messages: limit}
	var handle *C.flowmesh_stream_reader_t
	var failure *C.flowmesh_error_t
	if C.flowmesh_stream_reader_open(s.c, C.int64_t(offset), &options, &handle, &failure) != C.FLOWMESH_OK {
		return nil, takeError(failure)
	}
	r := &Reader{stream: s, c: handle}
	runtime.AddCleanup(r, func(handle *C.flowmesh_stream_reader_t) { C.flowmesh_stream_reader_free(handle) }, handle)
	return r, nil
}

// Next reads the next page; an empty one means that the end is reached for now. After an error the
// reader stays where it was.
func (r *Reader) Next(ctx context.Context) ([]Message, error) {
	defer runtime.KeepAlive(r)
	call, err := r.stream.client.p.short(ctx, func(c *C.fm_call_t) C.bool {
		return C.fm_reader_next(c, r.c)
	})
	if err != nil {
		return nil, err
	}
	defer call.end()
	return messagesOf(C.fm_messages_take(call.c)), nil
}

// Messages goes through the stream up to its present end. An error is the last thing it yields.
func (r *Reader) Messages(ctx context.Context) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		for {
			page, err := r.Next(ctx)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range page {
				if !yield(&page[i], nil) {
					return
				}
			}
			if len(page) == 0 {
				return
			}
		}
	}
}

// countOf is a number of things for the library, where 0 may stand for a default.
func countOf(what string, value int) (C.int32_t, error) {
	if value < 0 {
		return 0, invalid("%s: must not be negative, got %d", what, value)
	}
	if int(int32(value)) != value {
		return 0, invalid("%s: %d does not fit into 32 bits", what, value)
	}
	return C.int32_t(value), nil
}
