// Streams: a producer writes events, a consumer group reads them and goes on where it was.
//
//	go run ./examples/streams [ENDPOINT]
package main

import (
	"context"
	"fmt"
	"log"
	"os"

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
	orders, err := client.Stream("acme", "go-example", "orders")
	if err != nil {
		return err
	}
	offsets, err := orders.Write(ctx,
		flowmesh.Event{Payload: []byte("3 apples"), Headers: map[string]string{"customer": "alice"}},
		flowmesh.Event{Payload: []byte("1 melon"), Headers: map[string]string{"customer": "bob"}},
		flowmesh.Event{Payload: []byte("2 pears"), Headers: map[string]string{"customer": "carol"}})
	if err != nil {
		return err
	}
	last := offsets[len(offsets)-1]

	// The first consumer stops early; the second one, of the same group, goes on behind it.
	for _, stop := range []int64{last - 1, last} {
		if err := consume(ctx, orders, stop); err != nil {
			return err
		}
	}
	state, err := orders.GroupState(ctx, "billing")
	if err != nil {
		return err
	}
	fmt.Printf("lag: %d\n", state.Lag)
	return nil
}

// consume handles messages up to an offset, and commits.
func consume(ctx context.Context, orders *flowmesh.Stream, stop int64) error {
	sub, err := orders.Subscribe(ctx, flowmesh.WithGroup("billing"))
	if err != nil {
		return err
	}
	defer sub.Close()
	for message, err := range sub.Messages(ctx) {
		if err != nil {
			return err
		}
		fmt.Printf("%s for %s\n", message.Payload, message.Headers["customer"])
		if message.Offset == stop {
			break
		}
	}
	return sub.Commit(ctx)
}
