package packet_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// The VLANs of frames below: a customer's, and that within a service provider's.
var (
	single = packet.VLANs{{packet.EtherTypeVLAN, 5}}
	double = packet.VLANs{{packet.EtherTypeQinQ, 6}, {packet.EtherTypeVLAN, 5}}
)

func TestSetLink(t *testing.T) {
	dst, src := [6]byte{2, 0, 0, 0, 0, 1}, [6]byte{2, 0, 0, 0, 0, 2}
	for _, c := range []struct {
		name string
		had  []uint16 // tag control information of the frame's tags
		want packet.VLANs
		tags []uint32 // that it has then, with their types
	}{
		{"untagged_stays_so", nil, packet.VLANs{}, nil},
		{"tag_is_put_on", nil, single, []uint32{0x8100_0005}},
		{"two_tags_are_put_on", nil, double, []uint32{0x88a8_0006, 0x8100_0005}},
		{"tag_is_taken_off", []uint16{0x6007}, packet.VLANs{}, nil},
		{"two_tags_are_taken_off", []uint16{0x6007, 0x2008}, packet.VLANs{}, nil},
		{"priority_and_drop_eligibility_are_kept", []uint16{0x7007}, single, []uint32{0x8100_7005}},
		{"both_tags_keep_theirs", []uint16{0x7007, 0x2008}, double, []uint32{0x88a8_7006, 0x8100_2005}},
		{"one_of_two_is_the_outer", []uint16{0x7007, 0x2008}, single, []uint32{0x8100_7005}},
		{"two_of_one_are_alike", []uint16{0x7007}, double, []uint32{0x88a8_7006, 0x8100_7005}},
		{"priority_tag_counts", []uint16{0xe000}, single, []uint32{0x8100_e005}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, f := range map[string]packettest.Frame{
				"ipv4": packettest.UDP{Link: packettest.Link{VLAN: c.had}, Src: client4, Dst: virtual4}.Frame(),
				"ipv6": packettest.UDP{Link: packettest.Link{VLAN: c.had}, Src: client6, Dst: virtual6}.Frame(),
			} {
				p := f.Parse(t)
				datagram := bytes.Clone(p.Buf[p.L3:p.End])
				if !p.SetLink(dst, src, &c.want) {
					t.Fatalf("%s: no room", name)
				}
				kind := []byte{8, 0}
				if p.Version == 6 {
					kind = []byte{0x86, 0xdd}
				}
				want := append(append([]byte{}, dst[:]...), src[:]...)
				for _, tag := range c.tags {
					want = binary.BigEndian.AppendUint32(want, tag)
				}
				want = append(append(want, kind...), datagram...)
				if diff := cmp.Diff(p.Frame(), want); diff != "" {
					t.Errorf("%s: got(-) want(+)\n%s", name, diff)
				}
				if got := p.Ethernet().VLANs(); got != c.want {
					t.Errorf("%s: VLANs: got %v, want %v", name, got, c.want)
				}
			}
		})
	}
	t.Run("without_headroom_nothing_changes", func(t *testing.T) {
		f := packettest.UDP{Src: client4, Dst: virtual4}.Frame()
		buf := bytes.Clone(f.Bytes())
		var p packet.Packet
		p.Parse(buf, 0, len(buf))
		if p.SetLink(dst, src, &single) || !bytes.Equal(p.Frame(), f.Bytes()) {
			t.Errorf("got % x, want % x", p.Frame(), f.Bytes())
		}
	})
}

func TestVLANsWith(t *testing.T) {
	outer := packet.VLANs{double[0]}
	got, ok := outer.With(double[1])
	if !ok || got != double {
		t.Errorf("got %v %t, want %v", got, ok, double)
	}
	if got, ok := double.With(packet.VLAN{Type: packet.EtherTypeVLAN, ID: 9}); ok {
		t.Errorf("three tags: got %v, want that it fails", got)
	}
}
