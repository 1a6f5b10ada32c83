package realserver

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// A Mapping says who is behind a LIP's port, where no socket holds it.
type Mapping struct {
	Protocol string         `json:"protocol"`
	Local    netip.AddrPort `json:"local"` // LIP and port
	Real     netip.AddrPort `json:"real"`  // of this host
	// Client is the zero AddrPort where two flows to two addresses of this host
	// have the same Local: sockets that are bound to none are told the LIP.
	Client netip.AddrPort `json:"client"`
	State  MappingState   `json:"state"`
	Idle   time.Duration  `json:"idle"` // since it was told or used last, in nanoseconds
}

// A MappingState says how far a mapping has got.
type MappingState string

// The states of a mapping.
const (
	Handshaking MappingState = "handshake" // of a TCP connection that is not made yet
	Unused      MappingState = "noticed"   // no server has received from there
	Used        MappingState = "used"
)

// A Usage is how many entries the maps hold, expired ones not counted.
type Usage struct {
	Noticed    int `json:"noticed"`
	Used       int `json:"used"`
	Handshakes int `json:"handshakes"`
	Capacity   int `json:"capacity"` // of each
}

// An entry is what a map holds.
type entry struct {
	flow    peerFlow
	mapping peerMapping
	state   MappingState
	idle    time.Duration
}

// usage counts the entries of the maps.
func (p *programs) usage() (u Usage, err error) {
	u.Capacity = int(p.maps.Mappings.MaxEntries())
	err = p.entries(func(e *entry) {
		switch e.state {
		case Handshaking:
			u.Handshakes++
		case Unused:
			u.Noticed++
		case Used:
			u.Used++
		}
	})
	return u, err
}

// listMappings returns the mappings in the order of their local addresses. The
// two entries of a UDP flow, for sockets that are bound to its address and for
// those that are bound to none, are one Mapping while they agree.
func (p *programs) listMappings() ([]Mapping, error) {
	type key struct {
		proto               uint8
		local, real, client netip.AddrPort
	}
	found := map[key]*Mapping{}
	err := p.entries(func(e *entry) {
		k := key{e.flow.Proto, e.flow.Peer.addrPort(), netip.AddrPortFrom(address(e.flow.Rip), hostPort(e.flow.Rport)), netip.AddrPort{}}
		if e.flow.Proto == unix.IPPROTO_UDP {
			k.real = netip.AddrPortFrom(address(e.mapping.Rip), k.real.Port())
		}
		if e.mapping.Client.Port != 0 {
			k.client = e.mapping.Client.addrPort()
		}
		m := found[k]
		if m == nil {
			m = &Mapping{Protocol: "udp", Local: k.local, Real: k.real, Client: k.client, State: e.state, Idle: e.idle}
			found[k] = m
		}
		if k.proto == unix.IPPROTO_TCP {
			m.Protocol = "tcp"
		}
		if e.state == Used {
			m.State = Used
		}
		m.Idle = min(m.Idle, e.idle)
	})
	all := make([]Mapping, 0, len(found))
	for _, m := range found {
		all = append(all, *m)
	}
	slices.SortFunc(all, func(a, b Mapping) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), a.Local.Compare(b.Local), a.Real.Compare(b.Real), a.Client.Compare(b.Client))
	})
	return all, err
}

// entries calls f with every entry that has not expired. The programs go on
// meanwhile: what they add or remove may be missed or come twice.
func (p *programs) entries(f func(*entry)) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil { // the programs read it, too
		return err
	}
	for _, m := range []struct {
		entries *ebpf.Map
		state   MappingState
		timeout time.Duration
	}{
		{p.maps.Handshakes, Handshaking, p.tcpTimeout}, {p.maps.Noticed, Unused, p.udpTimeout}, {p.maps.Mappings, Used, p.udpTimeout},
	} {
		e := entry{state: m.state}
		all := m.entries.Iterate()
		for all.Next(&e.flow, &e.mapping) {
			if e.idle = max(0, time.Duration(now.Nano()-int64(e.mapping.Seen))); e.idle < m.timeout {
				f(&e)
			}
		}
		if err := all.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
			return fmt.Errorf("mappings: %w", err)
		}
	}
	return nil
}
