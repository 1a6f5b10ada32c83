package keepalived

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A pos is a place in a file, or an option of the command line.
type pos struct {
	file  string
	line  int // from 1; 0 for an option
	order int // sorts places in the order in which they were read
}

func (p pos) String() string {
	if p.line == 0 {
		return p.file
	}
	return fmt.Sprintf("%s:%d", p.file, p.line)
}

// An Error is one thing that is wrong in a keepalived.conf.
type Error struct {
	at   pos
	Text string // what was written, what is wrong with it and what to do
}

func (e *Error) Error() string { return fmt.Sprintf("%v: %s", e.at, e.Text) }

// maxErrors is how many errors are reported: more do not help anybody.
const maxErrors = 200

// maxPlaces is how many places one note lists; a thousand services that all
// have a delay_loop are one note, not a thousand.
const maxPlaces = 5

// A report collects what is wrong and what is worth a note.
type report struct {
	errors []*Error
	order  []string         // texts of notes, in the order in which they came
	places map[string][]pos // where each applies
}

func (r *report) fail(at pos, format string, args ...any) {
	r.errors = append(r.errors, &Error{at, fmt.Sprintf(format, args...)})
}

// note says something about a place; the same about many is said once.
func (r *report) note(at pos, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if r.places == nil {
		r.places = make(map[string][]pos)
	}
	if r.places[text] == nil {
		r.order = append(r.order, text)
	}
	if places := r.places[text]; len(places) == 0 || places[len(places)-1] != at {
		r.places[text] = append(places, at)
	}
}

// err returns the errors in the order of the file, or nil.
func (r *report) err() error {
	slices.SortStableFunc(r.errors, func(a, b *Error) int { return cmp.Compare(a.at.order, b.at.order) })
	var all []error
	for i, e := range r.errors {
		if i == maxErrors {
			all = append(all, fmt.Errorf("and %d errors more", len(r.errors)-i))
			break
		}
		all = append(all, e)
	}
	return errors.Join(all...)
}

// notes returns the notes, each with the places that it applies to.
func (r *report) notes() []string {
	slices.SortStableFunc(r.order, func(a, b string) int {
		return cmp.Compare(r.places[a][0].order, r.places[b][0].order)
	})
	var all []string
	for _, text := range r.order {
		places := r.places[text]
		line := fmt.Sprintf("%v: %s", places[0], text)
		if rest := places[1:]; len(rest) > 0 {
			var also []string
			for _, p := range rest[:min(len(rest), maxPlaces)] {
				also = append(also, p.String())
			}
			line += " (also " + strings.Join(also, ", ")
			if more := len(rest) - len(also); more > 0 {
				line += fmt.Sprintf(" and %d more", more)
			}
			line += ")"
		}
		all = append(all, line)
	}
	return all
}
