package lb

import (
	"math/bits"
	"time"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/lb/sched"
)

// A Service is a VIP, port and protocol, and what happens to its connections.
// It belongs to one Table and is immutable.
type Service struct {
	Name      string
	Index     int // in Table.Services
	Proto     uint8
	Virtual   packet.Endpoint
	Interface string // where the VIP lives
	Pool      *Pool

	ClientAddress ClientAddress
	Option        packet.AddressOption // for TOA and TTM
	OptionOnSYN   bool
	NoticeLength  int // for ICMPEcho: IPv4 total length, 42 or 44

	StripTimestamps bool // blank TCP timestamps on the SYN, instead of shifting them
	SYNProxy        SYNProxy

	Drain           time.Duration // how long connections of a removed server may go on
	Timeouts        Timeouts
	Persistence     time.Duration // 0 is off
	PersistenceMask packet.Addr   // the bits of a client's address that make clients one

	Scheduler string // name, for listings
	HashPort  bool   // sh and mh: the client's port is hashed too
	Fallback  bool   // sh and mh: another server stands in for an overloaded one
	Servers   []*Server
	Failover  config.Failover
	NoQuorum  bool // too few servers are up

	from      config.Service // of which it was made
	scheduler *sched.Scheduler
	eligible  []*Server // that the scheduler chooses among
}

// Pick returns the scheduler's choice for a new connection of client, or nil if
// no server may take it. Any number of workers may call it at once. It counts
// nothing: the server's Load is told when the connection exists.
func (s *Service) Pick(client packet.Endpoint) *Server { return s.PickFor(&client.Addr, client.Port) }

// PickFor is Pick for a client of which address and port stand apart.
func (s *Service) PickFor(client *packet.Addr, port uint16) *Server {
	i := s.scheduler.Pick(sched.ClientAt((*[16]byte)(client), port))
	if i < 0 {
		return nil
	}
	return s.eligible[i]
}

// Explain returns what Pick would, and why. It takes nobody's turn.
func (s *Service) Explain(client packet.Endpoint) (server *Server, why string) {
	i, why := s.scheduler.Explain(sched.ClientAt((*[16]byte)(&client.Addr), client.Port))
	if i < 0 {
		return nil, why
	}
	return s.eligible[i], why
}

// Server returns the service's server at real, or nil.
func (s *Service) Server(real packet.Endpoint) *Server {
	for _, server := range s.Servers {
		if server.Real == real {
			return server
		}
	}
	return nil
}

// PersistenceKey returns what stands for client in a persistence template: the
// address of its network.
func (s *Service) PersistenceKey(client packet.Addr) packet.Addr {
	for i := range client {
		client[i] &= s.PersistenceMask[i]
	}
	return client
}

// Granularity returns the length of PersistenceMask within an address of the
// service's family: that of the networks whose clients are one.
func (s *Service) Granularity() int {
	masked := 0
	for _, b := range s.PersistenceMask {
		masked += 8 - bits.OnesCount8(b)
	}
	return s.Virtual.Addr.Netip().BitLen() - masked
}

// A Server is a real server as one service uses it.
type Server struct {
	Service *Service
	Index   int // in Service.Servers
	Real    packet.Endpoint
	Weight  int         // in force; 0 takes no new connections
	Upper   int         // connections at which it takes no more; 0 is no limit
	Lower   int         // connections below which it takes some again; 0 is 3/4 of Upper
	Load    *sched.Load // the same one in every Table that has this server

	Configured int      // the weight in the configuration
	Checks     []Check  // of its health
	NotifyUp   []string // commands to run when it comes up or goes down
	NotifyDown []string
	Sorry      bool // it stands in when the others have no quorum
	Verdict
}

// A Check is one check of a server. Servers that have theirs from the service
// share them.
type Check struct {
	*config.Check
	Text string // all that is configured of it, in one line
}

// Available reports whether s may take a new connection: it has a weight and is
// not over its threshold. Persistence asks it before it sends a client back.
func (s *Server) Available() bool { return s.Weight > 0 && !s.Load.Over(s.Upper, s.Lower) }

// ClientAddress is the way in which a service tells its real servers who the
// client is.
type ClientAddress uint8

// The ways to tell a real server the client's address.
const (
	NoAddress ClientAddress = iota
	TOA                     // TCP option
	TTM                     // TCP option in kgwttm's layout
	ICMPEcho                // ICMP echo request ahead of a UDP flow
)

var clientAddressNames = [...]string{NoAddress: "none", TOA: "toa", TTM: "ttm", ICMPEcho: "icmp-echo"}

func (c ClientAddress) String() string { return clientAddressNames[c] }

// Timeouts are a service's own idle times; 0 is the connection table's default.
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
