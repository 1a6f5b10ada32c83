package conntrack

import "github.com/fnatd/fnatd/internal/packet"

// Rows of the transition table: the one control bit of a segment that counts.
const (
	onSYN = iota
	onFIN
	onACK
	onRST
	numEvents
)

// Short names, so that the table can be read against its source.
const (
	no = None
	es = Established
	ss = SynSent
	sr = SynReceived
	fw = FinWait
	tw = TimeWait
	cl = Closed
	cw = CloseWait
	la = LastAck
	li = Listen
	sa = SynAck
)

// tcpNext is LVS-FULLNAT's table: that of IPVS, except that a client's SYN does
// not take an established connection back (it may be forged), and that a stray
// ACK revives neither TimeWait nor Closed.
var tcpNext = [2][numEvents][SynAck + 1]State{
	{ // inbound, from the client
		//     NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
		onSYN: {sr, es, es, sr, sr, sr, sr, sr, sr, sr, sr},
		onFIN: {cl, cw, ss, tw, tw, tw, cl, cw, la, li, tw},
		onACK: {cl, es, ss, es, fw, tw, cl, cw, cl, li, es},
		onRST: {cl, cl, cl, sr, cl, cl, cl, cl, la, li, sr},
	},
	{ // outbound, from the real server
		//     NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
		onSYN: {ss, es, ss, sr, ss, ss, ss, ss, ss, li, sr},
		onFIN: {tw, fw, ss, tw, fw, tw, cl, tw, la, li, tw},
		onACK: {es, es, ss, es, fw, tw, cl, cw, la, es, es},
		onRST: {cl, cl, ss, cl, cl, tw, cl, cl, cl, cl, cl},
	},
}

// NextState returns the state that a TCP connection enters from state from by a
// segment with flags f. RST counts before SYN, SYN before FIN, FIN before ACK. A
// segment with none of them changes nothing, nor does one in a state that is not
// TCP's.
func NextState(from State, outbound bool, f packet.TCPFlags) State {
	if from > SynAck {
		return from
	}
	var event int
	switch {
	case f.Has(packet.RST):
		event = onRST
	case f.Has(packet.SYN):
		event = onSYN
	case f.Has(packet.FIN):
		event = onFIN
	case f.Has(packet.ACK):
		event = onACK
	default:
		return from
	}
	direction := 0
	if outbound {
		direction = 1
	}
	return tcpNext[direction][event][from]
}
