package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sample is a report in which two contenders had three rounds.
func sample() *report {
	r := &report{Machine: "a machine", CPUs: 2, Kernel: "6.18", Go: "go1", Commit: "abc", Date: time.Unix(0, 0).UTC()}
	t := r.table("Things", "What they are.", column{"rate", "/s", thousands}, column{"share", "%", percent})
	for _, v := range []float64{3e6, 1e6, 2e6} {
		t.row("much", "nft").add(v, 0.5)
		t.row("little", "nft").add(v/1000, 1)
		t.row("much", "fnatd").add(2*v, 0.25)
	}
	return r
}

func TestMarkdown(t *testing.T) {
	var out strings.Builder
	sample().markdown(&out)
	want := `
## Things

What they are.

|        |       | rate, /s               | share, %         |
|--------|-------|------------------------|------------------|
| much   | nft   | 2.00 M (1.00 M-3.00 M) | 50.0 (50.0-50.0) |
| much   | fnatd | 4.00 M (2.00 M-6.00 M) | 25.0 (25.0-25.0) |
| little | nft   | 2 k (1 k-3 k)          | 100.0 (100.0-100.0) |
`
	_, got, _ := strings.Cut(out.String(), "rounds.\n")
	if squeeze(got) != squeeze(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// squeeze takes the padding out of a table.
func squeeze(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "-", "")
}

// TestFailureIsShown has a contender that could not take part in the table all the
// same.
func TestFailureIsShown(t *testing.T) {
	r := sample()
	r.Tables[0].row("", "nginx").Failure = "not installed"
	var out strings.Builder
	r.markdown(&out)
	if !strings.Contains(out.String(), "nginx | failed: not installed") {
		t.Errorf("got %s", out.String())
	}
}

func TestSaveKeepsEveryRound(t *testing.T) {
	name := filepath.Join(t.TempDir(), "bench")
	if err := sample().save(name); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var got report
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if rows := got.Tables[0].Rows; len(rows) != 3 || len(rows[0].Cells[0]) != 3 || rows[0].Cells[0][1] != 1e6 {
		t.Errorf("rounds in JSON: got %+v", rows)
	}
	if _, err := os.Stat(name + ".md"); err != nil {
		t.Error(err)
	}
}

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{{[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}, {[]float64{7}, 7}} {
		if got := median(test.values); got != test.want {
			t.Errorf("median of %v: got %v, want %v", test.values, got, test.want)
		}
	}
}
