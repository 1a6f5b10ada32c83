package packet

import (
	"encoding/binary"
	"math/bits"
)

// A PlainSYN is a packet that opens a TCP connection, of the kind that nearly all such are:
// IPv4 or IPv6 without options or extension headers, whole and in one buffer, with some
// way to go. It can be made its own answer in place. A Packet, which can do that too,
// costs more.
//
// The zero PlainSYN is none; only what Read or ReadTagged has filled has methods.
type PlainSYN struct {
	Ends
	ISN     uint32        // the initial sequence number
	link    *[ethLen]byte // of a frame with VLAN tags: its first bytes
	Options SYNOptions
}

// The options of Linux's SYN: MSS, SACK permitted and timestamps, window scale. Their bytes, and offsets.
const (
	linuxSYNLen   = 20
	linuxScaleAt  = 16
	linuxValAt    = 8
	linuxMSSShift = 32
)

// ReadTagged is Read for a frame with VLAN tags; of one without it reports false.
func (s *PlainSYN) ReadTagged(frame *[TaggedRoom]byte, size int) bool {
	tags := tagsLen(frame)
	if tags == 0 || !s.Read((*[PlainRoom]byte)(frame[tags:]), size-tags) {
		return false
	}
	s.link, s.tags = (*[ethLen]byte)(frame[:]), uint8(tags)
	return true
}

// Read makes s the packet in the first size bytes of what begins with head, which may
// be padded, and reports whether it is such a SYN, without VLAN tags. If it is, Parse
// keeps it too, and says the same of it.
func (s *PlainSYN) Read(head *[PlainRoom]byte, size int) bool {
	end, proto, ok := plainIPv4((*[plainL4]byte)(head[:]))
	room, l4 := end-plainL4, (*[tcpMaxLen]byte)(head[plainL4:])
	s.six, s.tags = !ok, 0
	if !ok {
		end, proto, ok = plainIPv6((*[plainL4of6]byte)(head[:]))
		room, l4 = end-plainL4of6, (*[tcpMaxLen]byte)(head[plainL4of6:])
	}
	// Offset, flags and window are one word.
	third := binary.BigEndian.Uint32(l4[tcpOffset:])
	header := int(third >> 28 * 4)
	if !ok || end > size || proto != ProtoTCP || TCPFlags(third>>16)&(SYN|FIN|RST|ACK) != SYN ||
		header < tcpMinLen || room < header {
		return false
	}
	s.head = head
	s.Addrs = binary.LittleEndian.Uint64(head[plainIP+ipv4Src:])
	s.Ports = binary.BigEndian.Uint32(l4[:])
	s.ISN = binary.BigEndian.Uint32(l4[tcpSeq:])
	return s.readOptions(l4[tcpMinLen:header])
}

// readOptions reads o, and reports whether it is well-formed. It sets the options one by
// one: to copy a struct just after its parts were written costs a store's latency.
func (s *PlainSYN) readOptions(o []byte) bool {
	if len(o) == linuxSYNLen {
		front, scale := binary.BigEndian.Uint64(o), binary.BigEndian.Uint32(o[linuxScaleAt:])
		if front>>48 == headMSS && uint32(front) == headSACKStamp && scale>>8 == headScale {
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
// options, as Build and AnswerLink would, which goes back to where the SYN came from. It
// returns the bytes of the frame. What s says stays as it was read.
func (s *PlainSYN) Answer(seq uint32, window uint16, o *SYNOptions) int {
	link := (*[ethLen]byte)(s.head[:])
	if s.tags != 0 {
		link = s.link
	}
	low, high := binary.LittleEndian.Uint64(link[ethDst:]), binary.LittleEndian.Uint32(link[ethDst+8:])
	binary.LittleEndian.PutUint64(link[ethDst:], low>>48|uint64(high)<<16|low<<48) // source, and two bytes of destination
	binary.LittleEndian.PutUint32(link[ethDst+8:], uint32(low>>16))                // the rest of it

	h, l4 := s.head, (*[tcpMaxLen]byte)(s.head[plainL4:])
	if s.six {
		l4 = (*[tcpMaxLen]byte)(h[plainL4of6:])
	}
	size, sum := o.put(l4[tcpMinLen:])
	size += tcpMinLen
	all := plainL4 + size
	if s.six {
		all = plainL4of6 + size
		binary.BigEndian.PutUint64(h[plainIP:], 6<<60|uint64(size)<<16|ProtoTCP<<8|defaultTTL)
		sum = onesAdd(sum, swap6(h[plainIP+ipv6Src:]))
	} else {
		addrs := bits.ReverseBytes64(s.Addrs)
		bothAddrs := addrs>>32 + addrs&0xffff_ffff
		first := uint32(4<<4|ipv4MinLen/4)<<24 | uint32(ipv4MinLen+size)
		third := uint32(defaultTTL)<<24 | ProtoTCP<<16
		ipSum := ^fold(uint64(first) + ipv4DF + uint64(third) + bothAddrs)
		binary.BigEndian.PutUint64(h[plainIP:], uint64(first)<<32|ipv4DF)
		binary.BigEndian.PutUint32(h[plainIP+ipv4TTL:], third|uint32(ipSum))
		binary.LittleEndian.PutUint64(h[plainIP+ipv4Src:], s.Addrs<<32|s.Addrs>>32)
		sum += bothAddrs
	}

	ports := s.Ports<<16 | s.Ports>>16
	numbers := uint64(seq)<<32 | uint64(s.ISN+1)
	rest := uint32(size/4)<<28 | uint32(SYN|ACK)<<16 | uint32(window)
	sum = onesAdd(onesAdd(sum, uint64(ports)+uint64(rest)+ProtoTCP+uint64(size)), numbers)
	binary.BigEndian.PutUint32(l4[:], ports)
	binary.BigEndian.PutUint64(l4[tcpSeq:], numbers)
	binary.BigEndian.PutUint64(l4[tcpOffset:], uint64(rest)<<32|uint64(^fold(sum))<<16)
	return int(s.tags) + all
}

// swap6 exchanges two IPv6 addresses, and returns the sum of both.
func swap6(b []byte) uint64 {
	b = b[:2*len(Addr{})]
	src0, src1 := binary.BigEndian.Uint64(b[0:]), binary.BigEndian.Uint64(b[8:])
	dst0, dst1 := binary.BigEndian.Uint64(b[16:]), binary.BigEndian.Uint64(b[24:])
	binary.BigEndian.PutUint64(b[0:], dst0)
	binary.BigEndian.PutUint64(b[8:], dst1)
	binary.BigEndian.PutUint64(b[16:], src0)
	binary.BigEndian.PutUint64(b[24:], src1)
	return onesAdd(onesAdd(src0, src1), onesAdd(dst0, dst1))
}
