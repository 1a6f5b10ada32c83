package config

import (
	"fmt"
	"slices"
	"time"
)

// A table reads one TOML table, key by key. Its methods store a value where they
// are told to, leave the default there if the key is absent, and report a value
// that is not what it should be. In the end finish reports the keys that nobody
// asked for.
type table struct {
	report  *report
	path    string // how headers name it, "service.timeout"
	context string // begins every message, `service "web": timeout: `
	element
	where *Where
	known []string
}

func newTable(r *report, path, context string, e element, w *Where) *table {
	w.Line, w.keys = e.place.line, make([]keyLine, 0, len(e.values))
	for key := range e.values {
		line := e.place.line
		if at := e.place.key(key); at != nil {
			line = at.line
		}
		w.keys = append(w.keys, keyLine{key, line})
	}
	return &table{report: r, path: path, context: context, element: e, where: w, known: make([]string, 0, 8)}
}

// fail reports that the value of key is wrong, unless something already is.
func (t *table) fail(key, text string) {
	if t.where.bad[key] {
		return
	}
	t.failAt(t.where.LineOf(key), key, t.values[key], text)
}

func (t *table) failAt(line int, key string, value any, text string) {
	t.where.spoil(key)
	t.report.add(line, message(t.context, key, value, text))
}

// value returns the value of key and whether there is one.
func (t *table) value(key string) (any, bool) {
	t.known = append(t.known, key)
	v, ok := t.values[key]
	return v, ok
}

// text reads a string and hands it to parse, whose error is what to report.
func (t *table) text(key string, parse func(string) error) {
	v, ok := t.value(key)
	if !ok {
		return
	}
	s, ok := v.(string)
	if !ok {
		t.fail(key, "want a string in quotes")
		return
	}
	if err := parse(s); err != nil {
		t.fail(key, err.Error())
	}
}

func (t *table) str(key string, to *string) {
	t.text(key, func(s string) error { *to = s; return nil })
}

// name reads a string that identifies something and so may not be empty.
func (t *table) name(key string, to *string) {
	t.text(key, func(s string) error { *to = s; return checkName(s) })
}

// oneOf reads a string that must be one of choices.
func oneOf[S ~string](t *table, key string, to *S, choices ...S) {
	t.text(key, func(s string) error {
		if !slices.Contains(choices, S(s)) {
			return fmt.Errorf("unknown %s (want %s)", key, list(choices, "or"))
		}
		*to = S(s)
		return nil
	})
}

func (t *table) boolean(key string, to *bool) {
	v, ok := t.value(key)
	if !ok {
		return
	}
	b, ok := v.(bool)
	if !ok {
		t.fail(key, "want true or false, without quotes")
		return
	}
	*to = b
}

// integer reads a number from lowest to highest.
func integer[I ~int | ~uint8](t *table, key string, to *I, lowest, highest int) {
	v, ok := t.value(key)
	if !ok {
		return
	}
	n, ok := v.(int64)
	if !ok || n < int64(lowest) || n > int64(highest) {
		t.fail(key, fmt.Sprintf("want a whole number from %d to %d", lowest, highest))
		return
	}
	*to = I(n)
}

// duration reads a time span from lowest to MaxDuration, or 0 if that is off.
func (t *table) duration(key string, to *time.Duration, lowest time.Duration, off bool) {
	t.span(key, to, lowest, MaxDuration, off)
}

// span reads a time span from lowest to highest, or 0 if that is off.
func (t *table) span(key string, to *time.Duration, lowest, highest time.Duration, off bool) {
	v, ok := t.value(key)
	if !ok {
		return
	}
	const example = `want a number and a unit in quotes, as "90s" or "5m"`
	s, ok := v.(string)
	if !ok {
		t.fail(key, example)
		return
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		t.fail(key, "not a time span ("+example+")")
	case d == 0 && off:
		*to = d
	case d < lowest || d > highest:
		t.fail(key, fmt.Sprintf("want %s to %s", span(lowest), span(highest)))
	default:
		*to = d
	}
}

// list reads an array and hands its elements to element, which reports by fail
// what is wrong with one.
func (t *table) list(key, want string, element func(v any, line int, fail func(text string))) {
	v, ok := t.value(key)
	if !ok {
		return
	}
	elements, ok := v.([]any)
	if !ok {
		t.fail(key, "want a list "+want)
		return
	}
	at := t.place.key(key)
	for i, v := range elements {
		line := t.where.LineOf(key)
		if at != nil && i < len(at.array) {
			line = at.array[i].line
		}
		element(v, line, func(text string) { t.failAt(line, key, v, text) })
	}
}

// header returns the name of the table at key.
func (t *table) header(key string) string {
	if t.path == "" {
		return key
	}
	return t.path + "." + key
}

// sub returns the table at key, with its own context and place, or nil.
func (t *table) sub(key string, w *Where) *table {
	v, ok := t.value(key)
	if !ok {
		return nil
	}
	values, ok := v.(map[string]any)
	if !ok {
		t.fail(key, fmt.Sprintf("want a table [%s]", t.header(key)))
		return nil
	}
	return newTable(t.report, t.header(key), t.context+key+": ", element{values, t.inside(key)}, w)
}

// An element is one of an array of tables, and where it stands.
type element struct {
	values map[string]any
	place  *place
}

// subs returns the array of tables at key.
func (t *table) subs(key string) (all []element) {
	v, ok := t.value(key)
	if !ok {
		return nil
	}
	all, ok = elements(v, t.inside(key))
	if !ok {
		t.fail(key, fmt.Sprintf("want a table in double brackets, as [[%s]]", t.header(key)))
		return nil
	}
	return all
}

// elements returns v, which stands at a place, as an array of tables: written by
// headers or inline.
func elements(v any, at *place) (all []element, ok bool) {
	values, ok := v.([]any)
	all = make([]element, 0, len(values))
	for i, v := range values {
		m, isTable := v.(map[string]any)
		p := at
		if i < len(at.array) {
			p = at.array[i]
		}
		all, ok = append(all, element{m, p}), ok && isTable
	}
	return all, ok
}

// zeros returns n zero values, and nil instead of none.
func zeros[E any](n int) []E { return slices.Grow([]E(nil), n)[:n] }

// inside returns the place of key, or of t if that is not known.
func (t *table) inside(key string) *place {
	if p := t.place.key(key); p != nil {
		return p
	}
	return t.place
}

// require reports each key that is absent, with an example of its value.
func (t *table) require(key, example string) {
	if !t.where.has(key) {
		t.fail(key, fmt.Sprintf("missing (add %s = %s)", key, example))
	}
}
