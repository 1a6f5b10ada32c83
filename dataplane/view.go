package dataplane

import (
	"time"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/lb"
)

// A View is everything that workers read and never write: the operator's table
// joined with the IDs under which connections know its parts. It is immutable;
// a reload makes a new one.
type View struct {
	Table    *lb.Table
	Services []*Service // by lb.Service.Index

	generation uint64
	addrs      addrSet
	targets    []*Target         // by conntrack.BindingID; nil where no connection can be
	forged     *packet.StripList // options that no client may send
	guarded    bool              // some service may answer SYNs by cookies
}

// A Service is an lb.Service with what the packet path adds to it.
type Service struct {
	*lb.Service
	Meter *Meter // kept over reloads
	Guard *Guard // of a TCP service, kept over reloads

	bindings    []conntrack.BindingID // by lb.Server.Index
	locals      []conntrack.LocalID
	timeouts    conntrack.Timeouts
	persistence uint32 // ms
	inserts     bool   // ClientAddress is a TCP option
}

// A Target is what workers need to know of a binding: the real server behind
// it and the service by whose settings its connections live. It outlasts the
// real server's leaving the table for as long as connections do.
type Target struct {
	Service *Service
	Server  *lb.Server
	Meter   *Meter // kept over reloads
	Gone    bool   // the real server has left the table

	carried    conntrack.State // in which its connections' plain packets go the short way
	silence    uint32          // ms that a connection may be silent in that state
	unanswered uint32          // likewise one of UDP that has had no answer
	converts   bool            // its connections' packets change their IP version
}

// service returns the service at a virtual endpoint, or nil.
func (v *View) service(proto uint8, at packet.Endpoint) *Service {
	if s := v.Table.Service(proto, at); s != nil {
		return v.Services[s.Index]
	}
	return nil
}

// Target returns the target of a binding, or nil.
func (v *View) Target(b conntrack.BindingID) *Target {
	if int(b) >= len(v.targets) {
		return nil
	}
	return v.targets[b]
}

// ServerMeter returns the meter of a real server of service s.
func (v *View) ServerMeter(s *Service, server *lb.Server) *Meter {
	return v.targets[s.bindings[server.Index]].Meter
}

// IdleTimeout is how long an established connection, or a UDP flow in both
// directions, may be silent.
func (s *Service) IdleTimeout() time.Duration {
	return time.Duration(s.timeouts[s.steady()]) * time.Millisecond
}

// steady returns the state of a connection that both ends have opened.
func (s *Service) steady() conntrack.State {
	if s.Proto == packet.ProtoUDP {
		return conntrack.UDP
	}
	return conntrack.Established
}

// optionLen returns how long the client-address option for client is, or 0 if
// the service inserts none.
func (s *Service) optionLen(client *packet.Addr) int {
	if !s.inserts {
		return 0
	}
	return s.Option.Len(client)
}

// timeouts returns the connection timeouts of a service: its own where it sets
// them, the defaults elsewhere.
func timeouts(own lb.Timeouts) conntrack.Timeouts {
	t := conntrack.DefaultTimeouts()
	for st, d := range map[conntrack.State]int64{
		conntrack.Established: own.Established.Milliseconds(),
		conntrack.SynSent:     own.SynSent.Milliseconds(),
		conntrack.SynReceived: own.SynReceived.Milliseconds(),
		conntrack.FinWait:     own.FinWait.Milliseconds(),
		conntrack.TimeWait:    own.TimeWait.Milliseconds(),
		conntrack.Closed:      own.Close.Milliseconds(),
		conntrack.CloseWait:   own.CloseWait.Milliseconds(),
		conntrack.LastAck:     own.LastAck.Milliseconds(),
		conntrack.UDP:         own.UDP.Milliseconds(),
		conntrack.UDPOneWay:   own.UDPOneWay.Milliseconds(),
	} {
		if d > 0 {
			t[st] = uint32(d)
		}
	}
	return t
}
