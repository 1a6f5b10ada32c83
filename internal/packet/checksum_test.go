package packet

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// slowChecksum is RFC 1071 word by word.
func slowChecksum(b []byte) Sum {
	var s uint32
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		s += w
		s = s&0xffff + s>>16
	}
	return Sum(^uint16(s))
}

func TestChecksum(t *testing.T) {
	// The example of RFC 1071, section 3: the words add up to ddf2.
	if got, want := Checksum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}), ^Sum(0xddf2); got != want {
		t.Errorf("Checksum of RFC 1071's example: got %#04x, want %#04x", got, want)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 200 {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32()) | byte(r.Uint32()) // many carries
		}
		if got, want := Checksum(b), slowChecksum(b); got != want {
			t.Errorf("Checksum(% x): got %#04x, want %#04x", b, got, want)
		}
	}
}

func TestSumReplace(t *testing.T) {
	t.Run("rfc1624_example", func(t *testing.T) {
		// RFC 1624, section 4: the corner case that equation 4 gets wrong.
		if got, want := Sum(0xdd2f).Replace16(0x5555, 0x3285), Sum(0x0000); got != want {
			t.Errorf("got %#04x, want %#04x", got, want)
		}
	})
	t.Run("equals_full", func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 4))
		edge := []uint64{0, 1, 0xffff, 0xffff0000, 0xffffffff, 0xffffffff_ffffffff}
		for range 20000 {
			b := make([]byte, 24)
			for i := 0; i < len(b); i += 8 {
				binary.BigEndian.PutUint64(b[i:], r.Uint64()&edge[r.IntN(len(edge))])
			}
			b[0] |= 0x40 // as in a real header, not everything is zero
			at, v := 2+2*r.IntN(7), r.Uint64()&edge[r.IntN(len(edge))]
			s := Checksum(b)
			var got Sum
			switch r.IntN(4) {
			case 0:
				got = s.Replace16(binary.BigEndian.Uint16(b[at:]), uint16(v))
				binary.BigEndian.PutUint16(b[at:], uint16(v))
			case 1:
				got = s.Replace32(binary.BigEndian.Uint32(b[at:]), uint32(v))
				binary.BigEndian.PutUint32(b[at:], uint32(v))
			case 2:
				got = s.amend(delta(0).replace(binary.BigEndian.Uint64(b[at:]), v))
				binary.BigEndian.PutUint64(b[at:], v)
			case 3:
				got = s.amend(delta(0).replace(uint64(binary.BigEndian.Uint32(b[at+1:])), uint64(uint32(v))).odd())
				binary.BigEndian.PutUint32(b[at+1:], uint32(v))
			}
			if want := slowChecksum(b); got != want {
				t.Fatalf("% x from %#04x, %#x at %d: got %#04x, want %#04x", b, s, v, at, got, want)
			}
		}
	})
}

func TestFold(t *testing.T) {
	for _, c := range []struct {
		in   uint64
		want uint16
	}{
		{0, 0}, {1, 1}, {0xffff, 0xffff}, {0x10000, 1}, {0xffffffff_ffffffff, 0xffff},
		{0xffffffff_00000001, 1}, {0x00010001_00010001, 4}, {0x8000_0000_0000_0000, 0x8000},
	} {
		if got := fold(c.in); got != c.want {
			t.Errorf("fold(%#x): got %#04x, want %#04x", c.in, got, c.want)
		}
	}
}

func TestSeq(t *testing.T) {
	for _, c := range []struct {
		a, b         uint32
		less, lessEq bool
	}{
		{1, 2, true, true}, {2, 1, false, false}, {7, 7, false, true},
		{0xffffffff, 0, true, true}, {0, 0xffffffff, false, false},
		{0xf0000000, 0x10000000, true, true},
	} {
		if got := SeqLess(c.a, c.b); got != c.less {
			t.Errorf("SeqLess(%#x, %#x): got %v, want %v", c.a, c.b, got, c.less)
		}
		if got := SeqLessEq(c.a, c.b); got != c.lessEq {
			t.Errorf("SeqLessEq(%#x, %#x): got %v, want %v", c.a, c.b, got, c.lessEq)
		}
	}
	for _, c := range []struct {
		seq, first, size uint32
		want             bool
	}{
		{10, 10, 1, true}, {11, 10, 1, false}, {9, 10, 100, false}, {10, 10, 0, false},
		{5, 0xfffffff0, 0x20, true}, {0x10, 0xfffffff0, 0x20, false},
	} {
		if got := SeqInWindow(c.seq, c.first, c.size); got != c.want {
			t.Errorf("SeqInWindow(%#x, %#x, %#x): got %v, want %v", c.seq, c.first, c.size, got, c.want)
		}
	}
}
