package packettest_test

import (
	"bytes"
	"testing"

	"github.com/fnatd/fnatd/internal/packettest"
)

func TestFragmentsComeTogether(t *testing.T) {
	payload := bytes.Repeat([]byte("0123456789a"), 300)
	hop := packettest.Link{FirstExtension: 0, Extensions: []byte{60, 0, 1, 4, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0}, LastExtension: 8}
	for name, f := range map[string]packettest.Frame{
		"v4":      packettest.UDP{Src: src4, Dst: dst4, Payload: payload}.Frame(),
		"options": packettest.TCP{Src: src4, Dst: dst4, Payload: payload, Link: packettest.Link{VLAN: []uint16{7}, IPOptions: []byte{1, 1, 1, 0}, Pad: 5}}.Frame(),
		"v6":      packettest.UDP{Src: src6, Dst: dst6, Payload: payload}.Frame(),
		"hop":     packettest.UDP{Src: src6, Dst: dst6, Payload: payload, Link: hop}.Frame(),
	} {
		t.Run(name, func(t *testing.T) {
			pieces := packettest.Fragments(f, 1001)
			if len(pieces) != 4 {
				t.Fatalf("got %d fragments, want 4", len(pieces))
			}
			for _, p := range pieces {
				packettest.CheckSums(t, p.Bytes())
			}
			pieces[0], pieces[3] = pieces[3], pieces[0]
			whole := packettest.Reassemble(pieces)
			packettest.CheckSums(t, whole.Bytes())
			p, want := whole.Parse(t), f.Parse(t)
			if p.Flow != want.Flow || !bytes.Equal(p.Buf[p.L4:p.End], want.Buf[want.L4:want.End]) {
				t.Errorf("got %v and %d bytes, want %v and %d", p.Flow, p.IPLen(), want.Flow, want.IPLen())
			}
			defer func() {
				if recover() == nil {
					t.Error("a hole was not seen")
				}
			}()
			packettest.Reassemble(append(pieces[:1:1], pieces[2:]...))
		})
	}
}
