// Key-value: values with and without a time to live.
//
//	go run ./examples/kv [ENDPOINT]
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
	settings, err := client.KV("acme", "go-example", "settings")
	if err != nil {
		return err
	}
	if err := settings.Set(ctx, "theme/colour", []byte("red")); err != nil {
		return err
	}
	if err := settings.Set(ctx, "theme/font", []byte("mono"), flowmesh.WithTTL(time.Hour)); err != nil {
		return err
	}
	colour, err := settings.Get(ctx, "theme/colour")
	if err != nil {
		return err
	}
	keys, err := settings.Keys(ctx, "theme/")
	if err != nil {
		return err
	}
	fmt.Printf("colour %s of %v\n", colour, keys)
	if err := settings.Delete(ctx, "theme/colour"); err != nil {
		return err
	}
	if _, err := settings.Get(ctx, "theme/colour"); !errors.Is(err, flowmesh.ErrNotFound) {
		return fmt.Errorf("it should be gone: %w", err)
	}
	fmt.Println("gone")
	return nil
}
