package tests

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
)

// A watched connection is one that was captured before and after fnatd.
type watched struct {
	*bed
	name                string
	peer, virtual, real netip.AddrPort

	in, out [2][]segment // before and after fnatd
	option  []byte       // that tells the server its client
	onSYN   bool
	strip   bool
	told    int    // segments that carried it
	shift   uint32 // from the client's sequence numbers to those the server gets
	clock   uint32 // from the client's timestamps to those the server gets
}

// read ends the captures when all that went in has come out. What comes after that
// moment, such as the last acknowledgement, is not looked at.
func (w *watched) read(client, server *netns.Capture) {
	w.Helper()
	split := func(c, s []netns.Frame) {
		atClient, atServer := segments(c), segments(s)
		w.in[0] = only(atClient, func(s *segment) bool { return s.sent && s.src == w.peer })
		w.in[1] = only(atServer, func(s *segment) bool { return !s.sent && s.dst == w.real })
		w.out[0] = only(atServer, func(s *segment) bool { return s.sent && s.src == w.real })
		w.out[1] = only(atClient, func(s *segment) bool { return !s.sent && s.dst == w.peer })
	}
	w.eventually("what entered fnatd has left it", func() bool {
		split(client.Frames(), server.Frames())
		closed := only(w.in[0], func(s *segment) bool { return s.flags.Has(packet.FIN) })
		return len(closed) > 0 && len(w.in[0]) == len(w.in[1]) && len(w.out[0]) == len(w.out[1])
	})
	w.frames(client)
	w.frames(server)
}

// checkInbound compares each of the client's segments with what the server got.
func (w *watched) checkInbound() {
	w.Helper()
	w.shift = w.in[1][0].seq - w.in[0][0].seq
	if w.shift == 0 {
		w.Errorf("%s: the server got the client's own initial sequence number", w.name)
	}
	if !w.strip {
		w.clock = timestamp(w.in[1][0].options) - timestamp(w.in[0][0].options)
		if w.clock == 0 {
			w.Errorf("%s: the server got the client's own timestamps", w.name)
		}
	}
	local := w.in[1][0].src
	if a := local.Addr(); a != w.lip(0) && a != w.lip(1) {
		w.Errorf("%s: the server's peer is %v, want a LIP", w.name, local)
	}
	firstData := w.out[1][0].seq + 1
	full, later := uint16(0), 0
	var all []segment
	for _, s := range w.in[0] {
		want := w.carried(s, w.families.client, w.families.server)
		want.src, want.dst = local, w.real
		want.seq += w.shift
		syn := s.flags.Has(packet.SYN)
		if w.strip && syn {
			want.options = eachTimestamp(s.options, func(o []byte) { copy(o, bytes.Repeat([]byte{1}, 10)) })
		} else {
			want.options = eachTimestamp(s.options, func(o []byte) { add(o[2:], w.clock) })
		}
		if syn {
			w.setMSS(want.options, 1500-20-headerLen(w.families.client), 1500-20-w.longestHeader())
		}
		if tell := syn && w.onSYN || !syn && s.ack == firstData; tell && len(w.option) > 0 {
			want.options = append(bytes.Clone(w.option), want.options...)
			want.length += uint16(len(w.option))
			w.told++
			full = max(full, want.length)
		} else if len(s.payload) > 0 {
			later += len(s.payload)
		}
		all = append(all, want)
	}
	w.same(w.in[1], all)
	if len(w.option) == 0 {
		return
	}
	// The third ACK, four messages of which one is long; what was sent after the
	// first answer goes without.
	if largest := uint16(1500 - w.longestHeader() + headerLen(w.families.server)); full != largest || w.told < 4+(64<<10)/1460 || later != len("later") {
		w.Errorf("%s: %d segments with the option, the longest of %d bytes, and %d bytes without; want the whole upload, %d, %d",
			w.name, w.told, full, later, largest, len("later"))
	}
}

// checkOutbound compares each of the server's segments with what the client got.
func (w *watched) checkOutbound() {
	w.Helper()
	var all []segment
	for _, s := range w.out[0] {
		want := w.carried(s, w.families.server, w.families.client)
		want.src, want.dst = w.virtual, w.peer
		want.ack -= w.shift
		want.options = eachTimestamp(s.options, func(o []byte) { add(o[6:], -w.clock) })
		want.options = eachOption(want.options, sack, func(o []byte) {
			for edges := o[2:]; len(edges) >= 4; edges = edges[4:] {
				add(edges, -w.shift)
			}
		})
		if s.flags.Has(packet.SYN) {
			w.setMSS(want.options, 1500-20-headerLen(w.families.server), 1500-20-w.longestHeader()-len(w.option))
		}
		all = append(all, want)
	}
	w.same(w.out[1], all)
}

// carried returns a segment as fnatd is to send it on between IP versions, but for
// what tells its connection: the hop is counted, and an IPv4 header made of an
// IPv6 one forbids fragments if that is larger than any IPv6 network takes (RFC
// 7915, section 5.1).
func (w *watched) carried(s segment, from, to int) segment {
	s.sent = false
	s.ttl--
	s.length += uint16(headerLen(to) - headerLen(from))
	if from == to {
		return s
	}
	s.label, s.id, s.frag = 0, 0, 0
	if to == 4 && s.length > 1260 {
		s.frag = 0x4000
	}
	return s
}

// setMSS checks that options begin with an MSS of was, and makes it is.
func (w *watched) setMSS(options []byte, was, is int) {
	w.Helper()
	if !bytes.HasPrefix(options, []byte{2, 4, byte(was >> 8), byte(was)}) {
		w.Fatalf("%s: options of a SYN: got % x, want an MSS of %d first", w.name, options, was)
	}
	binary.BigEndian.PutUint16(options[2:], uint16(is))
}

func equal(a, b netip.AddrPort) bool { return a == b }

// same checks that what left fnatd is what was wanted. The rig's bridge may have
// changed the order, since the kernel queues a bridge's frames by CPU.
func (w *watched) same(got, want []segment) {
	w.Helper()
	less := func(a, b segment) int {
		return cmp.Or(cmp.Compare(a.seq, b.seq), cmp.Compare(a.length, b.length), cmp.Compare(a.ack, b.ack), cmp.Compare(a.id, b.id))
	}
	for i := range got {
		if w.translated() && got[i].frag == 0 {
			got[i].id = 0 // any will do
		}
	}
	slices.SortFunc(got, less)
	slices.SortFunc(want, less)
	for i := range want {
		if diff := gocmp.Diff(got[i], want[i], gocmp.AllowUnexported(segment{}), gocmp.Comparer(equal)); diff != "" {
			w.Errorf("%s: after fnatd: got - want +\n%s", w.name, diff)
		}
	}
}

// Kinds of TCP options that have what fnatd translates.
const (
	sack       = 5 // RFC 2018: length 2+8n, n pairs of sequence numbers
	timestamps = 8 // RFC 7323: length 10, the sender's clock, the echo of the other's
)

// eachTimestamp is eachOption for timestamps.
func eachTimestamp(options []byte, do func(o []byte)) []byte {
	return eachOption(options, timestamps, do)
}

// eachOption returns options changed by what do does to those of one kind.
func eachOption(options []byte, kind byte, do func(o []byte)) []byte {
	all := bytes.Clone(options)
	for i := 0; i < len(all) && all[i] != 0; {
		n := 1
		if all[i] != 1 {
			n = int(all[i+1])
		}
		if all[i] == kind {
			do(all[i : i+n])
		}
		i += n
	}
	return all
}

// timestamp returns the sender's clock in options.
func timestamp(options []byte) (clock uint32) {
	eachTimestamp(options, func(o []byte) { clock = binary.BigEndian.Uint32(o[2:]) })
	return clock
}

// add adds n to the number at the head of b.
func add(b []byte, n uint32) { binary.BigEndian.PutUint32(b, binary.BigEndian.Uint32(b)+n) }
