package packettest

import (
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
)

// Fragments cuts the IP datagram in f, which is not a fragment, into fragments of
// at most mtu bytes, as its sender would. Padding is left out. The identification
// is made of the datagram's bytes, so that two datagrams rarely have the same.
func Fragments(f Frame, mtu int) []Frame {
	l3, version := network(f.Bytes())
	ethernet, b := f.Bytes()[:l3], f.Bytes()[l3:]
	if version == 4 {
		return fragments4(ethernet, b[:binary.BigEndian.Uint16(b[2:])], mtu)
	}
	return fragments6(ethernet, b[:40+int(binary.BigEndian.Uint16(b[4:]))], mtu)
}

// network returns where the IP header stands in a frame, and its version.
func network(frame []byte) (l3, version int) {
	at := 12
	for binary.BigEndian.Uint16(frame[at:]) == 0x8100 || binary.BigEndian.Uint16(frame[at:]) == 0x88a8 {
		at += 4
	}
	return at + 2, int(frame[at+2] >> 4)
}

func fragments4(ethernet, b []byte, mtu int) (all []Frame) {
	head := int(b[0]&15) * 4
	id, payload := sum(b[head:]), b[head:]
	for at, n := range pieces(len(payload), mtu-head) {
		h := slices.Clone(b[:head])
		binary.BigEndian.PutUint16(h[2:], uint16(head+n))
		binary.BigEndian.PutUint16(h[4:], id)
		bits := uint16(at / 8)
		if at+n < len(payload) {
			bits |= 0x2000
		}
		binary.BigEndian.PutUint16(h[6:], bits)
		h[10], h[11] = 0, 0
		binary.BigEndian.PutUint16(h[10:], ^sum(h))
		all = append(all, NewFrame(slices.Concat(ethernet, h, payload[at:at+n])))
	}
	return all
}

// fragments6 puts hop-by-hop options and a routing header into every fragment,
// destination options into the payload (RFC 8200, section 4.5).
func fragments6(ethernet, b []byte, mtu int) (all []Frame) {
	next, head := 6, 40
	for b[next] == 0 || b[next] == 43 {
		next, head = head, head+8+int(b[head+1])*8
	}
	id, payload := uint32(sum(b[head:]))|0x10000, b[head:]
	for at, n := range pieces(len(payload), mtu-head-8) {
		h := slices.Clone(b[:head])
		binary.BigEndian.PutUint16(h[4:], uint16(head-40+8+n))
		bits := uint16(at)
		if at+n < len(payload) {
			bits |= 1
		}
		h = append(h, h[next], 0)
		h[next] = 44
		h = binary.BigEndian.AppendUint16(h, bits)
		h = binary.BigEndian.AppendUint32(h, id)
		all = append(all, NewFrame(slices.Concat(ethernet, h, payload[at:at+n])))
	}
	return all
}

// pieces yields offset and length of the pieces of at most room bytes into which
// size bytes are cut; all but the last are a multiple of eight.
func pieces(size, room int) iter.Seq2[int, int] {
	return func(yield func(at, n int) bool) {
		for at := 0; at < size; at += room &^ 7 {
			n := size - at
			if n > room {
				n = room &^ 7
			}
			if !yield(at, n) {
				return
			}
		}
	}
}

// Reassemble returns the datagram of which frames, in any order, are all the
// fragments, behind the headers of the first one. It panics if something is
// missing, or if two are not of one datagram.
func Reassemble(frames []Frame) Frame {
	all := make([]fragment, len(frames))
	for i, f := range frames {
		all[i] = newFragment(f.Bytes())
	}
	slices.SortFunc(all, func(a, b fragment) int { return a.at - b.at })
	b := slices.Clone(all[0].head)
	size := 0
	for i, f := range all {
		if f.at != size || f.id != all[0].id || f.more != (i+1 < len(all)) {
			panic(fmt.Sprintf("fragment %d of %d: %+v does not fit at %d", i, len(all), f, size))
		}
		b = append(b, f.data...)
		size += len(f.data)
	}
	l3, version := network(b)
	if version == 6 {
		binary.BigEndian.PutUint16(b[l3+4:], uint16(len(b)-l3-40))
		return NewFrame(b)
	}
	h := b[l3 : l3+int(b[l3]&15)*4]
	binary.BigEndian.PutUint16(h[2:], uint16(len(b)-l3))
	h[6], h[7], h[10], h[11] = 0, 0, 0, 0
	binary.BigEndian.PutUint16(h[10:], ^sum(h))
	return NewFrame(b)
}

// A fragment is what reassembly needs of one.
type fragment struct {
	head []byte // everything before the piece, without fragment header
	id   uint32
	at   int
	more bool
	data []byte
}

func newFragment(b []byte) fragment {
	l3, version := network(b)
	if h := b[l3:]; version == 4 {
		bits, head := binary.BigEndian.Uint16(h[6:]), l3+int(h[0]&15)*4
		return fragment{
			head: b[:head], id: uint32(binary.BigEndian.Uint16(h[4:])), at: int(bits&0x1fff) * 8, more: bits&0x2000 != 0,
			data: b[head : l3+int(binary.BigEndian.Uint16(h[2:]))],
		}
	}
	next, at := l3+6, l3+40
	for b[next] != 44 {
		next, at = at, at+8+int(b[at+1])*8
	}
	head, bits := slices.Clone(b[:at]), binary.BigEndian.Uint16(b[at+2:])
	head[next] = b[at]
	return fragment{
		head: head, id: binary.BigEndian.Uint32(b[at+4:]), at: int(bits &^ 7), more: bits&1 != 0,
		data: b[at+8 : l3+40+int(binary.BigEndian.Uint16(b[l3+4:]))],
	}
}
