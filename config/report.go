package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// An Error is one thing that is wrong in a configuration.
type Error struct {
	File string
	Line int
	Text string // what and where, what was written, and what to do
}

func (e *Error) Error() string {
	if e.Line == 0 { // of what no file holds
		return e.Text
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Text)
}

// A report collects what is wrong.
type report struct {
	file   string
	errors []*Error
}

func (r *report) add(line int, text string) {
	r.errors = append(r.errors, &Error{r.file, line, text})
}

// err returns everything collected, in the order of the file, or nil.
func (r *report) err() error {
	slices.SortStableFunc(r.errors, func(a, b *Error) int { return cmp.Compare(a.Line, b.Line) })
	all := make([]error, len(r.errors))
	for i, e := range r.errors {
		all[i] = e
	}
	return errors.Join(all...)
}

// message puts a text together: where in the configuration, the key, the value
// as it was written, and what is wrong with it. A nil value is left out.
func message(context, key string, value any, text string) string {
	switch v := value.(type) {
	case nil:
	case string:
		key += fmt.Sprintf(" %q", v)
	case []any, map[string]any:
	default:
		key += fmt.Sprintf(" %v", v)
	}
	if key != "" {
		key += ": "
	}
	return context + key + text
}
