package flowmesh

import (
	"context"
	"sync"
	"time"
)

// autoCommit commits for a subscription what its application is done with. The library's own modes
// would commit what has arrived in Go, which may wait there.
type autoCommit struct {
	sub      *Subscription
	interval time.Duration
	due      chan struct{}
	ended    chan struct{} // its goroutine has
	err      error         // of the last commit, once it has ended

	mu    sync.Mutex
	last  int64 // that was handled, -1 for none since the start or a seek
	done  int64 // that is to be committed, -1 for none
	seeks int
}

func newAutoCommit(sub *Subscription, interval time.Duration) *autoCommit {
	return &autoCommit{
		sub:      sub,
		interval: interval,
		due:      make(chan struct{}, 1),
		ended:    make(chan struct{}),
		last:     -1,
		done:     -1,
	}
}

// handled notes that everything up to this offset is done.
func (a *autoCommit) handled(offset int64) {
	if a == nil || offset < 0 {
		return
	}
	a.mu.Lock()
	known := offset == a.last
	if !known {
		a.last, a.done = offset, offset
	}
	a.mu.Unlock()
	if known {
		return
	}
	select {
	case a.due <- struct{}{}:
	default:
	}
}

// sought drops what is due.
func (a *autoCommit) sought() {
	if a == nil {
		return
	}
	a.mu.Lock()
	a.last, a.done = -1, -1
	a.seeks++
	a.mu.Unlock()
}

// run commits until the subscription is over, then once more.
func (a *autoCommit) run() {
	defer close(a.ended)
	for {
		select {
		case <-a.due:
		case <-a.sub.over:
			a.err = a.commit()
			return
		}
		if err := a.commit(); err != nil {
			a.sub.changed(SubscriptionCommitFailed, err)
		}
		if a.interval > 0 {
			pause := time.NewTimer(a.interval)
			select {
			case <-pause.C:
			case <-a.sub.over:
			}
			pause.Stop()
		}
	}
}

func (a *autoCommit) commit() error {
	a.mu.Lock()
	offset, seeks := a.done, a.seeks
	a.done = -1
	a.mu.Unlock()
	if offset < 0 {
		return nil
	}
	err := a.sub.stream.CommitOffset(context.Background(), a.sub.group, offset)
	if err == nil {
		return nil
	}
	a.mu.Lock()
	if a.done < 0 && a.seeks == seeks {
		a.done = offset // the close tries again
	}
	a.mu.Unlock()
	return err
}

// wait waits for the end of the last commit and gives its error.
func (a *autoCommit) wait() error {
	if a == nil {
		return nil
	}
	<-a.ended
	if isCode(a.err, CodeClosed) {
		return nil // the client was closed first, which loses it
	}
	return a.err
}
