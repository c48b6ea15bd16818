package flowmesh

// #include "shim.h"
// #cgo noescape fm_error_read
// #cgo nocallback fm_error_read
import "C"

import (
	"context"
	"fmt"
	"strings"
)

// Code says how a call ended. The values below 100 are those of gRPC. A Code is an error, too, that
// every [Error] of this code matches.
type Code int32

// The codes.
const (
	CodeCancelled          Code = C.FLOWMESH_CANCELLED
	CodeUnknown            Code = C.FLOWMESH_UNKNOWN
	CodeInvalidArgument    Code = C.FLOWMESH_INVALID_ARGUMENT
	CodeDeadlineExceeded   Code = C.FLOWMESH_DEADLINE_EXCEEDED
	CodeNotFound           Code = C.FLOWMESH_NOT_FOUND
	CodeAlreadyExists      Code = C.FLOWMESH_ALREADY_EXISTS
	CodePermissionDenied   Code = C.FLOWMESH_PERMISSION_DENIED
	CodeResourceExhausted  Code = C.FLOWMESH_RESOURCE_EXHAUSTED
	CodeFailedPrecondition Code = C.FLOWMESH_FAILED_PRECONDITION
	CodeAborted            Code = C.FLOWMESH_ABORTED
	CodeOutOfRange         Code = C.FLOWMESH_OUT_OF_RANGE
	CodeUnimplemented      Code = C.FLOWMESH_UNIMPLEMENTED
	CodeInternal           Code = C.FLOWMESH_INTERNAL
	CodeUnavailable        Code = C.FLOWMESH_UNAVAILABLE
	CodeDataLoss           Code = C.FLOWMESH_DATA_LOSS
	CodeUnauthenticated    Code = C.FLOWMESH_UNAUTHENTICATED
	CodeClosed             Code = C.FLOWMESH_CLOSED
	CodeForked             Code = C.FLOWMESH_FORKED
	CodeQueueFull          Code = C.FLOWMESH_QUEUE_FULL
)

// What errors.Is compares with. ErrNoJob is this package's own: [Queue.Reserve] found nothing due.
var (
	ErrCancelled          error = CodeCancelled          // by the context
	ErrUnknown            error = CodeUnknown            // the other side failed without saying how
	ErrInvalidArgument    error = CodeInvalidArgument    // an argument breaks a rule
	ErrDeadlineExceeded   error = CodeDeadlineExceeded   // the call's time was up
	ErrNotFound           error = CodeNotFound           // no such resource, job or key
	ErrAlreadyExists      error = CodeAlreadyExists      // it exists already
	ErrPermissionDenied   error = CodePermissionDenied   // not permitted to this token
	ErrResourceExhausted  error = CodeResourceExhausted  // storage full, or a message too large
	ErrFailedPrecondition error = CodeFailedPrecondition // the present state does not permit the call
	ErrAborted            error = CodeAborted            // a conflict ended the call
	ErrOutOfRange         error = CodeOutOfRange         // a value lies outside its range
	ErrUnimplemented      error = CodeUnimplemented      // the server does not know the call
	ErrInternal           error = CodeInternal           // storage failed, or a defect
	ErrUnavailable        error = CodeUnavailable        // the server cannot be reached
	ErrDataLoss           error = CodeDataLoss           // data were lost
	ErrUnauthenticated    error = CodeUnauthenticated    // the token is missing, unknown or expired
	ErrClosed             error = CodeClosed             // the client or what was made from it is closed
	ErrNoJob              error = noJob{}                // nothing was due within the time to wait
)

// Error gives the name of the code, as in "NOT_FOUND".
func (c Code) Error() string { return C.GoString(C.flowmesh_status_name(C.flowmesh_status_t(c))) }

// String is the same as Error.
func (c Code) String() string { return c.Error() }

// Outcome says whether a call that failed changed anything.
type Outcome int32

// The outcomes.
const (
	OutcomeUnknown    Outcome = C.FLOWMESH_OUTCOME_UNKNOWN     // the change may or may not have happened
	OutcomeNotApplied Outcome = C.FLOWMESH_OUTCOME_NOT_APPLIED // it did not happen and will not
	OutcomeApplied    Outcome = C.FLOWMESH_OUTCOME_APPLIED     // it happened, although the call failed
)

func (o Outcome) String() string {
	switch o {
	case OutcomeNotApplied:
		return "not applied"
	case OutcomeApplied:
		return "applied"
	default:
		return "unknown"
	}
}

// Error is why a call failed. Get one with errors.As.
type Error struct {
	Code      Code
	Message   string  // what was tried, on which resource, and why it did not work; for people
	Detail    string  // the server's own words, or ""
	Retryable bool    // whether the same call may succeed later
	Outcome   Outcome // whether the change was made; look at it before you repeat a write
	cause     error   // of the context that ended the call
}

func (e *Error) Error() string { return fmt.Sprintf("flowmesh: %s (%s)", e.Message, e.Code) }

// Is reports whether target is e's [Code], one of the errors above. ErrCancelled is context.Canceled
// as well, ErrDeadlineExceeded is context.DeadlineExceeded.
func (e *Error) Is(target error) bool {
	switch target {
	case e.Code:
		return true
	case context.Canceled:
		return e.Code == CodeCancelled && e.cause == nil
	case context.DeadlineExceeded:
		return e.Code == CodeDeadlineExceeded
	}
	return false
}

// Unwrap gives the cause of the context that ended the call, if one did.
func (e *Error) Unwrap() error { return e.cause }

type noJob struct{}

func (noJob) Error() string { return "flowmesh: no job was due" }

// newError copies an error of the library.
func newError(from *C.flowmesh_error_t) *Error {
	var failure C.fm_failure_t
	C.fm_error_read(from, &failure)
	return failureError(&failure)
}

// takeError copies an error that a call gave, and frees it.
func takeError(from *C.flowmesh_error_t) error {
	err := newError(from)
	C.flowmesh_error_free(from)
	return err
}

func failureError(failure *C.fm_failure_t) *Error {
	return &Error{
		Code:      Code(failure.status),
		Message:   C.GoString(failure.message),
		Detail:    C.GoString(failure.detail),
		Retryable: bool(failure.retryable),
		Outcome:   Outcome(failure.outcome),
	}
}

// endedBy marks err as caused by the end of ctx.
func endedBy(ctx context.Context, err *Error) *Error {
	err.Code = CodeCancelled
	if ctx.Err() == context.DeadlineExceeded {
		err.Code = CodeDeadlineExceeded
		// The library only knows that the call was cancelled.
		if what, ok := strings.CutSuffix(err.Message, ": the caller cancelled it"); ok {
			err.Message = what + ": the deadline of its context passed"
		}
	}
	err.cause = contextCause{ctx.Err(), context.Cause(ctx)}
	return err
}

// contextCause is the context's error and the reason given for it, which may be the same.
type contextCause struct{ err, cause error }

func (c contextCause) Error() string   { return c.cause.Error() }
func (c contextCause) Unwrap() []error { return []error{c.err, c.cause} }

func invalid(format string, values ...any) *Error {
	message := fmt.Sprintf(format, values...)
	return &Error{Code: CodeInvalidArgument, Message: message, Outcome: OutcomeNotApplied}
}

func isCode(err error, code Code) bool {
	failed, ok := err.(*Error)
	return ok && failed.Code == code
}

func closedError() *Error {
	return &Error{Code: CodeClosed, Message: "it was closed", Outcome: OutcomeNotApplied}
}
