package ctl

import (
	"net/netip"
	"time"
)

// Traffic counts what went through since the start. In is client to real
// server, Out is back. Bytes are of IP datagrams as they arrive, without
// Ethernet.
type Traffic struct {
	Connections uint64 `json:"connections"` // ever made
	InPackets   uint64 `json:"in_packets"`
	OutPackets  uint64 `json:"out_packets"`
	InBytes     uint64 `json:"in_bytes"`
	OutBytes    uint64 `json:"out_bytes"`
	Refused     uint64 `json:"refused"`    // connections that a real server, or a router, refused
	Unanswered  uint64 `json:"unanswered"` // SYNs that clients sent again, as no answer had come
}

// Sub returns what went through since t was was.
func (t Traffic) Sub(was Traffic) Traffic {
	return Traffic{
		Connections: t.Connections - was.Connections,
		InPackets:   t.InPackets - was.InPackets, OutPackets: t.OutPackets - was.OutPackets,
		InBytes: t.InBytes - was.InBytes, OutBytes: t.OutBytes - was.OutBytes,
	}
}

// Rates are what goes through in a second, smoothed over some.
type Rates struct {
	Connections uint64 `json:"connections"`
	InPackets   uint64 `json:"in_packets"`
	OutPackets  uint64 `json:"out_packets"`
	InBytes     uint64 `json:"in_bytes"`
	OutBytes    uint64 `json:"out_bytes"`
}

// List returns the rates in the order of their fields.
func (r *Rates) List() [5]uint64 {
	return [...]uint64{r.Connections, r.InPackets, r.OutPackets, r.InBytes, r.OutBytes}
}

// A Service is a VIP, port and protocol, and the real servers behind it.
type Service struct {
	Name                   string         `json:"name"`
	Protocol               string         `json:"protocol"` // tcp or udp
	Virtual                netip.AddrPort `json:"virtual"`
	Interface              string         `json:"interface"`
	Scheduler              string         `json:"scheduler"`
	LocalPool              string         `json:"local_pool"`
	ClientAddress          string         `json:"client_address"`          // as configured: toa, ttm, icmp-echo or none
	HashPort               bool           `json:"hash_port"`               // of sh and mh
	Fallback               bool           `json:"fallback"`                // of sh and mh
	PersistenceSeconds     float64        `json:"persistence_seconds"`     // 0: none
	PersistenceGranularity int            `json:"persistence_granularity"` // length of the prefix that makes clients one
	EstablishedSeconds     float64        `json:"established_seconds"`     // idle timeout of an established (TCP) or two-way (UDP) connection
	SYNProxy               string         `json:"synproxy"`                // as configured: off, on or adaptive
	Traffic                Traffic        `json:"traffic"`
	SinceZero              Traffic        `json:"since_zero"` // since ipvsadm -Z, or the start
	Rates                  Rates          `json:"rates"`
	ClientAddresses        ClientCounts   `json:"client_addresses"`
	QuorumLost             bool           `json:"quorum_lost"` // too few of its real servers are up
	Servers                []Server       `json:"real_servers"`
}

// A Server is a real server as one service uses it.
type Server struct {
	Real           netip.AddrPort `json:"real"`
	Weight         int            `json:"weight"`          // in force; 0: no new connections
	Configured     int            `json:"configured"`      // weight in the configuration; 0: draining
	Health         string         `json:"health"`          // up, down, or unchecked
	Reason         string         `json:"reason"`          // why it is down
	Removed        bool           `json:"removed"`         // it is down and, unlike with on_down = "inhibit", not of the service meanwhile
	Sorry          bool           `json:"sorry"`           // stands in when the others have no quorum
	UpperThreshold int            `json:"upper_threshold"` // connections; 0: none
	LowerThreshold int            `json:"lower_threshold"` // connections; 0: three quarters of the upper one
	Overloaded     bool           `json:"overloaded"`      // reached the upper threshold and not yet back below the lower one
	Active         int            `json:"active"`          // connections that are established
	Inactive       int            `json:"inactive"`        // connections that open or close
	Traffic        Traffic        `json:"traffic"`
	SinceZero      Traffic        `json:"since_zero"`
	Rates          Rates          `json:"rates"`
}

// ClientCounts counts how the clients' addresses reached the real servers.
type ClientCounts struct {
	Inserted    uint64      `json:"inserted"` // segments that carried the option
	NotInserted NotInserted `json:"not_inserted"`
	Stripped    uint64      `json:"stripped"` // options that clients had forged
	Notices     Notices     `json:"notices"`
}

// NotInserted counts the segments that should have carried a client-address
// option and do not, by cause. They were forwarded without it.
type NotInserted struct {
	NoRoom  uint64 `json:"no_room"`  // the TCP header would exceed 60 bytes
	OverMTU uint64 `json:"over_mtu"` // the datagram would exceed the MTU towards the real server
}

// Notices counts the UDP notices to real servers.
type Notices struct {
	Sent         uint64 `json:"sent"` // first tries
	Acknowledged uint64 `json:"acknowledged"`
	Resent       uint64 `json:"resent"`
	GivenUp      uint64 `json:"given_up"` // never acknowledged, in all their tries
}

// Add adds o to c.
func (c *ClientCounts) Add(o ClientCounts) {
	c.Inserted += o.Inserted
	c.NotInserted.NoRoom += o.NotInserted.NoRoom
	c.NotInserted.OverMTU += o.NotInserted.OverMTU
	c.Stripped += o.Stripped
	c.Notices.Sent += o.Notices.Sent
	c.Notices.Acknowledged += o.Notices.Acknowledged
	c.Notices.Resent += o.Notices.Resent
	c.Notices.GivenUp += o.Notices.GivenUp
}

// A Connection is one entry of the connection table that is not a persistence
// template.
type Connection struct {
	Protocol       string         `json:"protocol"` // tcp or udp
	State          string         `json:"state"`    // as ipvsadm -Lnc names it
	ExpiresSeconds float64        `json:"expires_seconds"`
	Client         netip.AddrPort `json:"client"`
	Virtual        netip.AddrPort `json:"virtual"`
	Local          netip.AddrPort `json:"local"`
	Real           netip.AddrPort `json:"real"`
	Service        string         `json:"service"` // empty: the service is no longer configured
}

// A Local is one LIP and the state of its ports.
type Local struct {
	Pool        string     `json:"pool"`
	Interface   string     `json:"interface"`
	Address     netip.Addr `json:"address"`
	PortMin     uint16     `json:"port_min"`
	PortMax     uint16     `json:"port_max"`
	PortsInUse  int        `json:"ports_in_use"` // used towards at least one real server
	PortsFree   int        `json:"ports_free"`   // used towards none
	Connections int        `json:"connections"`  // that have it
	Conflicts   uint64     `json:"conflicts"`    // times a port was tried and already in use towards the same real server
}

// A Reload is the answer to a reload that was put into use.
type Reload struct {
	ConfigFile string   `json:"config_file"`
	Changes    []string `json:"changes"` // one line each; empty: nothing changed
}

// A Diff is what would change.
type Diff struct {
	ConfigFile string   `json:"config_file"`
	Changes    []Change `json:"changes"`
}

// A Change is one difference between the configuration in use and another.
type Change struct {
	What        string `json:"what"`
	Connections int    `json:"connections"` // live ones of what it is about
	Effect      string `json:"effect"`      // what becomes of them; empty: they go on
}

// A Drain is a real server that gets no new connections and whose old ones will
// be reset: it was removed, or an operator drains it.
type Drain struct {
	Service      string         `json:"service"`
	Virtual      netip.AddrPort `json:"virtual"`
	Real         netip.AddrPort `json:"real"`
	Removed      bool           `json:"removed"`       // it is no longer configured
	Connections  int            `json:"connections"`   // that it still has
	ResetSeconds float64        `json:"reset_seconds"` // until they are reset; 0: done
}

// A DrainOrder drains real servers, which then get no new connections until
// Undo, over reloads too. What is left of the old ones is reset after a time.
type DrainOrder struct {
	Server  string   `json:"server"`  // address and port, or the address alone for all its ports
	Service string   `json:"service"` // name; empty: in every service
	Seconds *float64 `json:"seconds"` // nil: the drain of each service
	Undo    bool     `json:"undo"`    // end it: they are used again
}

// Stats are the figures of the whole program.
type Stats struct {
	Version         string       `json:"version"`
	PID             int          `json:"pid"`
	Started         time.Time    `json:"started"`
	UptimeSeconds   float64      `json:"uptime_seconds"`
	ConfigFile      string       `json:"config_file"`
	ConfigLoaded    time.Time    `json:"config_loaded"` // when the configuration in use was read
	ReloadError     string       `json:"reload_error"`  // why the last reload was refused; empty if it was not
	Table           Table        `json:"table"`
	Events          []Event      `json:"events"`
	ClientAddresses ClientCounts `json:"client_addresses"` // of all services
	Guards          []Guard      `json:"synproxy"`         // one for each TCP service
	Interfaces      []Interface  `json:"interfaces"`
	Workers         []Worker     `json:"workers"`
	Timeouts        Timeouts     `json:"timeouts"` // of services that set none
}

// Timeouts are how many seconds a connection may be idle.
type Timeouts struct {
	Established float64 `json:"established"`
	FinWait     float64 `json:"fin_wait"`
	UDP         float64 `json:"udp"`
}

// Table describes the connection table.
type Table struct {
	Capacity    int    `json:"capacity"`    // max_connections
	Connections int    `json:"connections"` // in use, templates included
	HalfOpen    int    `json:"half_open"`   // of them, not established yet: these make room when the table is full
	Templates   int    `json:"templates"`   // of them, persistence templates
	Bytes       uint64 `json:"bytes"`       // memory of the table, fixed at start
}

// An Event is something countable that is neither a drop nor traffic.
type Event struct {
	Name  string `json:"name"`
	Count uint64 `json:"count"`
}

// A Guard is SYNPROXY of one TCP service.
type Guard struct {
	Service string  `json:"service"`
	Mode    string  `json:"mode"`     // as configured: off, on or adaptive
	On      bool    `json:"on"`       // SYNs are answered by cookies now
	Answer  string  `json:"answer"`   // where: xdp or userspace
	BadACKs string  `json:"bad_acks"` // where segments of no connection, without a good cookie, end: xdp or userspace
	Offer   Offer   `json:"offer"`    // to a client that offers everything itself
	Events  []Event `json:"events"`
}

// An Offer is what the SYN-ACKs of a Guard say.
type Offer struct {
	MSS         uint16 `json:"mss"`
	Window      uint16 `json:"window"`
	WindowScale int    `json:"window_scale"` // -1: none
	SACK        bool   `json:"sack"`
	Timestamps  bool   `json:"timestamps"`
}

// Count returns how often an event of g happened.
func (g *Guard) Count(event string) uint64 {
	for _, e := range g.Events {
		if e.Name == event {
			return e.Count
		}
	}
	return 0
}

// An Interface is a network interface that fnatd serves.
type Interface struct {
	Name   string `json:"name"`
	Mode   string `json:"mode"`   // zerocopy, copy or generic
	Reason string `json:"reason"` // why this mode and not a faster one; empty for the fastest
	Queues int    `json:"queues"` // that are served
}

// A Worker serves queues of every interface. One without rings rests, since
// interfaces have fewer queues than before.
type Worker struct {
	ID        int     `json:"id"`
	CPU       int     `json:"cpu"` // -1: not bound to one
	RxPackets uint64  `json:"rx_packets"`
	RxBytes   uint64  `json:"rx_bytes"`
	TxPackets uint64  `json:"tx_packets"`
	TxBytes   uint64  `json:"tx_bytes"`
	Dropped   uint64  `json:"dropped"`    // for all reasons
	Batches   uint64  `json:"batches"`    // that held at least one frame
	MeanBatch float64 `json:"mean_batch"` // frames in a batch since the start
	// BatchSizes[i] counts the batches of more than BatchBounds[i-1] and at
	// most BatchBounds[i] frames.
	BatchSizes  []uint64 `json:"batch_sizes"`
	IdleSeconds float64  `json:"idle_seconds"` // spent waiting for frames since the start
	IdleShare   float64  `json:"idle_share"`   // IdleSeconds as a share of the time since the start, 0 to 1
	Frames      Frames   `json:"frames"`
	Rings       []Ring   `json:"rings"`
}

// BatchBounds are the upper bounds of Worker.BatchSizes.
var BatchBounds = [...]int{1, 2, 4, 8, 16, 32, 64}

// Frames says where a worker's frames are.
type Frames struct {
	Fill       int `json:"fill"`
	Rx         int `json:"rx"`
	Tx         int `json:"tx"`
	Completion int `json:"completion"`
	Free       int `json:"free"`
	Held       int `json:"held"` // in the worker's hands
}

// A Ring is one AF_XDP socket: what the kernel reports of it
// (XDP_STATISTICS) and what sending on it met.
type Ring struct {
	Interface     string `json:"interface"`
	Queue         int    `json:"queue"`
	Mode          string `json:"mode"` // zerocopy, copy or generic
	RxDropped     uint64 `json:"rx_dropped"`
	RxRingFull    uint64 `json:"rx_ring_full"`
	FillRingEmpty uint64 `json:"fill_ring_empty"`
	RxInvalid     uint64 `json:"rx_invalid"`
	TxInvalid     uint64 `json:"tx_invalid"`
	TxRingEmpty   uint64 `json:"tx_ring_empty"`
	KickErrors    uint64 `json:"kick_errors"` // transmit wake-ups that the kernel refused
}

// A Drop says how many packets were not forwarded for one reason, what the
// reason means and what an operator can do.
type Drop struct {
	Reason  string `json:"reason"`
	Count   uint64 `json:"count"`
	Meaning string `json:"meaning"`
	Remedy  string `json:"remedy"`
}

// The bodies around lists, so that an answer can grow further fields.
type (
	servicesBody struct {
		Services []Service `json:"services"`
	}
	localsBody struct {
		Locals []Local `json:"locals"`
	}
	dropsBody struct {
		Drops []Drop `json:"drops"`
	}
	drainsBody struct {
		Drains []Drain `json:"drains"`
	}
	errorBody struct {
		Error string `json:"error"`
	}
)
