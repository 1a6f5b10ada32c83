package keepalived

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// A reader makes statements of files. Line by line it decides on conditions,
// repeats ~SEQ, replaces variables and reads what is included.
type reader struct {
	*report
	files
	id        string // whom lines with @ are for
	variables map[string]string
	tree      *builder
	open      []string // files that are being read, the including ones first
	physical  int      // lines of files so far
	spent     bool     // a limit was met and reported
}

func newReader(r *report, files files, id string) *reader {
	return &reader{report: r, files: files, id: id, variables: map[string]string{}, tree: newBuilder(r)}
}

// read returns the statements of the file name, whose contents are data.
func (r *reader) read(name string, data []byte) []*statement {
	r.file(name, data)
	if r.spent {
		return nil // what was read so far ends anywhere
	}
	return r.tree.end()
}

// definition is a line that defines a variable, which @ may make conditional.
var definition = regexp.MustCompile(`^(?:@\S+\s+)?\$(\w+)\s*=`)

// file reads the lines of one file. One that ends in a backslash goes on in the
// next; in the definition of a variable they stay lines.
func (r *reader) file(name string, data []byte) {
	r.open = append(r.open, name)
	defer func() { r.open = r.open[:len(r.open)-1] }()
	if !utf8.Valid(data) {
		r.fail(pos{name, 1, r.physical}, "not a text file (want one in UTF-8)")
		return
	}
	lines := strings.Split(strings.TrimPrefix(string(data), "\ufeff"), "\n")
	for i := 0; i < len(lines) && !r.spent; i++ {
		r.physical++
		at := pos{name, i + 1, r.physical}
		text := strings.TrimSpace(uncomment(lines[i]))
		separator := " "
		if definition.MatchString(text) {
			separator = "\n"
		}
		var parts []string
		for strings.HasSuffix(text, `\`) {
			parts = append(parts, strings.TrimSuffix(text, `\`))
			if text = ""; i+1 < len(lines) {
				i++
				r.physical++
				text = strings.TrimSpace(uncomment(lines[i]))
			}
		}
		r.line(strings.Join(append(parts, text), separator), at, 0)
	}
}

// line takes one line, which came out of depth others.
func (r *reader) line(text string, at pos, depth int) {
	text = strings.TrimSpace(text)
	if text == "" || !r.pay(len(text), at, depth) {
		return
	}
	switch {
	case text[0] == '@':
		if rest, ours := r.condition(text, at); ours {
			r.line(rest, at, depth+1)
		}
		return
	case text[0] == '~':
		r.repeat(text, at, depth)
		return
	}
	if m := definition.FindStringSubmatch(text); m != nil {
		r.variables[m[1]] = strings.TrimSpace(text[len(m[0]):])
		return
	}
	replaced, ok := r.replace(text, at)
	if !ok {
		return
	}
	if replaced != text {
		for _, line := range strings.Split(replaced, "\n") {
			r.line(line, at, depth+1)
		}
		return
	}
	words, closed := tokens(strings.NewReplacer("\x01", "#", "\x02", "!").Replace(text))
	switch {
	case len(words) == 0 && closed:
	case !closed:
		r.fail(at, "a quote is not closed (add a \")")
	case slices.Contains(includes, words[0].text):
		r.include(words, at)
	default:
		r.tree.add(words, at)
	}
}

// pay counts a line against the limits and reports whether it is within them.
func (r *reader) pay(bytes int, at pos, depth int) bool {
	r.lines--
	r.bytes -= bytes
	switch {
	case r.spent:
	case depth >= maxDepth:
		r.spent = true
		r.fail(at, "variables or conditions more than %d deep (does one contain itself? write it out)", maxDepth)
	case bytes > maxLine:
		r.spent = true
		r.fail(at, "longer than %d KiB (split the line)", maxLine>>10)
	case r.lines < 0 || r.bytes < 0:
		r.spent = true
		r.fail(at, "too much: with variables, ~SEQ and include there are more lines than are read (split the file)")
	}
	return !r.spent
}

// includes are the keywords that include files; they differ in what keepalived
// makes of files that are missing.
var includes = []string{"include", "includer", "includem", "includew", "includeb", "includea"}

// include reads the files that match a pattern, relative to the including file.
func (r *reader) include(words []token, at pos) {
	if len(words) != 2 {
		r.fail(at, "%s: want one file or pattern, as include conf.d/*.conf", words[0].text)
		return
	}
	pattern := words[1].text
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(filepath.Dir(at.file), pattern)
	}
	names := []string{pattern}
	if strings.ContainsAny(pattern, "*?[") {
		var err error
		if names, err = r.glob(pattern); err != nil {
			r.fail(at, "include %q: not a pattern of files (as conf.d/*.conf)", words[1].text)
			return
		}
		if len(names) == 0 {
			r.note(at, "include %q: no such file, passed over", words[1].text)
		}
	}
	for _, name := range names {
		switch {
		case slices.Contains(r.open, name):
			r.fail(at, "include %q: %s is being read already (break the cycle)", words[1].text, name)
			continue
		case len(r.open) >= maxDepth:
			r.fail(at, "include %q: more than %d files in each other (include it further out)", words[1].text, maxDepth)
			return
		}
		data, err := r.files.read(name)
		if err != nil {
			r.fail(at, "include %q: %v (put it there, or remove the line)", words[1].text, err)
			continue
		}
		r.file(name, data)
	}
}
