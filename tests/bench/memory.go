package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/perf/benchfmt"
)

var pipelineColumns = []column{
	{"best twentieth", "ns", nanos},
	{"mean", "ns", nanos},
	{"a hash", "ns", nanos},
}

const pipelineNote = `The way of a packet without rings: parse, look up, track, rewrite, checksums, MACs, counters. Frames of 64 bytes of
connections at random, both directions mixed; making them is not counted. A new connection is seven packets. Processor time of
the worker's thread. By the last column the machine can be judged: idle, it takes 10 ns for a SipHash of its last result.`

// profile is what fnatd is compiled by.
const profile = "cmd/fnatd/default.pgo"

// runPipeline runs the in-memory benchmarks of package dataplane.
func (r *run) runPipeline() error {
	t := r.report.table("In memory", pipelineNote, pipelineColumns...)
	for round := range r.count {
		fmt.Fprintf(os.Stderr, "round %d of %d: in memory\n", round+1, r.count)
		cmd := exec.CommandContext(r.ctx, "go", "test", "-run", "^$", "-bench", "^(BenchmarkPipeline6?|BenchmarkNewConnections)$",
			"-benchtime", "1000000x", "-pgo", profile, "./dataplane")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", cmd, err, out)
		}
		reader := benchfmt.NewReader(bytes.NewReader(out), "dataplane")
		for reader.Scan() {
			res, ok := reader.Result().(*benchfmt.Result)
			if !ok {
				continue
			}
			unit := "packet"
			if strings.HasPrefix(string(res.Name), "New") {
				unit = "connection"
			}
			name, _, _ := strings.Cut(string(res.Name), "-")
			var values []float64
			for _, u := range []string{"best-ns/" + unit, "ns/" + unit, "best-ns/hash"} {
				v, _ := value(res, u)
				values = append(values, v/1e9)
			}
			t.row("", name).add(values...)
		}
	}
	return nil
}

// value returns a result in the unit in which it was printed.
func value(r *benchfmt.Result, unit string) (float64, bool) {
	for _, v := range r.Values {
		if v.OrigUnit == unit {
			return v.OrigValue, true
		}
		if v.Unit == unit {
			return v.Value, true
		}
	}
	return 0, false
}

func nanos(v float64) string { return fmt.Sprintf("%.0f", 1e9*v) }

var memoryColumns = []column{
	{"connections", "", thousands},
	{"memory", "MiB", mebibytes},
	{"of each", "bytes", func(v float64) string { return fmt.Sprintf("%.0f", v) }},
}

const memoryNote = `A million UDP flows, or as many as the table takes, and by how much memory has grown meanwhile: the process's resident
set, or the kernel's slabs. fnatd's table does not grow beyond what fnatd -t says for max_connections. A proxy has two
sockets for each connection and runs out of ports long before.`

// million is how many flows are opened.
const million = 1_000_000

// runMemory measures what connections take.
func (r *run) runMemory() error {
	t := r.report.table("Memory", memoryNote, memoryColumns...)
	for _, c := range []contender{nft(), fnatd("fnatd", "", false)} {
		if !r.wants(c.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "memory: %s\n", c.name)
		conns, grown, err := r.grown(c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		t.row("", c.name).add(conns, grown, grown/max(conns, 1))
	}
	return nil
}

// grown opens flows through a contender and returns how many there are then, and
// by how many bytes memory has grown.
func (r *run) grown(c contender) (conns, bytes float64, err error) {
	b, err := r.bedOf(c)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if c.kernel {
		if err := b.receiveThreaded(); err != nil {
			return 0, 0, err
		}
	}
	before, err := b.memory()
	if err != nil {
		return 0, 0, err
	}
	pattern, err := b.udpPattern(million)
	if err != nil {
		return 0, 0, err
	}
	stop := b.background(func(ctx context.Context) error {
		return b.kit.Generate(ctx, b.Client, "eth0", loadCPU, pattern)
	})
	// At random, a million flows take some 14 million frames.
	if err := errors.Join(b.sleep(25*time.Second), stop()); err != nil {
		return 0, 0, err
	}
	after, err := b.memory()
	if err != nil {
		return 0, 0, err
	}
	conns, err = b.connections()
	return conns, after - before, err
}

// memory returns what the contender takes: fnatd's resident set, or the slabs of a
// kernel that does the work.
func (b *bed) memory() (bytes float64, err error) {
	file, field := "/proc/meminfo", "Slab:"
	if b.lb != nil {
		file, field = fmt.Sprintf("/proc/%d/status", b.lb.PID()), "VmRSS:"
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == field {
			kib, err := strconv.ParseFloat(f[1], 64)
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("%s: there is no %s", file, field)
}

// connections returns how many the contender has.
func (b *bed) connections() (n float64, err error) {
	if b.lb == nil {
		out, err := b.Balancer.Run(b.ctx, "cat", "/proc/sys/net/netfilter/nf_conntrack_count")
		if err != nil {
			return 0, err
		}
		return strconv.ParseFloat(strings.TrimSpace(out), 64)
	}
	stats, err := b.lb.Ctl.Stats(b.ctx)
	return float64(stats.Table.Connections), err
}

func kibibytes(v float64) string { return fmt.Sprintf("%.0f", v/(1<<10)) }
func mebibytes(v float64) string { return fmt.Sprintf("%.0f", v/(1<<20)) }
