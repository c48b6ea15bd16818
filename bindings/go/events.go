package flowmesh

// #include "shim.h"
import "C"

import (
	"time"
	"unsafe"
)

// Event is what is written to a stream, or sent by a producer.
type Event struct {
	Payload []byte            // at least 1 byte
	Headers map[string]string // metadata, as UTF-8
}

// packed is events in the form in which the shim takes them: C gets no pointer to a Go pointer.
type packed struct {
	bytes   []byte
	lengths []C.uint64_t
	small   [2]C.uint64_t
}

// pack packs events; a single one without headers is not copied.
func (p *packed) pack(events []Event) {
	if len(events) == 1 && len(events[0].Headers) == 0 {
		p.bytes = events[0].Payload
		p.small = [2]C.uint64_t{C.uint64_t(len(p.bytes)), 0}
		p.lengths = p.small[:]
		return
	}
	size, headers := 0, 0
	for i := range events {
		size += len(events[i].Payload)
		headers += len(events[i].Headers)
		for key, value := range events[i].Headers {
			size += len(key) + len(value)
		}
	}
	p.bytes = make([]byte, 0, size)
	p.lengths = make([]C.uint64_t, 0, 2*(len(events)+headers))
	for i := range events {
		p.bytes = append(p.bytes, events[i].Payload...)
		p.lengths = append(p.lengths, C.uint64_t(len(events[i].Payload)), C.uint64_t(len(events[i].Headers)))
		for key, value := range events[i].Headers {
			p.bytes = append(append(p.bytes, key...), value...)
			p.lengths = append(p.lengths, C.uint64_t(len(key)), C.uint64_t(len(value)))
		}
	}
}

// Message is an event as a stream keeps it. The messages of one read or batch share their memory: to
// keep a few bytes of many for long, clone them.
type Message struct {
	Offset        int64 // position in the stream, from 0
	CreatedAt     time.Time
	Payload       []byte
	Headers       map[string]string // nil without any
	ID            string
	Partition     int32 // always 0
	SchemaVersion int32 // the payload was checked against, 0 for none
}

// arena is one piece of memory for all bytes of a batch: it never grows, so that strings can lie
// in it.
type arena []byte

func (a *arena) bytes(view C.flowmesh_view_t) []byte {
	from := len(*a)
	*a = append(*a, unsafe.Slice((*byte)(view.data), int(view.len))...)
	return (*a)[from:len(*a):len(*a)]
}

func (a *arena) text(view C.flowmesh_view_t) string {
	bytes := a.bytes(view)
	return unsafe.String(unsafe.SliceData(bytes), len(bytes))
}

func (a *arena) headers(first *C.flowmesh_header_t, count C.size_t) map[string]string {
	if count == 0 {
		return nil
	}
	headers := make(map[string]string, int(count))
	for _, header := range unsafe.Slice(first, int(count)) {
		key := a.text(header.key)
		headers[key] = a.text(header.value)
	}
	return headers
}

// messagesOf copies a batch and frees it.
func messagesOf(from *C.fm_messages_t) []Message {
	defer C.fm_messages_free(from)
	memory := make(arena, 0, int(from.bytes))
	messages := make([]Message, int(from.count))
	for i, m := range unsafe.Slice(from.items, len(messages)) {
		messages[i] = Message{
			Offset:        int64(m.offset),
			CreatedAt:     time.Unix(0, int64(m.created_at_ns)),
			Payload:       memory.bytes(m.payload),
			Headers:       memory.headers(m.headers, m.header_count),
			ID:            memory.text(m.id),
			Partition:     int32(m.partition),
			SchemaVersion: int32(m.schema_version),
		}
	}
	return messages
}

// jobsOf copies jobs and frees them; now is the clock by which their leases run.
func (q *Queue) jobsOf(from *C.fm_jobs_t) []*Job {
	defer C.fm_jobs_free(from)
	count := int(from.count)
	memory := make(arena, 0, int(from.bytes))
	jobs := make([]Job, count)
	pointers := make([]*Job, count)
	left := unsafe.Slice(from.left_ms, count)
	now := q.client.now()
	for i, j := range unsafe.Slice(from.items, count) {
		jobs[i] = Job{
			ID:        C.GoString(&j.id[0]),
			Seq:       int64(j.seq),
			Payload:   memory.bytes(j.payload),
			Headers:   memory.headers(j.headers, j.header_count),
			CreatedAt: time.Unix(0, int64(j.created_at_ns)),
			VisibleAt: time.Unix(0, int64(j.visible_at_ns)),
			Attempts:  int(j.attempts),
			queue:     q,
		}
		if j.reserve_until_ns != 0 {
			jobs[i].ReservedUntil = time.Unix(0, int64(j.reserve_until_ns))
			jobs[i].until = now.Add(time.Duration(left[i]) * time.Millisecond)
		}
		pointers[i] = &jobs[i]
	}
	return pointers
}

// inline is a name that goes with one call: NUL-terminated in Go's memory.
func inline(what, name string) ([]byte, error) {
	if hasNUL(name) {
		return nil, invalid("%s %q: a NUL byte is not allowed", what, name)
	}
	return append(append(make([]byte, 0, len(name)+1), name...), 0), nil
}

func chars(text []byte) *C.char { return (*C.char)(unsafe.Pointer(unsafe.SliceData(text))) }
