// Command bench measures fnatd beside what a user would take instead, on one
// machine: clients, balancer and real servers in network namespaces, each contender
// in turn, several rounds. It needs root.
//
//	go run ./tests/bench [flags] SCENARIO...
//
//	pipeline  what a packet and a new connection cost in memory
//	packets   64-byte packets a second, at 1, 1,000 and 100,000 flows
//	short     short connections a second
//	latency   round trips on a kept connection, alone and beside others
//	bulk      downloads
//	flood     SYNs by the hundred thousand, and real clients beside them
//	memory    what a million connections take
//
// Figures of a virtual machine that others use too are lower bounds; what counts
// is how contenders compare, as they take turns.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fnatd/fnatd/tests/harness"
)

// A run is one call of the program.
type run struct {
	ctx     context.Context
	report  *report
	bin     string
	count   int
	time    time.Duration
	only    []string // contenders; none is all
	rates   []float64
	badACKs float64
}

// scenarios are what can be measured, in the order of the report.
var scenarios = []struct {
	name string
	run  func(*run) error
}{
	{"pipeline", (*run).runPipeline},
	{"packets", (*run).runPackets},
	{"short", (*run).runShort},
	{"latency", (*run).runLatency},
	{"bulk", (*run).runBulk},
	{"flood", (*run).runFlood},
	{"memory", (*run).runMemory},
}

func main() {
	if err := bench(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench() error {
	if len(os.Args) == 3 && os.Args[1] == "reflect" {
		return reflect(os.Args[2])
	}
	r := &run{report: newReport(runtime.Version()), rates: []float64{0, 240e3, 400e3, 800e3, -1}}
	flag.IntVar(&r.count, "rounds", 6, "rounds, in each of which every contender has its turn")
	flag.DurationVar(&r.time, "time", 3*time.Second, "time of one measurement")
	flag.Float64Var(&r.badACKs, "bad-acks", 0, "flood: share of segments with a guessed acknowledgement, 0 to 1")
	flag.StringVar(&r.bin, "bin", "", "directory of fnatd; built from the working directory by default")
	only := flag.String("only", "", "contenders to measure, divided by commas: parts of their names")
	out := flag.String("out", "", "file to write the report to, as .md and .json")
	flag.Func("rates", "flood: SYNs a second, divided by commas; -1 is all there is (default 0,240000,400000,800000,-1)", r.setRates)
	flag.Parse()
	if *only != "" {
		r.only = strings.Split(*only, ",")
	}
	if os.Geteuid() != 0 {
		return errors.New("network namespaces and XDP need root: run `sudo make bench`")
	}
	if r.bin == "" {
		dir, err := os.MkdirTemp("", "fnatd-bin-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if err := harness.Build(".", dir); err != nil {
			return err
		}
		r.bin = dir
	}
	var stop context.CancelFunc
	r.ctx, stop = signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for _, s := range scenarios {
		if flag.NArg() > 0 && !slices.Contains(flag.Args(), s.name) {
			continue
		}
		if err := s.run(r); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	r.report.markdown(os.Stdout)
	if *out == "" {
		return nil
	}
	return r.report.save(*out)
}

func (r *run) setRates(list string) error {
	r.rates = nil
	for text := range strings.SplitSeq(list, ",") {
		rate, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return err
		}
		r.rates = append(r.rates, rate)
	}
	return nil
}

// rounds measures the contenders that are wanted, in turn. What one of them cannot
// do is told in the table, and does not keep the others from it.
func (r *run) rounds(t *table, all []contender, measure func(contender) error) error {
	failed := map[string]bool{}
	for round := range r.count {
		for _, c := range all {
			if failed[c.name] || !r.wants(c.name) {
				continue
			}
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, r.count, c.name)
			if err := measure(c); err != nil {
				if r.ctx.Err() != nil {
					return r.ctx.Err()
				}
				fmt.Fprintf(os.Stderr, "%s: %v\n", c.name, err)
				failed[c.name] = true
				t.row("", c.name).Failure, _, _ = strings.Cut(err.Error(), "\n")
			}
		}
	}
	return nil
}

func (r *run) wants(name string) bool {
	return len(r.only) == 0 || slices.ContainsFunc(r.only, func(part string) bool { return strings.Contains(name, part) })
}

// A result is what a goroutine has come to.
type result[T any] struct {
	value T
	err   error
}

func resultOf[T any](value T, err error) result[T] { return result[T]{value, err} }

// How values are printed.
func thousands(v float64) string {
	switch {
	case v >= 999.5e3:
		return fmt.Sprintf("%.2f M", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%.0f k", v/1e3)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}

func percent(v float64) string { return fmt.Sprintf("%.1f", 100*v) }

func millis(v float64) string { return fmt.Sprintf("%.2f", 1e3*v) }
