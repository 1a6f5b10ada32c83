// Command guard compares what the packet path costs in memory with what it cost
// before: it builds the benchmarks of this commit and of its parent, runs them by
// turns, and fails if this one is clearly worse by the statistics that benchstat
// uses. It needs the repository's history, and no root.
//
//	go run ./tests/guard [-base COMMIT] [-rounds N]
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// A suite is benchmarks of one package, and the units that are compared. Of the
// times it is what the best twentieth of the batches took, which other programs of
// the machine disturb least.
type suite struct {
	name, dir string
	pattern   string
	times     string // -test.benchtime
	units     []string
}

// suites are what is compared. All of it takes some four minutes on an idle machine.
var suites = []suite{
	{"pipeline", "./dataplane", "^BenchmarkPipeline$/^conns=10000$/^workers=1$", "1000000x", []string{"best-ns/packet", "allocs/op"}},
	{"large", "./dataplane", "^BenchmarkPipeline$/^conns=1000000$/^workers=1$", "200000x", []string{"best-ns/packet", "allocs/op"}},
	{"ipv6", "./dataplane", "^BenchmarkPipeline6$/^conns=10000$/^workers=1$", "1000000x", []string{"best-ns/packet", "allocs/op"}},
	{"new", "./dataplane", "^BenchmarkNewConnections$/^workers=1$", "30000x", []string{"best-ns/connection", "allocs/op"}},
	{"memory", "./conntrack", "^BenchmarkMemory$", "1x", []string{"bytes/conn"}},
}

func main() {
	base := flag.String("base", "HEAD^", "commit to compare with")
	// With so few, the two sides' values must hardly overlap for the test to say that
	// they differ.
	rounds := flag.Int("rounds", 8, "how often each side runs")
	flag.Parse()
	if err := guard(*base, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "guard:", err)
		os.Exit(1)
	}
}

func guard(base string, rounds int) (err error) {
	dir, err := os.MkdirTemp("", "fnatd-guard-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	before := filepath.Join(dir, "base")
	if _, err := git("rev-parse", "--verify", base+"^{commit}"); err != nil {
		return fmt.Errorf("there is nothing to compare with: %w (fetch the history, or name a commit with -base)", err)
	}
	if _, err := git("worktree", "add", "--detach", before, base); err != nil {
		return err
	}
	defer func() {
		_, gone := git("worktree", "remove", "--force", before)
		err = errors.Join(err, gone)
	}()
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	old, new := side{root: before, bin: dir + "/old"}, side{root: here, bin: dir + "/new"}
	for _, s := range []*side{&old, &new} {
		if err := s.build(); err != nil {
			return err
		}
	}
	for range rounds {
		for _, s := range []*side{&old, &new} {
			if err := s.run(); err != nil {
				return err
			}
		}
	}
	return compare(os.Stdout, old.values, new.values)
}

// A side is one of the two commits.
type side struct {
	root, bin string
	values    map[measure][]float64
}

// A measure is one unit of one suite.
type measure struct{ suite, unit string }

// build compiles the benchmarks, so that running them takes turns of seconds.
func (s *side) build() error {
	s.values = map[measure][]float64{}
	for _, b := range suites {
		cmd := exec.Command("go", "test", "-c", "-buildvcs=false", "-o", s.bin+"-"+b.name, b.dir)
		cmd.Dir = s.root
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", cmd, err, out)
		}
	}
	return nil
}

// run runs every suite once. A benchmark that a side does not have yields nothing.
func (s *side) run() error {
	for _, b := range suites {
		cmd := exec.Command(s.bin+"-"+b.name, "-test.run=^$", "-test.bench="+b.pattern, "-test.benchtime="+b.times, "-test.benchmem")
		cmd.Dir = filepath.Join(s.root, b.dir)
		var problems bytes.Buffer
		cmd.Stderr = &problems
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("%s: %w\n%s%s", cmd, err, out, problems.Bytes())
		}
		if err := s.read(&b, out); err != nil {
			return err
		}
	}
	return nil
}

// read adds the values of one run.
func (s *side) read(b *suite, out []byte) error {
	r := benchfmt.NewReader(bytes.NewReader(out), b.name)
	for r.Scan() {
		res, ok := r.Result().(*benchfmt.Result)
		if !ok {
			continue
		}
		for _, v := range res.Values {
			unit, value := v.Unit, v.Value
			if v.OrigUnit != "" { // the reader has made seconds of it
				unit, value = v.OrigUnit, v.OrigValue
			}
			if slices.Contains(b.units, unit) {
				m := measure{b.name, unit}
				s.values[m] = append(s.values[m], value)
			}
		}
	}
	return r.Err()
}

func git(args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", cmd, err, bytes.TrimSpace(out))
	}
	return strings.TrimSpace(string(out)), nil
}
