package flowmesh

// #include "shim.h"
import "C"

import "context"

// Version is that of the library in use, "major.minor.patch".
func Version() string { return C.GoString(C.flowmesh_version()) }

// HeaderVersion is that of the header that this package was compiled with.
const HeaderVersion = C.FLOWMESH_VERSION_STRING

// Shutdown ends the library's work in this process: subscriptions and waiting calls end, later calls
// give [ErrClosed], its threads stop, embedded engines close their directories. It waits until that is
// done, or ctx ends. It is not needed before the program ends.
func Shutdown(ctx context.Context) error {
	timeout := timeoutOf(ctx)
	if timeout == 0 {
		timeout = -1
	}
	ended := make(chan error, 1)
	go func() {
		var failure *C.flowmesh_error_t
		var err error
		if C.flowmesh_shutdown(timeout, &failure) != C.FLOWMESH_OK {
			err = takeError(failure)
		}
		// The shutdown has run callbacks itself, of which no descriptor tells.
		pumps.Lock()
		for p := range pumps.all {
			p.kick()
		}
		pumps.Unlock()
		ended <- err
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return endedBy(ctx, &Error{Message: "shutdown: it goes on", Outcome: OutcomeUnknown})
	}
}
