package dataplane

import (
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/packet"
)

// Signs in the traffic that a real server is down. They take nothing out: they
// are counted, and whoever checks the server's health checks it sooner.

// noteRetry is for a client's SYN that comes again.
func (w *Worker) noteRetry(c *conntrack.Conn) {
	if !heardReal(c) {
		w.ledger.row(c.Binding()).Unanswered++
	}
}

// noteReset is for a real server's RST.
func (w *Worker) noteReset(c *conntrack.Conn) {
	if c.State == conntrack.SynReceived && !heardReal(c) {
		w.ledger.row(c.Binding()).Refused++
	}
}

// noteError is for an ICMP error about a packet to the real server: if that has
// reached nobody, and of TCP it was the SYN.
func (w *Worker) noteError(c *conntrack.Conn, p *packet.Packet) {
	m := p.ICMP()
	lost := m.Type() == packet.ICMPv6Unreachable
	if p.Version == 4 {
		lost = m.Type() == packet.ICMPUnreachable && m.Code() != packet.ICMPFragNeeded
	}
	udp := c.State == conntrack.UDP || c.State == conntrack.UDPOneWay
	if lost && (udp || !heardReal(c)) {
		w.ledger.row(c.Binding()).Refused++
	}
}
