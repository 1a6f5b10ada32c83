package main

import (
	"bufio"
	"strconv"
	"strings"
	"unicode/utf8"
)

// sample is how many rows a table looks at to find the widths of its columns.
const sample = 256

// A table prints rows in aligned columns. It holds back the first rows to
// find the widths and lets the following through as they come, so a million
// rows need no memory; a cell that is wider than all of the sample stands out.
// A column whose heading begins with ">" is aligned to the right.
type table struct {
	w      *bufio.Writer
	right  []bool
	widths []int // nil until the sample is complete
	held   [][]string
}

func newTable(w *bufio.Writer, headings ...string) *table {
	t := &table{w: w, right: make([]bool, len(headings))}
	for i, h := range headings {
		headings[i], t.right[i] = strings.CutPrefix(h, ">")
	}
	t.row(headings...)
	return t
}

// row adds a row with a cell for each column.
func (t *table) row(cells ...string) {
	if t.widths != nil {
		t.write(cells)
		return
	}
	if t.held = append(t.held, cells); len(t.held) > sample {
		t.flush()
	}
}

// flush writes what is held back.
func (t *table) flush() {
	if t.widths != nil {
		return
	}
	t.widths = make([]int, len(t.right))
	for _, cells := range t.held {
		for i, c := range cells {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(c))
		}
	}
	for _, cells := range t.held {
		t.write(cells)
	}
	t.held = nil
}

func (t *table) write(cells []string) {
	var line strings.Builder
	for i, c := range cells {
		if i > 0 {
			line.WriteByte(' ')
		}
		pad := strings.Repeat(" ", max(0, t.widths[i]-utf8.RuneCountInString(c)))
		if t.right[i] {
			line.WriteString(pad + c)
		} else {
			line.WriteString(c + pad)
		}
	}
	t.w.WriteString(strings.TrimRight(line.String(), " "))
	t.w.WriteByte('\n')
}

// count formats n as ipvsadm does: whole up to eight digits, then scaled.
func count(n uint64) string {
	switch {
	case n < 1e8:
		return strconv.FormatUint(n, 10)
	case n < 1e9:
		return strconv.FormatUint(n/1e3, 10) + "K"
	case n < 1e11:
		return strconv.FormatUint(n/1e6, 10) + "M"
	case n < 1e14:
		return strconv.FormatUint(n/1e9, 10) + "G"
	}
	return strconv.FormatUint(n/1e12, 10) + "T"
}
