package packettest

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

// sum returns the one's complement sum of b's 16-bit words, word by word as RFC
// 1071 tells it.
func sum(parts ...[]byte) uint16 {
	var s uint32
	for _, b := range parts {
		for i, c := range b {
			if i&1 == 0 {
				s += uint32(c) << 8
			} else {
				s += uint32(c)
			}
			s = s&0xffff + s>>16
		}
	}
	return uint16(s)
}

// pseudo returns the pseudo-header of a transport segment of size bytes, or
// nothing for ICMP over IPv4, whose checksum covers none.
func pseudo(src, dst packet.Addr, proto uint8, size int) []byte {
	switch {
	case proto == packet.ProtoICMP:
		return nil
	case src.Is4():
		b := append(append([]byte{}, src[12:]...), dst[12:]...)
		return append(b, 0, proto, byte(size>>8), byte(size))
	}
	b := append(append([]byte{}, src[:]...), dst[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	return append(b, 0, 0, 0, proto)
}

// putSum puts the checksum of the transport segment b at its offset at.
func putSum(b []byte, at int, src, dst packet.Addr, proto uint8) {
	b[at], b[at+1] = 0, 0
	binary.BigEndian.PutUint16(b[at:], ^sum(pseudo(src, dst, proto, len(b)), b))
}

// CheckSums verifies every checksum of an Ethernet frame in full, and that its
// length fields agree with its length, padding excepted. A UDP checksum of zero
// passes over IPv4. The transport's checksum in a fragment covers more than the
// frame holds: Reassemble them first. It fails the test otherwise.
func CheckSums(t testing.TB, frame []byte) {
	t.Helper()
	if err := VerifySums(frame); err != nil {
		t.Errorf("frame % x: %v", frame, err)
	}
}

// VerifySums is CheckSums for callers without a test at hand.
func VerifySums(frame []byte) error {
	l3, version := network(frame)
	kind := binary.BigEndian.Uint16(frame[l3-2:])
	switch b := frame[l3:]; {
	case kind == 0x0800 && version == 4:
		return verifyIPv4(b)
	case kind == 0x86dd && version == 6:
		return verifyIPv6(b)
	}
	return fmt.Errorf("EtherType %#04x, version %d: neither IPv4 nor IPv6", kind, version)
}

func verifyIPv4(b []byte) error {
	head, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if total > len(b) || head > total {
		return fmt.Errorf("IPv4 header %d and total length %d do not fit %d bytes", head, total, len(b))
	}
	if s := sum(b[:head]); s != 0xffff {
		return fmt.Errorf("IPv4 header checksum is wrong: all words add up to %#04x", s)
	}
	if b[6]&0x3f|b[7] != 0 { // a fragment
		return nil
	}
	return verifyTransport(packet.AddrFrom4(b[12:]), packet.AddrFrom4(b[16:]), b[9], b[head:total])
}

func verifyIPv6(b []byte) error {
	total := 40 + int(binary.BigEndian.Uint16(b[4:]))
	if total > len(b) {
		return fmt.Errorf("IPv6 payload length %d does not fit %d bytes", total-40, len(b))
	}
	next, at := b[6], 40
	for {
		switch next {
		case 0, 43, 60:
			next, at = b[at], at+8+int(b[at+1])*8
		case 44:
			if b[at+2]|b[at+3]&^6 != 0 { // not an atomic one
				return nil
			}
			next, at = b[at], at+8
		default:
			return verifyTransport(packet.AddrFrom16(b[8:]), packet.AddrFrom16(b[24:]), next, b[at:total])
		}
	}
}

func verifyTransport(src, dst packet.Addr, proto uint8, b []byte) error {
	switch proto {
	case packet.ProtoUDP:
		size := int(binary.BigEndian.Uint16(b[4:]))
		if size < 8 || size > len(b) {
			return fmt.Errorf("UDP length %d does not fit %d bytes", size, len(b))
		}
		if b = b[:size]; b[6]|b[7] == 0 && src.Is4() {
			return nil
		}
	case packet.ProtoTCP, packet.ProtoICMP, packet.ProtoICMPv6:
	default:
		return fmt.Errorf("protocol %d has no checksum known here", proto)
	}
	if s := sum(pseudo(src, dst, proto, len(b)), b); s != 0xffff {
		return fmt.Errorf("checksum of protocol %d is wrong: all words add up to %#04x", proto, s)
	}
	return nil
}
