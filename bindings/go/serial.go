package flowmesh

import "sync"

// serial runs functions one at a time, in their order, on a goroutine that lives only while there
// are some: for calling the application without holding up the pump.
type serial struct {
	mu      sync.Mutex
	todo    []func()
	running bool
}

func (s *serial) post(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.todo = append(s.todo, f)
	if !s.running {
		s.running = true
		go s.run()
	}
}

func (s *serial) run() {
	for {
		s.mu.Lock()
		todo := s.todo
		s.todo = nil
		s.running = len(todo) > 0
		s.mu.Unlock()
		if len(todo) == 0 {
			return
		}
		for _, f := range todo {
			f()
		}
	}
}

// flush waits for everything that was posted before.
func (s *serial) flush() {
	done := make(chan struct{})
	s.post(func() { close(done) })
	<-done
}
