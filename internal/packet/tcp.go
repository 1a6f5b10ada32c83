package packet

import "encoding/binary"

// Offsets in a TCP header (RFC 9293, section 3.1).
const (
	tcpSeq    = 4
	tcpAck    = 8
	tcpOffset = 12
	tcpFlags  = 13
	tcpWindow = 14
	tcpSum    = 16
	tcpUrgent = 18
	tcpMinLen = 20
	tcpMaxLen = 60
)

// TCPFlags are the control bits of a TCP header (RFC 9293, section 3.1).
type TCPFlags uint8

// The control bits.
const (
	FIN TCPFlags = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE // RFC 3168
	CWR // RFC 3168
)

// Has reports whether all the bits of g are set in f.
func (f TCPFlags) Has(g TCPFlags) bool { return f&g == g }

// Any reports whether one of the bits of g is set in f.
func (f TCPFlags) Any(g TCPFlags) bool { return f&g != 0 }

// String returns the set bits as letters, "SA" for SYN and ACK; "." if none is.
func (f TCPFlags) String() string {
	const letters = "FSRPAUEC"
	b := make([]byte, 0, len(letters))
	for i := range letters {
		if f&(1<<i) != 0 {
			b = append(b, letters[i])
		}
	}
	if len(b) == 0 {
		return "."
	}
	return string(b)
}

// TCP is a view of a TCP header with its options, which came from Packet.Parse
// or from a builder; accessors do not check its length.
type TCP []byte

// SrcPort returns the source port.
func (t TCP) SrcPort() uint16 { return binary.BigEndian.Uint16(t) }

// DstPort returns the destination port.
func (t TCP) DstPort() uint16 { return binary.BigEndian.Uint16(t[2:]) }

// Seq returns the sequence number.
func (t TCP) Seq() uint32 { return binary.BigEndian.Uint32(t[tcpSeq:]) }

// Ack returns the acknowledgement number, which means something only if ACK is set.
func (t TCP) Ack() uint32 { return binary.BigEndian.Uint32(t[tcpAck:]) }

// HeaderLen returns the bytes of the header, options included.
func (t TCP) HeaderLen() int { return int(t[tcpOffset]>>4) * 4 }

// Flags returns the control bits.
func (t TCP) Flags() TCPFlags { return TCPFlags(t[tcpFlags]) }

// Window returns the window as sent, not scaled.
func (t TCP) Window() uint16 { return binary.BigEndian.Uint16(t[tcpWindow:]) }

// Sum returns the checksum.
func (t TCP) Sum() Sum { return Sum(binary.BigEndian.Uint16(t[tcpSum:])) }

// Urgent returns the urgent pointer.
func (t TCP) Urgent() uint16 { return binary.BigEndian.Uint16(t[tcpUrgent:]) }

// Options returns the option area.
func (t TCP) Options() []byte { return t[tcpMinLen:] }

func (t TCP) setSum(s Sum) { binary.BigEndian.PutUint16(t[tcpSum:], uint16(s)) }
