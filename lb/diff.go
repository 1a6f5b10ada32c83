package lb

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/fnatd/fnatd/internal/packet"
)

// An Op is what a Change does: the sign it is printed with.
type Op byte

// What a Change does.
const (
	Added   Op = '+'
	Removed Op = '-'
	Changed Op = '~'
)

// A Subject identifies a part of a table, from table to table: a pool by its
// name, a service by its address and protocol whatever its name, and a real
// server as one service uses it.
type Subject struct {
	Pool    string // of a pool; the rest is zero then
	Proto   uint8
	Virtual packet.Endpoint
	Real    packet.Endpoint // of a real server; zero for the service itself
}

// Service returns the subject of the service that a real server is of.
func (s Subject) Service() Subject { return Subject{Proto: s.Proto, Virtual: s.Virtual} }

func (p *Pool) subject() Subject { return Subject{Pool: p.Name} }

// Subject returns what identifies s.
func (s *Service) Subject() Subject { return Subject{Proto: s.Proto, Virtual: s.Virtual} }

// Subject returns what identifies s.
func (s *Server) Subject() Subject {
	return Subject{Proto: s.Service.Proto, Virtual: s.Service.Virtual, Real: s.Real}
}

// A Change is one difference between two tables.
type Change struct {
	Op      Op
	Subject Subject
	Object  string // what it is about: `service "web": real_server 10.0.2.11:8080`
	Key     string // of a Changed object: which of its properties
	Old     string // its value, "default" if not set; of a Removed object: all properties
	New     string // likewise; of an Added object: all properties
	ordinal string // sorts objects by name, and by address as a number
}

func (c Change) String() string {
	switch c.Op {
	case Added:
		return fmt.Sprintf("+ %s: %s", c.Object, c.New)
	case Removed:
		return fmt.Sprintf("- %s: %s", c.Object, c.Old)
	}
	return fmt.Sprintf("~ %s: %s %s -> %s", c.Object, c.Key, c.Old, c.New)
}

// Diff returns what changes when new takes old's place, sorted by object. A nil
// table is an empty one.
func Diff(old, new *Table) []Change {
	before, after := objects(old), objects(new)
	var changes []Change
	for id, o := range before {
		if _, stays := after[id]; !stays {
			changes = append(changes, Change{Op: Removed, Subject: id, Object: o.title, Old: o.String(), ordinal: o.ordinal})
		}
	}
	for id, o := range after {
		if was, known := before[id]; known {
			changes = append(changes, o.since(was)...)
			continue
		}
		changes = append(changes, Change{Op: Added, Subject: id, Object: o.title, New: o.String(), ordinal: o.ordinal})
	}
	slices.SortStableFunc(changes, func(a, b Change) int { return cmp.Compare(a.ordinal, b.ordinal) })
	return changes
}

// An object is a part of a table as Diff compares it.
type object struct {
	subject    Subject
	title      string
	ordinal    string
	properties []property
}

type property struct{ key, value string }

// set gives o a property unless value is empty, which stands for the default.
func (o *object) set(key, value string) {
	if value != "" {
		o.properties = append(o.properties, property{key, value})
	}
}

func (o *object) value(key string) string {
	for _, p := range o.properties {
		if p.key == key {
			return p.value
		}
	}
	return "default"
}

func (o *object) String() string {
	all := make([]string, len(o.properties))
	for i, p := range o.properties {
		all[i] = p.key + " " + p.value
	}
	return strings.Join(all, ", ")
}

// since returns the properties that changed from was to o.
func (o *object) since(was *object) (changes []Change) {
	compare := func(key string) {
		if was.value(key) != o.value(key) {
			changes = append(changes, Change{Changed, o.subject, o.title, key, was.value(key), o.value(key), o.ordinal})
		}
	}
	for _, p := range o.properties {
		compare(p.key)
	}
	for _, p := range was.properties {
		if o.value(p.key) == "default" {
			compare(p.key)
		}
	}
	return changes
}

// objects returns the parts of t.
func objects(t *Table) map[Subject]*object {
	all := make(map[Subject]*object)
	if t == nil {
		return all
	}
	add := func(o *object) { all[o.subject] = o }
	for _, p := range t.Pools {
		add(p.object())
	}
	for _, s := range t.Services {
		o := s.object()
		add(o)
		for _, server := range s.Servers {
			add(server.object(o))
		}
	}
	return all
}
