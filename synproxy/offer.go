package synproxy

// An Offer is what SYN-ACKs say for a service: what its real servers would say
// themselves, as far as that is known.
type Offer struct {
	MSS        uint16 // largest segment that clients may send
	Window     uint16 // unscaled, as a SYN-ACK's always is (RFC 7323, section 2.2)
	Scale      uint8  // window scale, at most 14, or NoScale
	SACK       bool
	Timestamps bool
}

// Answer returns what a SYN-ACK says to a client that offers o: nothing that it has
// not offered itself (RFC 7323, sections 2.2 and 3.2, RFC 2018, section 2), except
// the MSS, which is each end's own.
func (f *Offer) Answer(o *Options) (a Offer) {
	f.AnswerIn(&a, o)
	return a
}

// AnswerIn is Answer that sets a to it, part by part: to copy a struct just after its
// parts were written costs a store's latency.
func (f *Offer) AnswerIn(a *Offer, o *Options) {
	a.MSS, a.Window, a.Scale = f.MSS, f.Window, f.Scale
	if o.Scale == NoScale {
		a.Scale = NoScale
	}
	a.SACK = f.SACK && o.SACK
	a.Timestamps = f.Timestamps && o.Timestamps
}

// Least returns what both f and g can keep.
func (f *Offer) Least(g *Offer) Offer {
	return Offer{
		MSS:        min(f.MSS, g.MSS),
		Window:     min(f.Window, g.Window),
		Scale:      leastScale(f.Scale, g.Scale),
		SACK:       f.SACK && g.SACK,
		Timestamps: f.Timestamps && g.Timestamps,
	}
}

// leastScale returns the smaller of two window scales, which NoScale is.
func leastScale(a, b uint8) uint8 {
	if a == NoScale || b == NoScale {
		return NoScale
	}
	return min(a, b)
}

// Pack returns f as one word, which is not zero, for whoever has to store it
// atomically.
func (f *Offer) Pack() uint64 {
	word := uint64(f.MSS) | uint64(f.Window)<<16 | uint64(f.Scale)<<32 | 1<<63
	if f.SACK {
		word |= 1 << 40
	}
	if f.Timestamps {
		word |= 1 << 41
	}
	return word
}

// UnpackOffer is the inverse of Offer.Pack.
func UnpackOffer(word uint64) Offer {
	return Offer{
		MSS: uint16(word), Window: uint16(word >> 16), Scale: uint8(word >> 32),
		SACK: word>>40&1 != 0, Timestamps: word>>41&1 != 0,
	}
}
