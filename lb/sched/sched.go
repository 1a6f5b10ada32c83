// Package sched chooses a real server for a new connection. Its algorithms bear
// the names and keep the rules of ipvs; where one departs from ipvs, its comment
// says how. The package is pure: it knows neither packets nor services, starts
// nothing and asks no clock.
package sched

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// A Client is what a scheduler may know of a connection's client. Its address is two
// numbers, big-endian, because such a Client is passed in registers: one of bytes is copied
// at each call, and each copy waits for the one before.
type Client struct {
	High, Low uint64 // an IPv6 address or an IPv4 address mapped into IPv6
	Port      uint16
}

// ClientAt returns the client with an address and a port.
func ClientAt(addr *[16]byte, port uint16) Client {
	return Client{binary.BigEndian.Uint64(addr[:8]), binary.BigEndian.Uint64(addr[8:]), port}
}

// A Server is a real server as a scheduler sees it.
type Server struct {
	Addr   [16]byte
	Port   uint16
	Weight int   // share of new connections; 0 takes none
	Upper  int   // connections at which the server counts as overloaded; 0 never
	Lower  int   // connections below which it no longer does; 0 is 3/4 of Upper
	Load   *Load // owned by the service's server, shared between schedulers
}

// Available reports whether s may take a new connection.
func (s *Server) Available() bool { return s.Weight > 0 && !s.Load.Over(s.Upper, s.Lower) }

// A Spec says which algorithm shall choose among which servers.
type Spec struct {
	Name     string   // one of Names
	Virtual  [16]byte // the service's address; dh hashes it
	Port     bool     // sh and mh hash the client's port too
	Fallback bool     // sh and mh turn to another server when theirs is unavailable
	Servers  []Server
}

func (s *Spec) equal(o *Spec) bool {
	return s.Name == o.Name && s.Virtual == o.Virtual && s.Port == o.Port &&
		s.Fallback == o.Fallback && slices.Equal(s.Servers, o.Servers)
}

// A Scheduler chooses among the servers of one Spec. It is immutable but for
// its cursor, if it has one; any number of workers may call it at once.
type Scheduler struct {
	spec      Spec
	algorithm algorithm
}

// An algorithm returns the index of the server that the client's new connection
// goes to, or -1 if none may take it.
type algorithm interface {
	pick(c Client) int
}

// constructors has for each name what makes its algorithm. prev is the algorithm
// that the service had before, of any kind, or nil.
var constructors = map[string]func(s *Spec, prev algorithm) algorithm{
	"rr":  newRoundRobin,
	"wrr": newRoundRobin,
	"lc":  newLeast,
	"wlc": newLeast,
	"sed": newLeast,
	"nq":  newLeast,
	"sh":  newSourceHash,
	"dh":  newDestinationHash,
	"mh":  newMaglev,
	"fo":  newFailover,
	"ovf": newOverflow,
}

// Names returns the known algorithms, in the order in which manuals list them.
func Names() []string {
	return []string{"rr", "wrr", "lc", "wlc", "sed", "nq", "sh", "dh", "mh", "fo", "ovf"}
}

// New returns a scheduler for s. prev is the scheduler of the same service until
// now, or nil: it is returned itself if nothing changed, and otherwise its state
// (a cursor, a table) is carried over as far as it fits. New keeps s.Servers.
func New(s Spec, prev *Scheduler) (*Scheduler, error) {
	if prev != nil && prev.spec.equal(&s) {
		return prev, nil
	}
	construct, ok := constructors[s.Name]
	if !ok {
		return nil, fmt.Errorf("scheduler %q: unknown (want %s)", s.Name, strings.Join(Names(), ", "))
	}
	next := &Scheduler{spec: s}
	var old algorithm
	if prev != nil {
		old = prev.algorithm
	}
	next.algorithm = construct(&next.spec, old)
	return next, nil
}

// Pick returns the index in Spec.Servers of the server that c's new connection
// goes to, or -1 if none may take it. It counts nothing: the caller tells the
// server's Load when the connection exists.
func (s *Scheduler) Pick(c Client) int { return s.algorithm.pick(c) }
