package ctl

import "github.com/fnatd/fnatd/internal/packet"

// Reasons of drops that happen before a worker sees the packet. The kernel
// counts them.
const (
	RxRingFull    = "rx_ring_full"
	FillRingEmpty = "fill_ring_empty"
	Unserved      = "unserved"
	Orphaned      = "orphaned"
)

// NewDrop returns the Drop of a reason, which is the String of a
// packet.Reason or one of the constants of this package, with its explanation.
func NewDrop(reason string, count uint64) Drop {
	e := explanations[reason]
	return Drop{reason, count, e.meaning, e.remedy}
}

// NewDrops returns a Drop for each packet.Reason but Kept.
func NewDrops(counts *[packet.NumReasons]uint64) []Drop {
	drops := make([]Drop, 0, packet.NumReasons+3)
	for r := packet.Kept + 1; r < packet.NumReasons; r++ {
		drops = append(drops, NewDrop(r.String(), counts[r]))
	}
	return drops
}

// An explanation is for an operator who sees the count rise.
type explanation struct{ meaning, remedy string }

const (
	malformed = "malformed or forged traffic if few; a faulty link or driver if many: capture it with tcpdump on the sender's side"
	nothing   = "nothing, this is normal"
)

// explanations has one entry for every reason; a test keeps it complete.
var explanations = map[string]explanation{
	packet.ShortFrame.String():      {"frame ends inside a header", malformed},
	packet.NotIP.String():           {"neither IPv4 nor IPv6", malformed},
	packet.BadIPHeader.String():     {"IP version, header length and total length contradict each other", malformed},
	packet.BadTCPHeader.String():    {"TCP data offset or an option's length points outside the segment", malformed},
	packet.BadUDPLength.String():    {"UDP length does not fit the datagram", malformed},
	packet.BadICMP.String():         {"ICMP message that is malformed, or an echo reply to none of fnatd's notices", malformed},
	packet.Fragment.String():        {"an IP fragment whose first one did not come in time", "a few are normal; if many, look for a firewall that lets no fragments pass, or loss on the way"},
	packet.FragmentOverlap.String(): {"an IP fragment that overlaps another of its datagram, or came twice", malformed},
	packet.TinyFragment.String():    {"an IP fragment that hides part of the headers or overlaps them", malformed},
	packet.BadProtocol.String():     {"neither TCP, UDP nor an ICMP message that fnatd handles", nothing},

	packet.NotOurs.String():       {"destination is neither a VIP nor a LIP", "if it goes on after a reload, look for a host that still sends to an address that was removed"},
	packet.TTLExceeded.String():   {"TTL or hop limit ran out", "look for a routing loop between fnatd and the real servers"},
	packet.BadFlags.String():      {"TCP flags that no sender combines", "nothing: port scans look like this"},
	packet.NoService.String():     {"no service has this address, port and protocol", "if clients complain, compare with `fnatctl services`"},
	packet.NoConn.String():        {"segment of no connection that does not open one", "normal in small numbers after an idle timeout; if many, raise established in [service.timeout]"},
	packet.NoServer.String():      {"no real server may take a connection", "look at `fnatctl services`: all weights 0, or all overloaded?"},
	packet.NoLocalPort.String():   {"every port of every LIP is in use towards the real server", "add addresses to the local pool; `fnatctl locals` shows its fill"},
	packet.TableFull.String():     {"max_connections reached and nothing half-open to replace", "raise max_connections in [dataplane], or shorten timeouts"},
	packet.NoChecksum.String():    {"UDP without a checksum, which IPv6 requires: a fragment from IPv4, or a datagram over IPv6", "turn UDP checksums on at the sender, or send datagrams that fit its MTU"},
	packet.NoCounterpart.String(): {"between IPv4 and IPv6: source route, or ICMP error, that the other has no counterpart of", nothing},
	packet.NoRoute.String():       {"no route to the next hop through the interfaces of [dataplane]", "compare `ip route get` of the real server or client with interfaces"},
	packet.NoNeighbour.String():   {"the next hop's MAC address is not known yet", "a few at the start are normal; if it goes on, see `ip neigh`: does the next hop answer ARP?"},
	packet.TooBig.String():        {"larger than the next hop's MTU", "turn off GRO and LRO on the receiving interface, or make the MTUs equal"},
	packet.TxFull.String():        {"the transmit ring stayed full", "the link or the core is saturated: see `fnatctl stats`; add queues"},
	packet.NoFrame.String():       {"no free frame for a packet of fnatd's own", "raise frames in [dataplane]"},
	packet.StaleQuote.String():    {"ICMP error that quotes a sequence number which is not under way (RFC 5927)", "a few are late ones; if many, somebody forges them to slow connections down: look at their source"},
	packet.ErrorLimit.String():    {"ICMP error beyond the thousand a second that a worker lets pass", "look for their source with tcpdump: a routing loop, or forged ones"},
	packet.BadCookie.String():     {"ACK of no connection that brings no good SYN cookie", "normal after an idle timeout or a restart; if many, an ACK flood, which this is the answer to"},
	packet.Refused.String():       {"of a connection that its real server refused or did not answer", "see why: is the server up, and listening on the port that `fnatctl services` shows?"},
	packet.NotHeld.String():       {"came before its real server was connected, and found no place to wait", "look for real servers that answer late; the client sends it again"},
	packet.ACKStorm.String():      {"one bare ACK too many in a second that says what the last ones said", "nothing, unless it goes on: then capture that connection at both ends"},
	packet.NoticeReply.String():   {"answer to a UDP notice, consumed", nothing},
	packet.CookieACK.String():     {"ACK that brought a SYN cookie, consumed: the handshake with the real server takes its place", nothing},

	RxRingFull:    {"the receive ring was full when the packet arrived", "the worker is too slow: see the idle share in `fnatctl stats`; add queues, keep other work off its core"},
	FillRingEmpty: {"no frame was ready for the packet", "raise frames in [dataplane], or add queues"},
	Unserved:      {"the XDP program found no worker for the packet's queue", "expected while fnatd starts or after it was killed; and for a moment when an interface gets more queues"},
	Orphaned:      {"as unserved, but left to the kernel: no fnatd gave a sign of life for orphaned_after", "fnatd stood still for so long: look in its log why. What passed between two fnatds is counted by neither"},
}
