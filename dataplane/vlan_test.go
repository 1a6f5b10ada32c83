package dataplane

import (
	"net/netip"
	"testing"
	"time"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// The client is in VLAN 5 of the port towards it, the real servers in VLAN 6
// within VLAN 7 of theirs.
var (
	wanVLANs = packet.VLANs{{Type: packet.EtherTypeVLAN, ID: 5}}
	lanVLANs = packet.VLANs{{Type: packet.EtherTypeQinQ, ID: 7}, {Type: packet.EtherTypeVLAN, ID: 6}}
)

// tagged has both networks in VLANs instead of on the ports themselves.
func tagged(w *world, _ *Config, _ *conntrack.Config) {
	w.router.table = route.Static(1, []route.StaticPort{
		wan: {MAC: wanMAC, MTU: 1500, VLANs: []route.StaticVLAN{{
			VLANs: wanVLANs, Networks: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/24")},
			Neighbours: map[netip.Addr][6]byte{netip.MustParseAddr("198.18.0.2"): clientMAC},
		}}},
		lan: {MAC: lanMAC, MTU: 1500, VLANs: []route.StaticVLAN{{
			VLANs: lanVLANs, Networks: []netip.Prefix{netip.MustParsePrefix("198.19.0.0/24")},
			Neighbours: map[netip.Addr][6]byte{netip.MustParseAddr("198.19.0.101"): realMAC},
		}}},
	})
}

func checkLink(t *testing.T, what string, p *packet.Packet, dst, src [6]byte, v packet.VLANs) {
	t.Helper()
	if e := p.Ethernet(); e.Dst() != dst || e.Src() != src || e.VLANs() != v {
		t.Errorf("%s: got %x from %x in %v, want %x from %x in %v", what, e.Dst(), e.Src(), e.VLANs(), dst, src, v)
	}
}

func TestVLANs(t *testing.T) {
	t.Run("each_side_gets_the_tags_of_its_next_hop", func(t *testing.T) {
		w := newWorld(t, tcpService, tagged)
		k, syn := w.syn(client, clientISN)
		checkLink(t, "SYN", syn, realMAC, lanMAC, lanVLANs)
		checkLink(t, "SYN-ACK", k.synAck(), clientMAC, wanMAC, wanVLANs)
		ack := k.pass(wan, k.fromClient(packet.ACK, "", "x"))
		checkLink(t, "ACK", ack, realMAC, lanMAC, lanVLANs)
		if !hasTOA(ack) {
			t.Error("the ACK lacks the option: both need headroom")
		}
	})
	t.Run("untagged_towards_an_untagged_hop", func(t *testing.T) {
		w := newWorld(t, udpService)
		f := packettest.UDP{Link: packettest.Link{SrcMAC: clientMAC, VLAN: []uint16{5, 6}}, Src: client, Dst: vipUDP}.Frame()
		w.put(wan, f.Bytes())
		for _, frame := range w.run()[lan] {
			checkLink(t, "frame", packettest.NewFrame(frame).Parse(t), realMAC, lanMAC, packet.VLANs{})
		}
	})
	t.Run("priority_is_kept", func(t *testing.T) {
		w := newWorld(t, udpService, tagged)
		w.ask(client)
		p := w.pass(wan, packettest.UDP{Link: packettest.Link{VLAN: []uint16{0xb005}}, Src: client, Dst: vipUDP}.Frame())
		if got := p.Ethernet().Tag(0); got != 0xb007 {
			t.Errorf("outer tag: got %#04x, want 0xb007", got)
		}
	})
	t.Run("of_the_client_are_reflected_and_followed", func(t *testing.T) {
		w := newWorld(t, tcpService, reflectMAC)
		k, _ := w.syn(client, clientISN)
		for _, tags := range [][]uint16{{5}, {6, 5}, nil} {
			w.pass(wan, packettest.TCP{
				Link: packettest.Link{SrcMAC: clientMAC, VLAN: tags}, Src: client, Dst: vip, Flags: packet.SYN, Seq: clientISN,
			}.Frame())
			var want packet.VLANs
			for i, id := range tags {
				want[i] = packet.VLAN{Type: packet.EtherTypeVLAN, ID: id}
			}
			if len(tags) == 2 {
				want[0].Type = packet.EtherTypeQinQ
			}
			checkLink(t, "SYN-ACK", k.synAck(), clientMAC, wanMAC, want)
		}
	})
	t.Run("on_notices_and_resets_too", func(t *testing.T) {
		w := newWorld(t, udpService, tagged)
		notice, _ := w.ask(client)
		checkLink(t, "notice", notice, realMAC, lanMAC, lanVLANs)

		w = newWorld(t, tcpService, tagged)
		w.connect(client)
		sent := w.wait(91 * time.Second)
		if len(sent[wan]) != 1 || len(sent[lan]) != 1 {
			t.Fatalf("got %d and %d frames, want a RST to each end", len(sent[wan]), len(sent[lan]))
		}
		checkLink(t, "RST", packettest.NewFrame(sent[wan][0]).Parse(t), clientMAC, wanMAC, wanVLANs)
		checkLink(t, "RST", packettest.NewFrame(sent[lan][0]).Parse(t), realMAC, lanMAC, lanVLANs)
	})
}
