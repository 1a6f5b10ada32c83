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
// table is an empty one. Only what differs is put into words: of ten thousand real
// servers few do.
func Diff(old, new *Table) []Change {
	if old == nil {
		old = &Table{}
	}
	if new == nil {
		new = &Table{}
	}
	var d differences
	d.pools(old.Pools, new.Pools)
	for _, was := range old.Services {
		if new.Service(was.Proto, was.Virtual) == nil {
			d.removed(was.object())
			d.servers(was.Servers, nil)
		}
	}
	for _, s := range new.Services {
		was := old.Service(s.Proto, s.Virtual)
		if was == nil {
			d.added(s.object())
			d.servers(nil, s.Servers)
			continue
		}
		if was == s {
			continue
		}
		d.changed(was.object(), s.object())
		d.servers(was.Servers, s.Servers)
	}
	slices.SortStableFunc(d.all, func(a, b Change) int { return cmp.Compare(a.ordinal, b.ordinal) })
	return d.all
}

// differences collects Changes.
type differences struct{ all []Change }

func (d *differences) removed(o *object) {
	d.all = append(d.all, Change{Op: Removed, Subject: o.subject, Object: o.title, Old: o.String(), ordinal: o.ordinal})
}

func (d *differences) added(o *object) {
	d.all = append(d.all, Change{Op: Added, Subject: o.subject, Object: o.title, New: o.String(), ordinal: o.ordinal})
}

func (d *differences) changed(was, is *object) { d.all = append(d.all, is.since(was)...) }

func (d *differences) pools(old, new []*Pool) {
	before := map[string]*Pool{}
	for _, p := range old {
		before[p.Name] = p
	}
	for _, p := range new {
		if was := before[p.Name]; was != nil {
			d.changed(was.object(), p.object())
		} else {
			d.added(p.object())
		}
		delete(before, p.Name)
	}
	for _, p := range before {
		d.removed(p.object())
	}
}

// servers compares those of one service.
func (d *differences) servers(old, new []*Server) {
	before := make(map[packet.Endpoint]*Server, len(old))
	for _, s := range old {
		if !s.Sorry { // which is a property of the service
			before[s.Real] = s
		}
	}
	for _, s := range new {
		if s.Sorry {
			continue
		}
		switch was := before[s.Real]; {
		case was == nil:
			d.added(s.object())
		case !s.looksLike(was):
			d.changed(was.object(), s.object())
		}
		delete(before, s.Real)
	}
	for _, s := range before {
		d.removed(s.object())
	}
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
