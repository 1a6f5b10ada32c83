package keepalived

import (
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// condition takes "@id line" apart. The line is for us if id is our name, or if
// it is "^id" and is not.
func (r *reader) condition(text string, at pos) (rest string, ours bool) {
	id, rest := text[1:], ""
	if i := strings.IndexAny(id, " \t"); i >= 0 {
		id, rest = id[:i], id[i:]
	}
	name, not := strings.CutPrefix(id, "^")
	if (name == r.id) != not {
		return rest, true
	}
	r.note(at, "@%s: not for this host, which is %q, passed over", id, r.id)
	return "", false
}

// A variable is $name or ${name}.
var variable = regexp.MustCompile(`\$(?:\{(\w+)\}|([A-Za-z_]\w*))`)

// replace puts values in place of the variables of a line; a value of several
// lines makes it several. It reports false if one is not defined. In quotes a
// name that is not defined stays: it may be the shell's.
func (r *reader) replace(text string, at pos) (string, bool) {
	if !strings.Contains(text, "$") {
		return text, true
	}
	var b strings.Builder
	end, known := 0, true
	for _, m := range variable.FindAllStringSubmatchIndex(text, -1) {
		name := text[m[0]+1 : m[1]]
		name = strings.Trim(name, "{}")
		value, ok := r.value(name, at)
		if !ok {
			if strings.Count(text[:m[0]], `"`)%2 == 0 {
				r.fail(at, "$%s: not defined (define it above, as $%s=value)", name, name)
				known = false
			}
			continue
		}
		b.WriteString(text[end:m[0]])
		if b.WriteString(value); b.Len() > maxLine {
			break // and the caller reports it
		}
		end = m[1]
	}
	b.WriteString(text[end:])
	return b.String(), known
}

// value returns the value of a variable, of the file's or of keepalived's own.
// Those for the signs of comments are put back when the line is split.
func (r *reader) value(name string, at pos) (string, bool) {
	switch name {
	case "_PWD":
		return filepath.Dir(at.file), true
	case "_HASH":
		return "\x01", true
	case "_BANG":
		return "\x02", true
	}
	value, ok := r.variables[name]
	return value, ok
}

// loop is the head of a repeated line.
var loop = regexp.MustCompile(`^~(SEQ|LST)\(([^()]*)\)\s*`)

// repeat takes "~SEQ(var, first, step, last) line", of which step may be left
// out and then first, or "~LST(var, a, b, c) line".
func (r *reader) repeat(text string, at pos, depth int) {
	m := loop.FindStringSubmatch(text)
	if m == nil {
		r.fail(at, "%q: not a loop (want ~SEQ(var, first, step, last) or ~LST(var, a, b))", first(text))
		return
	}
	args := strings.Split(m[2], ",")
	for i := range args {
		args[i] = strings.TrimSpace(args[i])
	}
	name, args := args[0], args[1:]
	if name == "" || strings.ContainsAny(m[2], "{}") || len(args) == 0 {
		r.fail(at, "~%s(%s): want a variable and its values, as ~SEQ(N, 1, 10); write other loops out", m[1], m[2])
		return
	}
	before, was := r.variables[name]
	each := func(value string) bool {
		r.variables[name] = value
		r.line(text[len(m[0]):], at, depth+1)
		return !r.spent
	}
	if m[1] == "SEQ" {
		r.sequence(args, at, each)
	} else {
		for _, value := range args {
			if !each(value) {
				break
			}
		}
	}
	if delete(r.variables, name); was {
		r.variables[name] = before
	}
}

// sequence calls each with the numbers of a ~SEQ until it returns false.
func (r *reader) sequence(args []string, at pos, each func(string) bool) {
	var numbers []int
	for _, a := range args {
		n, err := strconv.ParseInt(a, 10, 32)
		if err != nil || len(args) > 3 {
			r.fail(at, "~SEQ: %q: want whole numbers, as ~SEQ(N, first, step, last)", a)
			return
		}
		numbers = append(numbers, int(n))
	}
	from, step, to := 1, 1, numbers[len(numbers)-1]
	if len(numbers) > 1 {
		from = numbers[0]
	}
	if from > to {
		step = -1
	}
	if len(numbers) == 3 {
		step = numbers[1]
	}
	if step == 0 || (step > 0) != (to >= from) && to != from {
		r.fail(at, "~SEQ: step %d does not lead from %d to %d (want one that does)", step, from, to)
		return
	}
	for n := from; step > 0 && n <= to || step < 0 && n >= to; n += step {
		if !r.pay(1, at, 0) || !each(strconv.Itoa(n)) {
			return
		}
	}
}

// first returns the first word of a line.
func first(text string) string {
	if words := strings.Fields(text); len(words) > 0 {
		return words[0]
	}
	return text
}
