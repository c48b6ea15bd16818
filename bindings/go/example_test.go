package flowmesh_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/flowmesh/libflowmesh/bindings/go"
)

func Example() {
	ctx := context.Background()
	client, err := flowmesh.Open("embedded:") // or "embedded:./data", "localhost:50051", "unix:/path"
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	mails, err := client.Queue("acme", "shop", "mails")
	if err != nil {
		log.Fatal(err)
	}
	if _, _, err := mails.Enqueue(ctx, []byte("to: bob")); err != nil {
		log.Fatal(err)
	}
	job, err := mails.Reserve(ctx, flowmesh.WithWait(time.Second))
	if err != nil {
		log.Fatal(err)
	}
	if err := job.Ack(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("done: %s\n", job.Payload)
	// Output: done: to: bob
}

func ExampleError() {
	client, err := flowmesh.Open("embedded:")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	settings, err := client.KV("acme", "shop", "settings")
	if err != nil {
		log.Fatal(err)
	}
	_, err = settings.Get(context.Background(), "colour")
	fmt.Println(errors.Is(err, flowmesh.ErrNotFound))
	var detail *flowmesh.Error
	if errors.As(err, &detail) {
		fmt.Println(detail.Code, detail.Retryable)
	}
	// Output:
	// true
	// NOT_FOUND false
}

func ExampleSubscription_Messages() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client, err := flowmesh.Open("embedded:")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	orders, err := client.Stream("acme", "shop", "orders")
	if err != nil {
		log.Fatal(err)
	}
	if _, err := orders.Write(ctx, flowmesh.Event{Payload: []byte("one")}, flowmesh.Event{Payload: []byte("two")}); err != nil {
		log.Fatal(err)
	}
	sub, err := orders.Subscribe(ctx, flowmesh.WithGroup("billing"))
	if err != nil {
		log.Fatal(err)
	}
	defer sub.Close()
	for message, err := range sub.Messages(ctx) {
		if errors.Is(err, context.Canceled) {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d: %s\n", message.Offset, message.Payload)
		if message.Offset == 1 {
			cancel()
		}
	}
	// Output:
	// 0: one
	// 1: two
}

func ExampleQueue_Work() {
	ctx := context.Background()
	client, err := flowmesh.Open("embedded:")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	mails, err := client.Queue("acme", "shop", "mails")
	if err != nil {
		log.Fatal(err)
	}
	sent := make(chan string)
	worker, err := mails.Work(func(ctx context.Context, job *flowmesh.Job) error {
		sent <- string(job.Payload)
		return nil // or flowmesh.RetryAfter(err, time.Minute)
	}, flowmesh.WithConcurrency(4))
	if err != nil {
		log.Fatal(err)
	}
	if _, _, err := mails.Enqueue(ctx, []byte("to: bob")); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-sent)
	if err := worker.Close(); err != nil {
		log.Fatal(err)
	}
	// Output: to: bob
}

func ExampleStream_Producer() {
	ctx := context.Background()
	client, err := flowmesh.Open("embedded:")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	orders, err := client.Stream("acme", "shop", "orders")
	if err != nil {
		log.Fatal(err)
	}
	stored := 0
	producer, err := orders.Producer(flowmesh.WithReports(func(reports []flowmesh.Report) {
		for _, report := range reports {
			if report.Err != nil {
				log.Print(report.Err)
				continue
			}
			stored++
		}
	}))
	if err != nil {
		log.Fatal(err)
	}
	for i := range 1000 {
		if err := producer.Send(ctx, flowmesh.Event{Payload: fmt.Appendf(nil, "order %d", i)}); err != nil {
			log.Fatal(err)
		}
	}
	if err := producer.Close(); err != nil { // sends what is left
		log.Fatal(err)
	}
	fmt.Println(stored)
	// Output: 1000
}

func ExampleWithTestClock() {
	ctx := context.Background()
	client, err := flowmesh.Open("embedded:", flowmesh.WithTestClock())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	settings, err := client.KV("acme", "shop", "settings")
	if err != nil {
		log.Fatal(err)
	}
	if err := settings.Set(ctx, "session", []byte("alice"), flowmesh.WithTTL(time.Hour)); err != nil {
		log.Fatal(err)
	}
	if err := client.AdvanceClock(time.Hour); err != nil {
		log.Fatal(err)
	}
	_, err = settings.Get(ctx, "session")
	fmt.Println(errors.Is(err, flowmesh.ErrNotFound))
	// Output: true
}
