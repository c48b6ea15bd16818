package flowmesh

// #include "shim.h"
import "C"

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"
)

// logging is who reads the library's log lines in this process.
var logging struct {
	sync.Mutex
	stop func()
}

// SetLogger has the library tell logger what an operator should know, from level up, in place of the
// former logger; nil is silence, the default. The lines carry the attributes "target" (what it is
// about) and "client" ([Client.ID], unless it is about none). They are handed over on a goroutine of
// their own, so that the logger may do what it likes. When SetLogger returns, the former logger is
// called no more.
func SetLogger(logger *slog.Logger, level slog.Level) error {
	logging.Lock()
	defer logging.Unlock()
	if logging.stop != nil {
		if err := stopLog(); err != nil {
			return err
		}
	}
	if logger == nil {
		return nil
	}
	fd, err := syscall.Dup(int(C.fm_log_fd()))
	if err != nil {
		return &Error{Code: CodeResourceExhausted, Message: "no descriptor: " + err.Error(), Outcome: OutcomeNotApplied}
	}
	syscall.CloseOnExec(fd)
	file := os.NewFile(uintptr(fd), "flowmesh-log")
	var failure *C.flowmesh_error_t
	if C.fm_log_start(C.int32_t(logLevel(level)), &failure) != C.FLOWMESH_OK {
		file.Close()
		return takeError(failure)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		readLog(logger, file)
	}()
	logging.stop = func() {
		file.SetReadDeadline(time.Unix(1, 0))
		<-done
		file.Close()
	}
	return nil
}

// stopLog ends the present logger, when it has had every line.
func stopLog() error {
	var failure *C.flowmesh_error_t
	if C.fm_log_stop(&failure) != C.FLOWMESH_OK {
		return takeError(failure)
	}
	logging.stop()
	logging.stop = nil
	return nil
}

func readLog(logger *slog.Logger, file *os.File) {
	for {
		var count [8]byte
		_, err := file.Read(count[:])
		var lost C.uint64_t
		for line := C.fm_log_take(&lost); line != nil; {
			attributes := []slog.Attr{slog.String("target", C.GoString(line.target))}
			if line.client_id != 0 {
				attributes = append(attributes, slog.Uint64("client", uint64(line.client_id)))
			}
			logger.LogAttrs(context.Background(), slogLevel(int32(line.level)), C.GoString(line.text), attributes...)
			next := line.next
			C.fm_log_line_free(line)
			line = next
		}
		if lost > 0 {
			logger.Warn("log lines were lost: the logger is too slow", slog.Uint64("lines", uint64(lost)))
		}
		if err != nil {
			return
		}
	}
}

func logLevel(level slog.Level) int32 {
	switch {
	case level >= slog.LevelError:
		return C.FLOWMESH_LOG_ERROR
	case level >= slog.LevelWarn:
		return C.FLOWMESH_LOG_WARN
	case level >= slog.LevelInfo:
		return C.FLOWMESH_LOG_INFO
	default:
		return C.FLOWMESH_LOG_DEBUG
	}
}

func slogLevel(level int32) slog.Level {
	switch level {
	case C.FLOWMESH_LOG_ERROR:
		return slog.LevelError
	case C.FLOWMESH_LOG_WARN:
		return slog.LevelWarn
	case C.FLOWMESH_LOG_INFO:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}
