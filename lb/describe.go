package lb

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/internal/packet"
)

func (p *Pool) object() *object {
	title := fmt.Sprintf("local_pool %q", p.Name)
	o := &object{subject: p.subject(), title: title, ordinal: title}
	o.set("interface", p.Interface)
	o.set("addresses", ranges(p.Addrs))
	o.set("ports", fmt.Sprintf("%d-%d", p.PortMin, p.PortMax))
	return o
}

func (s *Service) title() string { return fmt.Sprintf("service %q", s.Name) }

func (s *Service) ordinal() string {
	return s.title() + " " + number(s.Virtual) + string(rune(s.Proto))
}

func (s *Service) object() *object {
	o := &object{subject: s.Subject(), title: s.title(), ordinal: s.ordinal()}
	o.set("name", strconv.Quote(s.Name))
	o.set("protocol", protocolName(s.Proto))
	o.set("address", s.Virtual.String())
	o.set("interface", s.Interface)
	o.set("local_pool", strconv.Quote(s.Pool.Name))
	o.set("scheduler", s.Scheduler)
	o.set("hash_port", flag(s.HashPort))
	o.set("fallback", flag(s.Fallback))
	o.set("client_address", s.clientAddress())
	o.set("timestamps", s.timestamps())
	s.SYNProxy.describe(o)
	o.set("persistence", span(s.Persistence))
	if g := s.Granularity(); g < s.Virtual.Addr.Netip().BitLen() {
		o.set("persistence_granularity", strconv.Itoa(g))
	}
	if s.Drain != config.DefaultDrain {
		o.set("drain", s.Drain.String())
	}
	t := &s.Timeouts
	for _, timeout := range []struct {
		key   string
		value time.Duration
	}{
		{"established", t.Established}, {"syn_sent", t.SynSent}, {"syn_received", t.SynReceived},
		{"fin_wait", t.FinWait}, {"time_wait", t.TimeWait}, {"close", t.Close},
		{"close_wait", t.CloseWait}, {"last_ack", t.LastAck}, {"udp", t.UDP}, {"udp_one_way", t.UDPOneWay},
	} {
		if timeout.value != 0 {
			o.set("timeout."+timeout.key, timeout.value.String())
		}
	}
	o.failover(&s.Failover)
	return o
}

// clientAddress returns the way of telling the client's address with what
// belongs to it.
func (s *Service) clientAddress() string {
	text := s.ClientAddress.String()
	switch s.ClientAddress {
	case TOA:
		text += fmt.Sprintf(" (kind6 %d)", s.Option.Kind6)
	case TTM:
		text += fmt.Sprintf(" (kind %d, length %d)", s.Option.Kind4, s.Option.TTMLength)
	case ICMPEcho:
		text += fmt.Sprintf(" (length %d)", s.NoticeLength)
	}
	if s.OptionOnSYN {
		text += " on the SYN too"
	}
	return text
}

// timestamps returns what becomes of TCP timestamps, or "" for UDP.
func (s *Service) timestamps() string {
	switch {
	case s.Proto != packet.ProtoTCP:
		return ""
	case s.StripTimestamps:
		return "strip"
	default:
		return "translate"
	}
}

func (s *Server) object() *object {
	o := &object{
		subject: s.Subject(),
		title:   fmt.Sprintf("%s: real_server %s", s.Service.title(), s.Real),
		ordinal: s.Service.ordinal() + number(s.Real),
	}
	o.set("weight", strconv.Itoa(s.Configured))
	o.set("upper_threshold", count(s.Upper))
	o.set("lower_threshold", count(s.Lower))
	o.set("health", checks(s.Checks))
	o.set("notify_up", command(s.NotifyUp))
	o.set("notify_down", command(s.NotifyDown))
	return o
}

// looksLike reports whether s and o, the same real server of two tables, have
// the same description. It is to say so without making one.
func (s *Server) looksLike(o *Server) bool {
	return s.Configured == o.Configured && s.Upper == o.Upper && s.Lower == o.Lower &&
		slices.Equal(o.NotifyUp, s.NotifyUp) && slices.Equal(o.NotifyDown, s.NotifyDown) &&
		slices.EqualFunc(o.Checks, s.Checks, func(a, b Check) bool { return a.Text == b.Text })
}

// number returns e in a form that sorts as a number does.
func number(e packet.Endpoint) string {
	return string(binary.BigEndian.AppendUint16(e.Addr[:], e.Port))
}

// The following return "" for what is the default.

func flag(on bool) string {
	if on {
		return "on"
	}
	return ""
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func span(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

func protocolName(proto uint8) string {
	for name, number := range protocols {
		if number == proto {
			return string(name)
		}
	}
	return strconv.Itoa(int(proto))
}

// ranges lists addresses, those that follow one another as a range.
func ranges(addrs []packet.Addr) string {
	var texts []string
	for i := 0; i < len(addrs); i++ {
		first := i
		for i+1 < len(addrs) && addrs[i].Netip().Next() == addrs[i+1].Netip() {
			i++
		}
		text := addrs[first].String()
		if i > first {
			text += "-" + addrs[i].String()
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, " ")
}
