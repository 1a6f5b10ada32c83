package packet

import "encoding/binary"

// EtherTypes (IANA; IEEE 802.1Q for the tags).
const (
	EtherTypeIPv4 = 0x0800
	EtherTypeARP  = 0x0806
	EtherTypeVLAN = 0x8100 // 802.1Q customer tag
	EtherTypeIPv6 = 0x86dd
	EtherTypeQinQ = 0x88a8 // 802.1ad service tag
)

const (
	ethDst  = 0
	ethSrc  = 6
	ethType = 12
	ethLen  = 14

	tagLen      = 4
	tagID       = 0x0fff // bits of the tag control information
	tagPriority = 0xf000 // of it that are not the identifier: PCP and DEI

	// maxTags is how many VLAN tags a frame may carry: one service and one
	// customer tag (IEEE 802.1ad).
	maxTags = 2
)

// EthernetLen and MaxEthernetLen are the bytes of an Ethernet header without VLAN
// tags and with as many as fnatd knows.
const (
	EthernetLen    = ethLen
	MaxEthernetLen = ethLen + maxTags*tagLen
)

// isTag reports whether an EtherType is that of a VLAN tag.
func isTag(kind uint16) bool { return kind == EtherTypeVLAN || kind == EtherTypeQinQ }

// Ethernet is a view of an Ethernet header with its VLAN tags, which came from
// Packet.Parse or from a builder; accessors do not check its length.
type Ethernet []byte

// Dst returns the destination's MAC address.
func (e Ethernet) Dst() [6]byte { return [6]byte(e[ethDst:]) }

// Src returns the source's MAC address.
func (e Ethernet) Src() [6]byte { return [6]byte(e[ethSrc:]) }

// SetMACs sets the destination and the source.
func (e Ethernet) SetMACs(dst, src [6]byte) {
	copy(e[ethDst:], dst[:])
	copy(e[ethSrc:], src[:])
}

// Type returns the EtherType of what follows the header and its tags.
func (e Ethernet) Type() uint16 { return binary.BigEndian.Uint16(e[len(e)-2:]) }

// Tags returns how many VLAN tags the header carries.
func (e Ethernet) Tags() int { return (len(e) - ethLen) / tagLen }

// VLANs returns the VLANs that the header's tags name.
func (e Ethernet) VLANs() (v VLANs) {
	for i := range min(e.Tags(), maxTags) {
		at := ethType + i*tagLen
		v[i] = VLAN{Type: binary.BigEndian.Uint16(e[at:]), ID: e.Tag(i).ID()}
	}
	return v
}

// Tag returns the i-th VLAN tag, the outermost first.
func (e Ethernet) Tag(i int) VLANTag {
	return VLANTag(binary.BigEndian.Uint16(e[ethLen+i*tagLen:]))
}

// A VLANTag is the tag control information of an 802.1Q or 802.1ad tag.
type VLANTag uint16

// ID returns the VLAN identifier, 0 to 4095; 0 means priority only.
func (t VLANTag) ID() uint16 { return uint16(t) & tagID }

// Priority returns the priority code point, 0 to 7.
func (t VLANTag) Priority() uint8 { return uint8(t >> 13) }
