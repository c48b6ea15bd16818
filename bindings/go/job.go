package flowmesh

import (
	"context"
	"time"
)

// Job is a job of a queue. One that was reserved or received is leased: acknowledge it or give it
// back.
type Job struct {
	ID            string
	Seq           int64 // number in the queue, from 0
	Payload       []byte
	Headers       map[string]string // nil without any
	CreatedAt     time.Time
	VisibleAt     time.Time // when it last became due
	ReservedUntil time.Time // end of the lease by the server's clock; zero when it is not leased
	Attempts      int       // deliveries, this one included

	queue *Queue
	until time.Time // end of the lease by this process's clock
}

// TimeLeft is what is left of the lease: 0 when it is over, or the job is not leased. It is counted
// from the job's arrival by this process's own clock.
func (j *Job) TimeLeft() time.Duration {
	if j.until.IsZero() {
		return 0
	}
	return max(0, j.until.Sub(j.queue.client.now()))
}

// Ack acknowledges the job: it is done and gone. When its lease is over and somebody else has the
// job, that lease is acknowledged: look at [Job.TimeLeft] first.
func (j *Job) Ack(ctx context.Context) error {
	if j.until.IsZero() {
		return notLeased("acknowledged")
	}
	return j.queue.Ack(ctx, j.ID)
}

// Nack gives the job back, see [Queue.Nack].
func (j *Job) Nack(ctx context.Context, options ...NackOption) (deadLettered bool, err error) {
	if j.until.IsZero() {
		return false, notLeased("given back")
	}
	return j.queue.Nack(ctx, j.ID, options...)
}

func notLeased(done string) error {
	message := "the job was listed, not leased: it cannot be " + done
	return &Error{Code: CodeFailedPrecondition, Message: message, Outcome: OutcomeNotApplied}
}
