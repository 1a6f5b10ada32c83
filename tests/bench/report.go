package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// A report is what one run has measured.
type report struct {
	Machine string    `json:"machine"`
	CPUs    int       `json:"cpus"`
	Kernel  string    `json:"kernel"`
	Go      string    `json:"go"`
	Commit  string    `json:"commit"`
	Date    time.Time `json:"date"`
	Tables  []*table  `json:"tables"`
}

// A table is one scenario's results. Contenders take turns: each adds a value to
// its cell in every round, and shown is the median with the least and the
// greatest.
type table struct {
	Name    string   `json:"name"`
	Note    string   `json:"note"`
	Columns []column `json:"columns"`
	Rows    []*row   `json:"rows"`
}

// A column is something that is measured. Print makes a value readable.
type column struct {
	Name  string               `json:"name"`
	Unit  string               `json:"unit"`
	Print func(float64) string `json:"-"`
}

// A row is one contender under one setting. Cells has the rounds of each column.
type row struct {
	Setting   string      `json:"setting,omitempty"`
	Contender string      `json:"contender"`
	Cells     [][]float64 `json:"cells"`
	Failure   string      `json:"failure,omitempty"`
}

func newReport(version string) *report {
	return &report{
		Machine: processor(), CPUs: cpus(), Kernel: kernel(), Go: version,
		Commit: commit(), Date: time.Now().UTC().Truncate(time.Second),
	}
}

// table begins a table.
func (r *report) table(name, note string, columns ...column) *table {
	t := &table{Name: name, Note: note, Columns: columns}
	r.Tables = append(r.Tables, t)
	return t
}

// row returns the row of a contender under a setting, and makes it on first use.
func (t *table) row(setting, contender string) *row {
	for _, r := range t.Rows {
		if r.Setting == setting && r.Contender == contender {
			return r
		}
	}
	r := &row{Setting: setting, Contender: contender, Cells: make([][]float64, len(t.Columns))}
	t.Rows = append(t.Rows, r)
	return r
}

// add adds the values of one round, in the order of the columns.
func (r *row) add(values ...float64) {
	for i, v := range values {
		r.Cells[i] = append(r.Cells[i], v)
	}
}

// median returns the middle of a cell's values.
func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	if n%2 == 1 {
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}

// cell prints the rounds of a column.
func (c *column) cell(values []float64) string {
	switch len(values) {
	case 0:
		return ""
	case 1:
		return c.Print(values[0])
	}
	return fmt.Sprintf("%s (%s-%s)", c.Print(median(values)), c.Print(slices.Min(values)), c.Print(slices.Max(values)))
}

// markdown writes the report in a form that reads well in a terminal too.
func (r *report) markdown(w io.Writer) {
	fmt.Fprintf(w, "# fnatd beside its rivals\n\n%s, %d CPUs, Linux %s, %s, commit %s, %s.\nMedian (least-greatest) of alternating rounds.\n",
		r.Machine, r.CPUs, r.Kernel, r.Go, r.Commit, r.Date.Format(time.DateTime+" MST"))
	for _, t := range r.Tables {
		t.markdown(w)
	}
}

func (t *table) markdown(w io.Writer) {
	fmt.Fprintf(w, "\n## %s\n\n%s\n\n", t.Name, t.Note)
	head := []string{"", ""}
	for _, c := range t.Columns {
		head = append(head, strings.TrimSpace(c.Name+", "+c.Unit))
		if c.Unit == "" {
			head[len(head)-1] = c.Name
		}
	}
	lines := [][]string{head}
	for _, r := range t.sorted() {
		line := []string{r.Setting, r.Contender}
		for i, c := range t.Columns {
			line = append(line, c.cell(r.Cells[i]))
		}
		if r.Failure != "" {
			line[2] = "failed: " + r.Failure
		}
		lines = append(lines, line)
	}
	if !slices.ContainsFunc(t.Rows, func(r *row) bool { return r.Setting != "" }) {
		for i := range lines {
			lines[i] = lines[i][1:]
		}
	}
	writeTable(w, lines)
}

// sorted returns the rows by setting, in the order in which those first came.
func (t *table) sorted() []*row {
	first := map[string]int{}
	for i, r := range t.Rows {
		if _, ok := first[r.Setting]; !ok {
			first[r.Setting] = i
		}
	}
	return slices.SortedStableFunc(slices.Values(t.Rows), func(a, b *row) int {
		return cmp.Compare(first[a.Setting], first[b.Setting])
	})
}

// writeTable writes a Markdown table whose columns are aligned.
func writeTable(w io.Writer, lines [][]string) {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, text := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(text))
		}
	}
	for n, line := range lines {
		for i, text := range line {
			fmt.Fprintf(w, "| %s%s ", text, strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)))
		}
		fmt.Fprintln(w, "|")
		if n == 0 {
			for _, width := range widths {
				fmt.Fprintf(w, "|%s", strings.Repeat("-", width+2))
			}
			fmt.Fprintln(w, "|")
		}
	}
}

// save writes the report as Markdown and JSON to files of this name.
func (r *report) save(name string) error {
	var text bytes.Buffer
	r.markdown(&text)
	if err := os.WriteFile(name+".md", text.Bytes(), 0o644); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(name+".json", append(data, '\n'), 0o644)
}

// processor returns the name of the machine's processors.
func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

func cpus() int {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return 0
	}
	return set.Count()
}

func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// commit returns the commit of the working directory, and whether it was changed.
func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
