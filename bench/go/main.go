// Command bench compares the Go binding with the stubs that grpc-go generates from the same proto, on
// the same server in the same run: get of a key from 1 and from 1,000 goroutines, and a subscription
// that reads what is stored. Each cell is a process of its own; rounds are interleaved, and medians
// printed. Use bench/go/run, which makes the stubs.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"
)

// sample is what one cell measured.
type sample struct {
	PerSecond float64 // calls or messages
	CPU       float64 // us of this process, for each
	Allocs    float64 // for each
	P50       float64 // us, of a call
}

type workload struct {
	name string
	args []string
}

var (
	serverPath = flag.String("server", "target/release/flowmesh-server", "flowmesh-server")
	rounds     = flag.Int("rounds", 5, "rounds")
	seconds    = flag.Float64("seconds", 2, "length of a measurement of calls")
	messages   = flag.Int("messages", 400_000, "messages of a subscription")
	cell       = flag.String("cell", "", "for internal use: flowmesh or grpc, measured in this process")
	endpoint   = flag.String("endpoint", "", "for internal use")
	goroutines = flag.Int("goroutines", 0, "for internal use: 0 is the subscription")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	if *cell != "" {
		json.NewEncoder(os.Stdout).Encode(measure(*cell))
		return
	}
	directory, err := os.MkdirTemp("", "flowmesh-go-bench-")
	check(err)
	defer os.RemoveAll(directory)
	address, stop := startServer(directory)
	defer stop()
	prepare(address)

	workloads := []workload{
		{"get, 1 goroutine", []string{"-goroutines", "1"}},
		{"get, 1,000 goroutines", []string{"-goroutines", "1000"}},
		{"subscription", []string{"-goroutines", "0"}},
	}
	samples := map[string][]sample{}
	for round := range *rounds {
		sides := []string{"flowmesh", "grpc"}
		if round%2 == 1 {
			slices.Reverse(sides)
		}
		for _, w := range workloads {
			for _, side := range sides {
				args := append([]string{"-cell", side, "-endpoint", address, "-seconds", fmt.Sprint(*seconds), "-messages", fmt.Sprint(*messages)}, w.args...)
				command := exec.Command(os.Args[0], args...)
				command.Stderr = os.Stderr
				output, err := command.Output()
				check(err)
				var s sample
				check(json.Unmarshal(output, &s))
				samples[w.name+side] = append(samples[w.name+side], s)
			}
		}
	}
	fmt.Printf("Go against grpc-go, medians of %d rounds, tcp\n\n", *rounds)
	fmt.Println("| | flowmesh /s | grpc-go /s | ratio | CPU us | grpc-go | ratio | allocs | grpc-go | p50 us | grpc-go |")
	fmt.Println("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
	for _, w := range workloads {
		f, g := medians(samples[w.name+"flowmesh"]), medians(samples[w.name+"grpc"])
		fmt.Printf("| %s | %.0f | %.0f | %.2f | %.2f | %.2f | %.2f | %.3f | %.3f | %.0f | %.0f |\n", w.name,
			f.PerSecond, g.PerSecond, f.PerSecond/g.PerSecond, f.CPU, g.CPU, f.CPU/g.CPU, f.Allocs, g.Allocs, f.P50, g.P50)
	}
}

func medians(samples []sample) sample {
	median := func(of func(sample) float64) float64 {
		var values []float64
		for _, s := range samples {
			values = append(values, of(s))
		}
		slices.Sort(values)
		return (values[len(values)/2] + values[(len(values)-1)/2]) / 2
	}
	return sample{
		PerSecond: median(func(s sample) float64 { return s.PerSecond }),
		CPU:       median(func(s sample) float64 { return s.CPU }),
		Allocs:    median(func(s sample) float64 { return s.Allocs }),
		P50:       median(func(s sample) float64 { return s.P50 }),
	}
}

// startServer starts a server on a free port; the client is what is measured, so it does not sync.
func startServer(directory string) (address string, stop func()) {
	command := exec.Command(*serverPath, "--listen", "127.0.0.1:0", "--data-dir", filepath.Join(directory, "data"), "--fsync", "none")
	output, err := command.StderrPipe()
	check(err)
	check(command.Start())
	lines := bufio.NewScanner(output)
	for address == "" && lines.Scan() {
		address = regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(lines.Text())
	}
	if address == "" {
		log.Fatalf("%s did not start", *serverPath)
	}
	go func() {
		for lines.Scan() {
		}
	}()
	return address, func() {
		command.Process.Signal(syscall.SIGTERM)
		command.Wait()
	}
}

// cpu is what this process has used.
func cpu() time.Duration {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
