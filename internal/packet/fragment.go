package packet

import "encoding/binary"

// A fragment header of IPv6 (RFC 8200, section 4.5).
const (
	extFragmentBits = 2 // offset, two reserved bits, M flag
	extFragmentID   = 4
	extFragmentLen  = 8

	extMF     = 0x0001 // "more fragments"
	extOffset = 0xfff8 // fragment offset; a multiple of eight where it stands
)

// fragmentHeader is a view of a fragment header.
type fragmentHeader []byte

// isPiece reports whether the datagram is a fragment of another.
func (h fragmentHeader) isPiece() bool {
	return binary.BigEndian.Uint16(h[extFragmentBits:])&(extMF|extOffset) != 0
}

// piece returns which piece of its datagram a fragment is, as IPv4's does.
func (h fragmentHeader) piece() (id uint32, offset int, more bool) {
	bits := binary.BigEndian.Uint16(h[extFragmentBits:])
	return binary.BigEndian.Uint32(h[extFragmentID:]), int(bits & extOffset), bits&extMF != 0
}

// Fragment reports whether p is a fragment, and which piece of its datagram: the
// datagram's identification, of 16 bits over IPv4, the offset of the piece in
// bytes, and whether more follow. The piece is what stands behind the IPv4 header,
// or behind the fragment header.
func (p *Packet) Fragment() (id uint32, offset int, more, ok bool) {
	if !p.isFragment() {
		return 0, 0, false, false
	}
	if p.Version == 4 {
		id, offset, more = p.IPv4().piece()
	} else {
		x, _ := skipExtensions(p.Buf[p.L3:p.End])
		id, offset, more = fragmentHeader(p.Buf[p.L3+x.fragment:]).piece()
	}
	return id, offset, more, true
}

// isFragment is the last result of Fragment alone.
func (p *Packet) isFragment() bool {
	if p.Version == 4 {
		return p.IPv4().IsFragment()
	}
	_, why := skipExtensions(p.Buf[p.L3:p.End])
	return why == Fragment
}

// HasTransport reports whether p holds its transport header, as everything does
// but a fragment other than the first. Without it there are no ports and no
// checksum: TCP, UDP and the methods that concern them must not be called, while
// Translate, Convert and DecrementTTL do what is left to do.
//
// In a first fragment the transport header stands whole, and changes to it are
// carried along by the checksum as in any packet. What would move the payload,
// as InsertOption, is refused: the other pieces would no longer fit.
func (p *Packet) HasTransport() bool { return p.Payload > p.L4 }

// parseFragment parses b, the piece of a datagram that begins offset bytes behind
// its headers, of which the IP header and what belongs to it is head bytes.
func (p *Packet) parseFragment(b []byte, head, offset int, more bool) Reason {
	switch {
	case len(b) == 0:
		return TinyFragment
	case more && (len(b)+p.Tail)%8 != 0 || head+offset+len(b)+p.Tail > 0xffff:
		// RFC 8200, section 4.5, which holds for RFC 791's as well: the next piece
		// could not begin where this one ends; the whole could not tell its length.
		return BadIPHeader
	case offset != 0:
		return p.parseLaterFragment(offset)
	}
	why := BadProtocol
	switch p.Flow.Proto {
	case ProtoTCP:
		// RFC 1858, section 3, and RFC 7112, section 5: a filter that sees only the
		// first fragment must see all of the header, options included.
		if len(b) < tcpMinLen || len(b) < TCP(b).HeaderLen() {
			return TinyFragment
		}
		why = p.parseTCP(b)
	case ProtoUDP:
		why = p.parseUDP(b, 0xffff) // eight bytes at least, as more follow
	}
	if why != Kept {
		return why
	}
	return Fragment
}

// parseLaterFragment makes p a fragment that begins at offset, behind the first.
func (p *Packet) parseLaterFragment(offset int) Reason {
	switch {
	case p.Flow.Proto == ProtoTCP && offset < tcpMinLen:
		// RFC 3128: it would overwrite the header that the first fragment showed.
		return TinyFragment
	case p.Flow.Proto == ProtoTCP || p.Flow.Proto == ProtoUDP:
	case p.Version == 6 && isExtension(p.Flow.Proto):
		// Headers that the first fragment holds; only it tells the transport.
	default:
		return BadProtocol
	}
	p.Payload = p.L4
	p.Flow.SrcPort, p.Flow.DstPort = 0, 0
	p.Flags = 0
	return Fragment
}

// MayFragment reports whether a router may cut p into fragments: IPv4 without DF
// (RFC 791, section 2.3). Over IPv6 only the sender may (RFC 8200, section 5).
func (p *Packet) MayFragment() bool { return p.Version == 4 && !p.IPv4().DontFragment() }
