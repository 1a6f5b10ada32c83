package lb

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// An Op is what a Change does: the sign it is printed with.
type Op byte

// What a Change does.
const (
	Added   Op = '+'
	Removed Op = '-'
	Changed Op = '~'
)

// A Change is one difference between two tables.
type Change struct {
	Op      Op
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
// table is an empty one. A service is the same one if its address and protocol
// are, whatever its name: those are what connections hang on.
func Diff(old, new *Table) []Change {
	before, after := objects(old, new), objects(new, old)
	var changes []Change
	for id, o := range before {
		if _, stays := after[id]; !stays {
			changes = append(changes, Change{Op: Removed, Object: o.title, Old: o.String(), ordinal: o.ordinal})
		}
	}
	for id, o := range after {
		if was, known := before[id]; known {
			changes = append(changes, o.since(was)...)
			continue
		}
		changes = append(changes, Change{Op: Added, Object: o.title, New: o.String(), ordinal: o.ordinal})
	}
	slices.SortStableFunc(changes, func(a, b Change) int { return cmp.Compare(a.ordinal, b.ordinal) })
	return changes
}

// An object is a part of a table as Diff compares it.
type object struct {
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
			changes = append(changes, Change{Changed, o.title, key, was.value(key), o.value(key), o.ordinal})
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

// objects returns the parts of t by what identifies them from table to table, but
// for servers that are the same in other: there may be thousands, and to describe
// each takes longer than to compile all.
func objects(t, other *Table) map[string]*object {
	all := make(map[string]*object)
	if t == nil {
		return all
	}
	for _, p := range t.Pools {
		all["pool "+p.Name] = p.object()
	}
	for _, s := range t.Services {
		id := fmt.Sprint("service ", s.Proto, " ", s.Virtual)
		o := s.object()
		all[id] = o
		for _, server := range s.Servers {
			if server.Sorry || other.has(server) { // the former is a property of the service
				continue
			}
			all[fmt.Sprint(id, " ", server.Real)] = server.object(o)
		}
	}
	return all
}

// has reports whether t has a server that is configured as s is.
func (t *Table) has(s *Server) bool {
	if t == nil {
		return false
	}
	service := t.Service(s.Service.Proto, s.Service.Virtual)
	if service == nil {
		return false
	}
	var o *Server
	if s.Index < len(service.Servers) && service.Servers[s.Index].Real == s.Real { // as nearly always
		o = service.Servers[s.Index]
	} else {
		o = service.Server(s.Real)
	}
	return o != nil && !o.Sorry && o.Configured == s.Configured && o.Upper == s.Upper && o.Lower == s.Lower &&
		slices.Equal(o.NotifyUp, s.NotifyUp) && slices.Equal(o.NotifyDown, s.NotifyDown) &&
		slices.EqualFunc(o.Checks, s.Checks, func(a, b Check) bool { return a.Text == b.Text })
}
