package conntrack

import (
	"encoding/binary"

	"github.com/fnatd/fnatd/internal/packet"
)

// A kind is what an index entry leads to a connection by. It goes into the hash,
// so that flows of different kinds never meet.
type kind uint8

const (
	inbound  kind = iota // client to virtual address
	outbound             // real server to local address
	template             // persistence
	entry                // of the registry: a checksum
)

// A Key is a flow prepared for lookup: hashed, and with its shard known. It can
// be made, and the memory it leads to fetched, before any lock is taken.
type Key struct {
	hash  uint64
	shard uint32
	kind  kind
}

// Shard returns the number of the shard that k leads to.
func (k Key) Shard() int { return int(k.shard) }

// Outbound reports whether k is of a flow from a real server to a local address.
func (k Key) Outbound() bool { return k.kind == outbound }

// InboundKey returns the key of a flow from a client to a virtual address. Its
// shard is chosen by the hash.
func (t *Table) InboundKey(f *packet.Flow) Key { return t.FlowKey(f, false) }

// OutboundKey returns the key of a flow from a real server to a local address.
// Its shard is told by the local port, which was chosen so.
func (t *Table) OutboundKey(f *packet.Flow) Key { return t.FlowKey(f, true) }

// FlowKey is OutboundKey or InboundKey. It does not branch on which: where both
// directions come by one interface no processor can guess it.
func (t *Table) FlowKey(f *packet.Flow, isOutbound bool) Key {
	d := direction(isOutbound)
	return t.flowKey(t.hash(f, d), d, f.DstPort)
}

func direction(isOutbound bool) kind {
	if isOutbound {
		return outbound
	}
	return inbound
}

// flowKey returns the key of a flow of kind d, which is inbound or outbound, by its hash.
// It does not branch on which, either.
func (t *Table) flowKey(hash uint64, d kind, dstPort uint16) Key {
	byPort := -uint32(d) // all ones for outbound, or zero
	return Key{hash, (uint32(hash)&^byPort | uint32(dstPort)&byPort) & t.shardMask, d}
}

// TemplateKey returns the key of the persistence template for a client's masked
// address and a virtual endpoint.
func (t *Table) TemplateKey(proto uint8, client packet.Addr, virtual packet.Endpoint) Key {
	f := packet.Flow{Src: client, Dst: virtual.Addr, DstPort: virtual.Port, Proto: proto}
	h := t.hash(&f, template)
	return Key{h, uint32(h) & t.shardMask, template}
}

// hash returns the keyed hash of f as a flow of kind d. Its upper half chooses
// the bucket, its lower half is the tag and, but for outbound flows, the shard.
func (t *Table) hash(f *packet.Flow, d kind) uint64 {
	rest := restOf(f.SrcPort, f.DstPort, f.Proto, d)
	if addrs, ok := addrsOf(&f.Src, &f.Dst); ok {
		return t.key.Sum2(addrs, rest)
	}
	return t.key.Sum5(
		binary.LittleEndian.Uint64(f.Src[0:]), binary.LittleEndian.Uint64(f.Src[8:]),
		binary.LittleEndian.Uint64(f.Dst[0:]), binary.LittleEndian.Uint64(f.Dst[8:]),
		rest)
}

// addrsOf and restOf return what is hashed of a flow of IPv4. It is not ok for addresses
// of other families, of which all is hashed, and the rest.
func addrsOf(src, dst *packet.Addr) (addrs uint64, ok bool) {
	return uint64(binary.LittleEndian.Uint32(src[12:]))<<32 | uint64(binary.LittleEndian.Uint32(dst[12:])),
		src.Is4() && dst.Is4()
}

func restOf(srcPort, dstPort uint16, proto uint8, d kind) uint64 {
	return uint64(srcPort)<<48 | uint64(dstPort)<<32 | uint64(proto)<<8 | uint64(d)
}
