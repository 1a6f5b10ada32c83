package packet

import "encoding/binary"

// ARP operations (RFC 826).
const (
	ARPRequest = 1
	ARPReply   = 2
)

const (
	arpOp        = 6
	arpSenderMAC = 8
	arpSenderIP  = 14
	arpTargetMAC = 18
	arpTargetIP  = 24
	arpLen       = 28

	// arpIPv4OverEthernet is what the first six bytes of such a message say:
	// hardware 1, protocol 0x0800, address lengths 6 and 4.
	arpIPv4OverEthernet = 0x0001_0800_0604
)

// ARP is a view of an ARP message for IPv4 over Ethernet (RFC 826). An ARP comes
// from ParseARP, which has checked its length; accessors do not check again.
type ARP []byte

// ParseARP returns b, which follows the Ethernet header, as an ARP message. It
// reports false if b is too short or not about IPv4 over Ethernet.
func ParseARP(b []byte) (ARP, bool) {
	if len(b) < arpLen || binary.BigEndian.Uint64(b)>>16 != arpIPv4OverEthernet {
		return nil, false
	}
	return ARP(b[:arpLen]), true
}

// Op returns the operation: ARPRequest or ARPReply.
func (a ARP) Op() uint16 { return binary.BigEndian.Uint16(a[arpOp:]) }

// SenderMAC returns the sender's MAC address.
func (a ARP) SenderMAC() [6]byte { return [6]byte(a[arpSenderMAC:]) }

// Sender returns the sender's IPv4 address.
func (a ARP) Sender() Addr { return AddrFrom4(a[arpSenderIP:]) }

// TargetMAC returns the target's MAC address, zero in a request.
func (a ARP) TargetMAC() [6]byte { return [6]byte(a[arpTargetMAC:]) }

// Target returns the target's IPv4 address.
func (a ARP) Target() Addr { return AddrFrom4(a[arpTargetIP:]) }
