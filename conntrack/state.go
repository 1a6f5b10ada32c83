package conntrack

// A State is what fnatd knows of a connection: a TCP state under its name of
// RFC 9293, or one of fnatd's own. The zero State marks an unused place.
type State uint8

// The states. Those from SynSent to SynAck are TCP's only.
const (
	None        State = iota
	Established       // TCP, data may flow
	SynSent           // SYN sent to the real server (by SYNPROXY)
	SynReceived       // client's SYN seen
	FinWait           // real server closed first
	TimeWait
	Closed
	CloseWait // client closed first
	LastAck
	Listen
	SynAck
	UDPOneWay // UDP, no answer of the real server yet
	UDP       // UDP, seen in both directions
	Template  // persistence: remembers a client's real server, forwards nothing
	NumStates
)

// The names are those that ipvsadm -Lc prints.
var stateNames = [NumStates]string{
	None: "NONE", Established: "ESTABLISHED", SynSent: "SYN_SENT", SynReceived: "SYN_RECV",
	FinWait: "FIN_WAIT", TimeWait: "TIME_WAIT", Closed: "CLOSE", CloseWait: "CLOSE_WAIT",
	LastAck: "LAST_ACK", Listen: "LISTEN", SynAck: "SYNACK", UDPOneWay: "UDP_ONE_WAY",
	UDP: "UDP", Template: "TEMPLATE",
}

// String returns the name of s as ipvsadm prints it.
func (s State) String() string {
	if s < NumStates {
		return stateNames[s]
	}
	return "ERR!"
}

// HalfOpen reports whether only one end has been heard, so that anyone may have
// made the connection by forged packets. When the table is full, half-open
// connections make room for new ones.
func (s State) HalfOpen() bool { return s == SynReceived || s == SynSent || s == UDPOneWay }

// isUDP reports whether a connection in state s has an alarm of its own.
func (s State) isUDP() bool { return s == UDPOneWay || s == UDP }

// Timeouts holds for each state how long, in milliseconds, a connection stays
// in it without a packet.
type Timeouts [NumStates]uint32

// DefaultTimeouts returns the timeouts that LVS-FULLNAT uses. UDPOneWay is our
// choice: 30 s as in Linux's conntrack, because what has had no answer for so
// long gets none, and until it expires anyone's forged datagram holds a port.
func DefaultTimeouts() Timeouts {
	const second = 1000
	return Timeouts{
		None:        2 * second,
		Established: 90 * second,
		SynSent:     3 * second,
		SynReceived: 30 * second,
		FinWait:     7 * second,
		TimeWait:    7 * second,
		Closed:      3 * second,
		CloseWait:   7 * second,
		LastAck:     7 * second,
		Listen:      120 * second,
		SynAck:      30 * second,
		UDPOneWay:   30 * second,
		UDP:         300 * second,
		Template:    360 * second,
	}
}
