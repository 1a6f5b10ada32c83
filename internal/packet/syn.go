package packet

import "encoding/binary"

// A PlainSYN is a packet that opens a TCP connection, of the kind that nearly all such are:
// IPv4 without options or VLAN tags, whole and in one buffer, with some way to go. It
// can be made its own answer in place. A Packet, which can do that too, costs more.
//
// The zero PlainSYN is none; only what Read has filled has methods.
type PlainSYN struct {
	head    *[SYNRoom]byte
	Addrs   uint64 // IPv4 source and destination, as the header has them (big-endian)
	Ports   uint32 // likewise
	ISN     uint32 // the initial sequence number
	Options SYNOptions
}

// SYNRoom is how many bytes of a frame's buffer Read wants, whatever there is of the
// frame: the longest headers of such a packet.
const SYNRoom = plainL4 + tcpMaxLen

// synOptionsAt is where a PlainSYN's options are.
const synOptionsAt = plainL4 + tcpMinLen

// The options of Linux's SYN: MSS, SACK permitted and timestamps, window scale.
const (
	linuxSYNLen   = 20
	linuxMSS      = optMSS<<8 | optMSSLen
	linuxSACK     = optSACKPermitted<<24 | optSACKPermittedLen<<16 | optTimestamps<<8 | optTimestampsLen
	linuxScale    = optNOP<<16 | optScale<<8 | optScaleLen
	linuxStamps   = 4 // offsets
	linuxScaleAt  = 16
	linuxValAt    = 8
	linuxMSSShift = 32
)

// Read makes s the packet in the first size bytes of what begins with head, which may
// be padded, and reports whether it is such a SYN. If it is, Parse keeps it too, and
// says the same of it.
func (s *PlainSYN) Read(head *[SYNRoom]byte, size int) bool {
	end, proto, ok := plainIPv4((*[plainL4]byte)(head[:]))
	// Offset, flags and window are one word.
	third := binary.BigEndian.Uint32(head[plainL4+tcpOffset:])
	header := int(third >> 28 * 4)
	if !ok || end > size || proto != ProtoTCP || TCPFlags(third>>16)&(SYN|FIN|RST|ACK) != SYN ||
		header < tcpMinLen || end < plainL4+header {
		return false
	}
	s.head = head
	s.Addrs = binary.BigEndian.Uint64(head[plainIP+ipv4Src:])
	s.Ports = binary.BigEndian.Uint32(head[plainL4:])
	s.ISN = binary.BigEndian.Uint32(head[plainL4+tcpSeq:])
	return s.readOptions(head[synOptionsAt : plainL4+header])
}

// readOptions reads o, and reports whether it is well-formed. It sets the options one by
// one: to copy a struct just after its parts were written costs a store's latency.
func (s *PlainSYN) readOptions(o []byte) bool {
	if len(o) == linuxSYNLen {
		front, scale := binary.BigEndian.Uint64(o), binary.BigEndian.Uint32(o[linuxScaleAt:])
		if front>>48 == linuxMSS && uint32(front) == linuxSACK && scale>>8 == linuxScale {
			stamps := binary.BigEndian.Uint64(o[linuxValAt:])
			to := &s.Options
			to.MSS, to.Scale = uint16(front>>linuxMSSShift), min(uint8(scale), maxScale)
			to.SACK, to.Timestamps = true, true
			to.Val, to.Ecr = uint32(stamps>>32), uint32(stamps)
			return true
		}
	}
	s.Options = synOptions(o)
	return optionsValid(o)
}

// Answer makes of the packet's frame the SYN-ACK with this sequence number, window and
// options, as Build would, which goes back to where the SYN came from. It returns the
// bytes of the frame. What s says stays as it was read.
func (s *PlainSYN) Answer(seq uint32, window uint16, o *SYNOptions) int {
	h := s.head
	low, high := binary.LittleEndian.Uint64(h[ethDst:]), binary.LittleEndian.Uint32(h[ethDst+8:])
	binary.LittleEndian.PutUint64(h[ethDst:], low>>48|uint64(high)<<16|low<<48) // source, and two bytes of destination
	binary.LittleEndian.PutUint32(h[ethDst+8:], uint32(low>>16))                // the rest of it

	addrs, ports := s.Addrs<<32|s.Addrs>>32, s.Ports<<16|s.Ports>>16
	size, sum := o.put(h[synOptionsAt:])
	size += tcpMinLen
	bothAddrs := s.Addrs>>32 + s.Addrs&0xffff_ffff
	first := uint32(4<<4|ipv4MinLen/4)<<24 | uint32(ipv4MinLen+size)
	third := uint32(defaultTTL)<<24 | ProtoTCP<<16
	ipSum := ^fold(uint64(first) + ipv4DF + uint64(third) + bothAddrs)
	binary.BigEndian.PutUint64(h[plainIP:], uint64(first)<<32|ipv4DF)
	binary.BigEndian.PutUint32(h[plainIP+ipv4TTL:], third|uint32(ipSum))
	binary.BigEndian.PutUint64(h[plainIP+ipv4Src:], addrs)

	numbers := uint64(seq)<<32 | uint64(s.ISN+1)
	rest := uint32(size/4)<<28 | uint32(SYN|ACK)<<16 | uint32(window)
	sum = onesAdd(sum+uint64(ports)+uint64(rest)+ProtoTCP+uint64(size)+bothAddrs, numbers)
	binary.BigEndian.PutUint32(h[plainL4:], ports)
	binary.BigEndian.PutUint64(h[plainL4+tcpSeq:], numbers)
	binary.BigEndian.PutUint64(h[plainL4+tcpOffset:], uint64(rest)<<32|uint64(^fold(sum))<<16)
	return plainL4 + size
}
