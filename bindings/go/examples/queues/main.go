// Queues: jobs are handled four at a time; one fails until it is a dead letter, and is replayed.
//
//	go run ./examples/queues [ENDPOINT]
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/flowmesh/libflowmesh/bindings/go"
)

func main() {
	endpoint := "embedded:"
	if len(os.Args) > 1 {
		endpoint = os.Args[1]
	}
	if err := run(context.Background(), endpoint); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, endpoint string) error {
	client, err := flowmesh.Open(endpoint)
	if err != nil {
		return err
	}
	defer client.Close()
	mails, err := client.Queue("acme", "go-example", "mails")
	if err != nil {
		return err
	}
	policy := flowmesh.DefaultRetryPolicy()
	policy.MaxAttempts = 1
	if err := mails.SetRetryPolicy(ctx, policy); err != nil {
		return err
	}
	for _, to := range []string{"alice", "bob", "nobody"} {
		if _, _, err := mails.Enqueue(ctx, []byte(to)); err != nil {
			return err
		}
	}

	sent := make(chan string, 3)
	dead := make(chan struct{}, 1)
	worker, err := mails.Work(func(ctx context.Context, job *flowmesh.Job) error {
		if string(job.Payload) == "nobody" {
			return errors.New("no such address")
		}
		sent <- string(job.Payload)
		return nil
	}, flowmesh.WithConcurrency(4), flowmesh.WithWorkerEvents(func(event flowmesh.WorkerEvent) {
		if event.Kind == flowmesh.WorkerDeadLettered {
			dead <- struct{}{}
		}
	}))
	if err != nil {
		return err
	}
	<-sent
	<-sent
	<-dead
	if err := worker.Close(); err != nil {
		return err
	}
	fmt.Println("two mails sent, one is a dead letter")

	letters, err := mails.DeadLetters(ctx, 10)
	if err != nil {
		return err
	}
	for _, letter := range letters {
		if _, _, err := mails.Replay(ctx, letter.ID); err != nil {
			return err
		}
	}
	job, err := mails.Reserve(ctx, flowmesh.WithWait(time.Second), flowmesh.WithLease(time.Minute))
	if err != nil {
		return err
	}
	fmt.Printf("replayed: %s\n", job.Payload)
	return job.Ack(ctx)
}
