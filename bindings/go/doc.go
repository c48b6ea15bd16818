// Package flowmesh is the Go binding of libflowmesh: event streams, job queues and key-value
// stores, on a server or in this process.
//
//	client, err := flowmesh.Open("embedded:./data") // or "localhost:50051", "unix:/path"
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//	orders, err := client.Stream("acme", "shop", "orders")
//	if err != nil {
//		return err
//	}
//	_, err = orders.Write(ctx, flowmesh.Event{Payload: []byte("hello")})
//
// # Contexts
//
// Every call that can wait takes a context. Its end cancels the call in the library too; the error
// then matches both the context's (errors.Is(err, context.Canceled)) and this package's
// ([ErrCancelled], [ErrDeadlineExceeded]). A context with a deadline gives the call that deadline;
// without one, the client's default holds ([WithTimeout], 30 s). Trace ids travel in the context,
// see [ContextWithTrace].
//
// # Errors
//
// Every error of the library is an [*Error]: a [Code], what was tried and which rule or reason
// stopped it, whether a repeat may help, and whether the change was applied. Match codes with
// errors.Is(err, flowmesh.ErrNotFound).
//
// # Goroutines and threads
//
// Everything here may be used by any number of goroutines at once. A client has one goroutine of its
// own; a goroutine that waits for a call waits as for a channel and holds no thread, but for
// the one call that a client makes when nothing else is under way: that is made in the caller's
// thread, which saves two switches. Messages, jobs and values are copied into Go's memory:
// nothing that you are given must be freed.
//
// # Closing
//
// A [Client], [Subscription], [Producer] and [Worker] are closed when done with. A [Stream], [Queue]
// and [KV] are only names; the garbage collector sees to them.
package flowmesh
