package flowmesh

// #include "shim.h"
// #include <stdlib.h>
// #cgo noescape fm_pump_run
// #cgo nocallback fm_pump_run
// #cgo noescape fm_call_clear
// #cgo nocallback fm_call_clear
// #cgo noescape fm_call_arm
// #cgo nocallback fm_call_arm
// #cgo noescape fm_call_cancel
// #cgo nocallback fm_call_cancel
import "C"

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// pump hands what the library has ended to the goroutines that wait. Its one goroutine sleeps in
// the runtime's poller on the dispatcher's descriptor; each crossing into C takes everything that
// has gathered.
type pump struct {
	c     *C.fm_pump_t
	file  *os.File
	conn  syscall.RawConn
	ended chan struct{} // its goroutine has

	turns sync.Mutex // one list is handed over at a time

	crossing sync.Mutex // see call.enter
	crossed  func()     // its Unlock

	mu      sync.Mutex
	calls   []*call // by id
	idle    []*call
	busy    int
	closed  bool // no call begins any more
	dead    bool // the library was shut down
	targets map[uint64]target
	lastID  uint64
}

// target is what is told of more than the end of a call: a subscription, a producer, a worker.
type target interface {
	tell(node *C.fm_node_t) // in the pump: never waits
	release()               // nothing is told any more: the client has closed, or the library was shut down
}

// pumps are those of this process, for Shutdown.
var pumps = struct {
	sync.Mutex
	all map[*pump]struct{}
}{all: map[*pump]struct{}{}}

func newPump() (*pump, error) {
	var failure *C.flowmesh_error_t
	c := C.fm_pump_new(&failure)
	if c == nil {
		return nil, takeError(failure)
	}
	// A descriptor of our own, as the library closes its.
	fd, err := syscall.Dup(int(C.fm_pump_fd(c)))
	if err != nil {
		C.fm_pump_free(c)
		return nil, &Error{Code: CodeResourceExhausted, Message: "no descriptor: " + err.Error(), Retryable: true, Outcome: OutcomeNotApplied}
	}
	syscall.CloseOnExec(fd)
	file := os.NewFile(uintptr(fd), "flowmesh-dispatcher")
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		C.fm_pump_free(c)
		return nil, &Error{Code: CodeInternal, Message: err.Error(), Outcome: OutcomeNotApplied}
	}
	p := &pump{c: c, file: file, conn: conn, ended: make(chan struct{}), targets: map[uint64]target{}}
	p.crossed = p.crossing.Unlock
	pumps.Lock()
	pumps.all[p] = struct{}{}
	pumps.Unlock()
	go p.run()
	return p, nil
}

func (p *pump) run() {
	defer close(p.ended)
	ready := func(uintptr) bool {
		for p.turn() {
			// Those that were woken begin their next calls, which so end together, too.
			runtime.Gosched()
		}
		return p.over()
	}
	for !p.over() {
		// The error is the deadline by which kick interrupts; the descriptor is closed after us.
		if err := p.conn.Read(ready); errors.Is(err, os.ErrDeadlineExceeded) {
			p.file.SetReadDeadline(time.Time{})
		}
	}
	pumps.Lock()
	delete(pumps.all, p)
	pumps.Unlock()
	p.releaseTargets() // nobody tells them any more
}

func (p *pump) releaseTargets() {
	p.mu.Lock()
	targets := p.targets
	p.targets = map[uint64]target{}
	p.mu.Unlock()
	for _, t := range targets {
		t.release()
	}
}

// kick has the pump look around although its descriptor says nothing.
func (p *pump) kick() { p.file.SetReadDeadline(time.Unix(1, 0)) }

// over reports whether there is nothing to wait for any more.
func (p *pump) over() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return (p.dead || p.closed) && p.busy == 0
}

// turn runs the dispatcher and hands over what came; false when there was nothing.
func (p *pump) turn() bool {
	p.turns.Lock()
	defer p.turns.Unlock()
	var closed C.bool
	node := C.fm_pump_run(p.c, &closed)
	if closed {
		p.mu.Lock()
		p.dead = true
		p.mu.Unlock()
	}
	any := node != nil
	for node != nil {
		// A call can be used again as soon as it was told.
		next := node.next
		if node.kind == C.FM_CALL {
			p.callOf(uint64(node.id)).done <- struct{}{}
		} else {
			p.tell(node)
		}
		node = next
	}
	return any
}

func (p *pump) callOf(id uint64) *call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[id]
}

func (p *pump) tell(node *C.fm_node_t) {
	p.mu.Lock()
	target := p.targets[uint64(node.id)]
	p.mu.Unlock()
	if target != nil {
		target.tell(node)
		return
	}
	freeNode(node)
}

// freeNode frees what nobody takes.
func freeNode(node *C.fm_node_t) {
	switch node.kind {
	case C.FM_EVENT:
		C.fm_event_free((*C.fm_event_t)(unsafe.Pointer(node)))
	case C.FM_REPORTS:
		C.fm_reports_free((*C.fm_reports_t)(unsafe.Pointer(node)))
	case C.FM_JOB:
		C.fm_handed_free((*C.fm_handed_t)(unsafe.Pointer(node)))
	default:
		C.free(unsafe.Pointer(node))
	}
}

// register gives a number under which the shim finds a target.
func (p *pump) nextID() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastID++
	return p.lastID
}

func (p *pump) register(id uint64, t target) {
	p.mu.Lock()
	p.targets[id] = t
	p.mu.Unlock()
}

func (p *pump) unregister(id uint64) {
	p.mu.Lock()
	delete(p.targets, id)
	p.mu.Unlock()
}

// close ends the pump once the calls under way have ended, and frees everything.
func (p *pump) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.kick()
	<-p.ended
	p.turn() // what a shutdown has run in its own thread
	p.releaseTargets()
	p.file.Close()
}

// abandon ends a pump that no client has used.
func (p *pump) abandon() {
	p.close()
	p.free()
}

// free frees its memory, when nobody can begin a call any more.
func (p *pump) free() {
	for _, c := range p.calls {
		C.fm_call_free(c.c)
	}
	C.fm_pump_free(p.c)
}
