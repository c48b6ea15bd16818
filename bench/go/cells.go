package main

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "flowmeshv1"

	"github.com/flowmesh/libflowmesh/bindings/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const tenant, namespace = "bench", "go"

var payload = make([]byte, 100)

func path(kind, name string) *pb.ResourcePath {
	return &pb.ResourcePath{Tenant: tenant, Namespace: namespace, ResourceType: kind, Name: name}
}

// prepare stores what is read.
func prepare(address string) {
	ctx := context.Background()
	client, err := flowmesh.Open(address)
	check(err)
	defer client.Close()
	kv, err := client.KV(tenant, namespace, "settings")
	check(err)
	check(kv.Set(ctx, "key", payload))
	stream, err := client.Stream(tenant, namespace, "events")
	check(err)
	events := make([]flowmesh.Event, 1000)
	for i := range events {
		events[i].Payload = payload
	}
	for written := 0; written < *messages; written += len(events) {
		_, err := stream.Write(ctx, events...)
		check(err)
	}
}

func measure(side string) sample {
	if *goroutines == 0 {
		return measureSubscription(side)
	}
	return measureGet(side)
}

// window measures a piece of work: CPU and allocations of this process, and time.
type window struct {
	at     time.Time
	cpu    time.Duration
	allocs uint64
}

func open() window {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return window{time.Now(), cpu(), stats.Mallocs}
}

func (w window) close(count int) sample {
	took, used := time.Since(w.at), cpu()-w.cpu
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	n := float64(count)
	return sample{
		PerSecond: n / took.Seconds(),
		CPU:       float64(used.Nanoseconds()) / 1000 / n,
		Allocs:    float64(stats.Mallocs-w.allocs) / n,
	}
}

func measureGet(side string) sample {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var get func() error
	if side == "flowmesh" {
		client, err := flowmesh.Open(*endpoint)
		check(err)
		defer client.Close()
		kv, err := client.KV(tenant, namespace, "settings")
		check(err)
		get = func() error { _, err := kv.Get(ctx, "key"); return err }
	} else {
		conn, err := grpc.NewClient(*endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
		check(err)
		defer conn.Close()
		kv := pb.NewKVServiceClient(conn)
		resource := path("kv", "settings")
		get = func() error {
			_, err := kv.Get(ctx, &pb.GetRequest{ResourcePath: resource, Key: "key"})
			return err
		}
	}
	calls := func(length time.Duration, latencies []time.Duration) (int, []time.Duration) {
		var count atomic.Int64
		var all sync.WaitGroup
		end := time.Now().Add(length)
		for i := range *goroutines {
			all.Add(1)
			go func() {
				defer all.Done()
				n := 0
				for at := time.Now(); at.Before(end); n++ {
					check(get())
					now := time.Now()
					if i == 0 && len(latencies) < cap(latencies) {
						latencies = append(latencies, now.Sub(at))
					}
					at = now
				}
				count.Add(int64(n))
			}()
		}
		all.Wait()
		return int(count.Load()), latencies
	}
	length := time.Duration(*seconds * float64(time.Second))
	calls(length/4, nil)
	latencies := make([]time.Duration, 0, 1<<20)
	w := open()
	count, latencies := calls(length, latencies)
	s := w.close(count)
	slices.Sort(latencies)
	s.P50 = float64(latencies[len(latencies)/2].Nanoseconds()) / 1000
	return s
}

func measureSubscription(side string) sample {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	count, bytes := *messages, 0
	var follow func()
	if side == "flowmesh" {
		client, err := flowmesh.Open(*endpoint)
		check(err)
		defer client.Close()
		stream, err := client.Stream(tenant, namespace, "events")
		check(err)
		check(client.Connect(ctx))
		follow = func() {
			sub, err := stream.Subscribe(ctx, flowmesh.WithStart(0))
			check(err)
			defer sub.Close()
			seen := 0
			for m, err := range sub.Messages(ctx) {
				check(err)
				bytes += len(m.Payload)
				if seen++; seen == count {
					break
				}
			}
		}
	} else {
		conn, err := grpc.NewClient(*endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
		check(err)
		defer conn.Close()
		_, err = pb.NewHealthServiceClient(conn).HealthCheck(ctx, &pb.HealthCheckRequest{})
		check(err)
		service := pb.NewStreamServiceClient(conn)
		follow = func() {
			sub, err := service.Subscribe(ctx, &pb.SubscribeRequest{ResourcePath: path("stream", "events"), ConsumerGroup: "bench", StartOffset: 0})
			check(err)
			for range count {
				response, err := sub.Recv()
				check(err)
				bytes += len(response.Message.Payload)
			}
		}
	}
	w := open()
	follow()
	s := w.close(count)
	if bytes != count*len(payload) {
		panic("messages are missing")
	}
	return s
}
