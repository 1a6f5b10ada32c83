package packet

// A Reason says why a frame was not forwarded. The zero Reason means it was.
// Its String is the label of the drop in metrics and in fnatctl.
type Reason uint8

const (
	Kept Reason = iota

	// Found while parsing.
	ShortFrame      // frame ends inside a header
	NotIP           // neither IPv4 nor IPv6
	BadIPHeader     // version, header length or total length contradict each other
	BadTCPHeader    // data offset or an option length points outside the segment
	BadUDPLength    // UDP length is below 8 or above what the datagram holds
	BadICMP         // ICMP message too short for its type
	Fragment        // a fragment whose first one, which alone has ports, did not come
	FragmentOverlap // a fragment that overlaps one that came before (RFC 5722), or came twice
	TinyFragment    // a first fragment that ends inside the headers, or a later one that overlaps them
	BadProtocol     // neither TCP nor UDP nor an ICMP message that fnatd handles

	// Found while forwarding.
	NotOurs       // destination is neither a VIP nor a LIP
	TTLExceeded   // TTL or hop limit ran out
	BadFlags      // a combination of TCP flags that no sender makes
	NoService     // no service has this VIP, port and protocol
	NoConn        // segment of no connection, and none may begin with it
	NoServer      // the service has no real server that may take a connection
	NoLocalPort   // every port of every LIP is in use toward this real server
	TableFull     // max_connections reached and nothing half-open to replace
	NoChecksum    // UDP without a checksum, which IPv6 requires
	NoCounterpart // the other IP version has nothing that means the same (RFC 7915)
	NoRoute       // no route to the next hop
	NoNeighbour   // next hop's MAC address is not known yet
	TooBig        // larger than the next hop's MTU
	TxFull        // transmit ring stayed full
	NoFrame       // no free frame for a packet of fnatd's own
	StaleQuote    // ICMP error that quotes a sequence number not under way
	ErrorLimit    // ICMP error beyond those that may pass in a second
	BadCookie     // ACK of no connection that brings no good cookie
	Refused       // of a connection that no real server has taken
	NotHeld       // came before its real server was connected, and found no place to wait in
	ACKStorm      // one ACK too many that says the same as the last ones
	NoticeReply   // echo reply to a UDP notice; consumed, not an error
	CookieACK     // ACK that has brought a cookie, or repeats it; consumed, not an error
	NumReasons

	// Held is the verdict on a frame that is kept to be forwarded later: no drop,
	// and not counted as one.
	Held
)

var reasonNames = [NumReasons]string{
	Kept: "kept", FragmentOverlap: "fragment_overlap", ShortFrame: "short_frame", NotIP: "not_ip", BadIPHeader: "bad_ip_header",
	BadTCPHeader: "bad_tcp_header", BadUDPLength: "bad_udp_length", BadICMP: "bad_icmp",
	Fragment: "fragment", TinyFragment: "tiny_fragment", BadProtocol: "bad_protocol", NotOurs: "not_ours",
	TTLExceeded: "ttl_exceeded", BadFlags: "bad_flags", NoService: "no_service",
	NoConn: "no_conn", NoServer: "no_server", NoLocalPort: "no_local_port",
	TableFull: "table_full", NoChecksum: "no_checksum", NoCounterpart: "no_counterpart",
	NoRoute: "no_route", NoNeighbour: "no_neighbour",
	TooBig: "too_big", TxFull: "tx_full", NoFrame: "no_frame",
	StaleQuote: "stale_quote", ErrorLimit: "error_limit", BadCookie: "bad_cookie", Refused: "refused",
	NotHeld: "not_held", ACKStorm: "ack_storm", NoticeReply: "notice_reply", CookieACK: "cookie_ack",
}

// Consumed reports whether r is not the loss of a packet: it was meant for fnatd, and
// has done what it came for.
func (r Reason) Consumed() bool { return r == NoticeReply || r == CookieACK }

func (r Reason) String() string {
	if r < NumReasons {
		return reasonNames[r]
	}
	return "unknown"
}
