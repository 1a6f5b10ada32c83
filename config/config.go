// Package config is fnatd's configuration file: its types, defaults, reading and
// checking. It reads TOML and reports everything that is wrong in one go, each
// with file, line, value and remedy. It does not build anything from what it has
// read; package lb does that.
package config

import (
	"net/netip"
	"slices"
	"time"
)

// A Config is one configuration, complete with defaults. Load and Parse return
// only valid ones. Nothing changes a Config after that.
type Config struct {
	File      string // name of the file, for messages
	Daemon    Daemon
	Dataplane Dataplane
	Pools     []LocalPool
	Services  []Service

	pieces *pieces // of the file, for the one that takes its place; nil: it is read as a whole
}

// A Daemon is the table [daemon].
type Daemon struct {
	Where
	Control string // path of the control socket
	Group   string // that may use it besides its owner; "" is the owner's own
	Metrics string // host and port of the Prometheus endpoint; "" turns it off
	State   string // path of what outlives the process; "" is nothing
}

// A Mode says how frames are to be had from the network card.
type Mode string

// The modes of [dataplane].
const (
	Auto     Mode = "auto"     // the best that the driver offers
	ZeroCopy Mode = "zerocopy" // the driver's, without copying, or not at all
	Copy     Mode = "copy"     // the driver's, with copying
	Generic  Mode = "generic"  // the kernel's, for drivers without XDP
)

// A Dataplane is the table [dataplane].
type Dataplane struct {
	Where
	Interfaces       []string // at least one, no two alike
	VLANs            []string // VLAN interfaces on them that VIPs and LIPs may be put on
	Queues           int      // workers that share each interface's queues; 0 is as many as can be
	Mode             Mode
	MaxConnections   int
	Frames           int           // UMEM frames of each worker
	CPUs             []int         // cores for the workers, in turn; empty: fnatd chooses
	BusyPoll         bool          // workers never sleep
	ManageAddresses  bool          // put VIPs and LIPs on their interfaces
	ReflectClientMAC bool          // answer a client by the MAC address it came from
	CookieSecret     *CookieSecret // of SYN cookies; nil: a random one
	Orphaned         Orphaned
	OrphanedAfter    time.Duration // since the last sign of life; see PassAfter
	Settings         []InterfaceSettings
}

// carriers returns the interfaces that VIPs and LIPs may be put on.
func (d *Dataplane) carriers() []string { return slices.Concat(d.Interfaces, d.VLANs) }

// InterfaceSettings is one [[dataplane.interface]]: what one of the interfaces
// has of its own.
type InterfaceSettings struct {
	Where
	Name     string // one of Interfaces
	Checksum Checksum
}

// A Checksum says how the checksums of packets from an interface are kept right.
type Checksum string

// The ways to keep checksums right.
const (
	Incremental Checksum = "incremental" // by the difference: damage on the way stays visible
	Full        Checksum = "full"        // computed anew: for virtual links, whose senders leave them undone
)

// ChecksumOf returns how the checksums of packets from an interface are kept right.
func (d *Dataplane) ChecksumOf(name string) Checksum {
	for i := range d.Settings {
		if d.Settings[i].Name == name {
			return d.Settings[i].Checksum
		}
	}
	return Incremental
}

// A LocalPool is one [[local_pool]].
type LocalPool struct {
	Where
	Name      string
	Interface string
	Addresses []netip.Addr // ranges written out, in the order of the file
	Ports     Ports

	label string // begins messages about the pool
	lines []int  // where each address stands in the file
}

// Ports is an inclusive range of ports.
type Ports struct{ First, Last uint16 }

// A Protocol is the transport of a service.
type Protocol string

// The protocols of a service.
const (
	TCP Protocol = "tcp"
	UDP Protocol = "udp"
)

// A ClientAddress is a way to tell a real server the client's address.
type ClientAddress string

// The ways to tell a real server the client's address.
const (
	NoAddress ClientAddress = "none"
	TOA       ClientAddress = "toa"       // TCP option
	TTM       ClientAddress = "ttm"       // TCP option in kgwttm's layout
	ICMPEcho  ClientAddress = "icmp-echo" // ICMP echo request ahead of a UDP flow
)

// Timestamps says what becomes of the TCP timestamps of a service's clients.
type Timestamps string

// What may become of TCP timestamps.
const (
	Translate Timestamps = "translate" // shifted, so that they grow for each local port
	Strip     Timestamps = "strip"     // taken off the SYN, so that nobody uses them
)

// A Service is one [[service]].
type Service struct {
	Where
	Name      string
	Protocol  Protocol
	Address   netip.AddrPort // VIP and port
	Interface string
	Pool      string // name of the local pool

	Scheduler  string // a name that sched.Names lists
	SHPort     bool   // flags of sh and mh: hash the port, use another server
	SHFallback bool
	MHPort     bool
	MHFallback bool

	ClientAddress ClientAddress
	TOAKind6      uint8 // option kind for IPv6 clients
	TOAOnSYN      bool
	TTMKind       uint8
	TTMLength     uint8
	NoticeLength  int // IPv4 total length of the notice, 42 or 44

	Timestamps Timestamps
	SYNProxy   SYNProxy

	Persistence            time.Duration // 0 is off
	PersistenceGranularity int           // prefix length of client networks held together; 0 is the whole address

	Drain    time.Duration // how long connections of a removed real server may go on
	Timeouts Timeouts
	Checks   []Check // of each real server that has none of its own
	Failover Failover
	Servers  []RealServer

	label string // begins messages about the service
}

// DefaultDrain is how long connections of a removed real server may go on.
const DefaultDrain = 30 * time.Second

// Timeouts are the idle times of [service.timeout]; 0 is the default of the
// connection table.
type Timeouts struct {
	Established time.Duration
	SynSent     time.Duration
	SynReceived time.Duration
	FinWait     time.Duration
	TimeWait    time.Duration
	Close       time.Duration
	CloseWait   time.Duration
	LastAck     time.Duration
	UDP         time.Duration
	UDPOneWay   time.Duration
}

// A RealServer is one [[service.real_server]].
type RealServer struct {
	Where
	Address        netip.AddrPort
	Weight         int // 0 takes no new connections
	UpperThreshold int // connections from which on it takes no more; 0 is no limit
	LowerThreshold int // connections below which it takes some again; 0 is 3/4 of the upper

	Checks     []Check // the service's, or its own
	NotifyUp   []string
	NotifyDown []string
}
