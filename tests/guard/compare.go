package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"golang.org/x/perf/benchmath"
)

// exact are the units in which any rise counts: there is no chance in them.
var exact = map[string]bool{"allocs/op": true, "bytes/conn": true}

// Our choices.
const (
	// alpha is how likely a difference by mere chance may be: of some five measures,
	// at one commit in four hundred.
	alpha = 0.0005
	// tolerated is the loss that is not clear: code that the linker has moved costs
	// or gains as much.
	tolerated = 0.05
)

// compare prints how the sides differ, and returns an error if the new one is
// clearly worse in anything.
func compare(w io.Writer, old, new map[measure][]float64) error {
	var losses []error
	byName := func(a, b measure) int {
		return cmp.Or(cmp.Compare(a.suite, b.suite), cmp.Compare(a.unit, b.unit))
	}
	for _, m := range slices.SortedFunc(maps.Keys(new), byName) {
		if len(old[m]) == 0 {
			fmt.Fprintf(w, "%s: new, %v %s\n", m.suite, new[m][0], m.unit)
			continue
		}
		v := judge(m, old[m], new[m])
		fmt.Fprintln(w, v.text)
		if v.loss {
			losses = append(losses, errors.New(v.text))
		}
	}
	for m := range old {
		if len(new[m]) == 0 {
			losses = append(losses, fmt.Errorf("%s, %s: not measured any more", m.suite, m.unit))
		}
	}
	if losses != nil {
		return fmt.Errorf("clearly worse than before:\n%w", errors.Join(losses...))
	}
	return nil
}

// A verdict is what judge says of one measure.
type verdict struct {
	text string
	loss bool
}

// judge compares the samples of one measure, less being better.
func judge(m measure, old, new []float64) verdict {
	t := benchmath.DefaultThresholds
	t.CompareAlpha = alpha
	var assume benchmath.Assumption = benchmath.AssumeNothing
	if exact[m.unit] {
		assume = benchmath.AssumeExact
	}
	a, b := benchmath.NewSample(slices.Clone(old), &t), benchmath.NewSample(slices.Clone(new), &t)
	was, is := assume.Summary(a, 0.95).Center, assume.Summary(b, 0.95).Center
	c := assume.Compare(a, b)
	v := verdict{text: fmt.Sprintf("%s: %.4g -> %.4g %s, %s (%v)", m.suite, was, is, m.unit, c.FormatDelta(was, is), c)}
	if exact[m.unit] {
		v.loss = is > was
	} else {
		v.loss = c.P < c.Alpha && is > was*(1+tolerated)
	}
	return v
}
