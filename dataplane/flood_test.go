package dataplane

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// TestShortWayOfAFlood has SYNs and segments without a cookie, plain and odd ones, go
// the short way, by dozens in a batch, and then the long one.
func TestShortWayOfAFlood(t *testing.T) {
	w := newWorld(t, guarded("")+udpService+guarded6)
	r := rand.New(rand.NewPCG(5, 6))
	options := []string{synOptions, synOptions, "", onlyStamps, "\x02\x04\x05\xb4\x01\x03\x03\x08\x01\x01\x04\x02", "\x03\x03\x0f\x01", "\x04\x09\x00\x00"}
	flags := []packet.TCPFlags{packet.SYN, packet.SYN, packet.ACK, packet.ACK, packet.ACK | packet.PSH, packet.SYN | 0xc0, packet.SYN | packet.ACK, packet.ACK | packet.FIN, packet.RST}
	for range 300 {
		w.clock = w.clock.Add(time.Second)             // for there is a limit to ICMP errors
		batch := make([][]byte, 1+r.IntN(batchSize-1)) // a full one is not published at once
		for i := range batch {
			f := packettest.TCP{
				Link: packettest.Link{SrcMAC: clientMAC, DstMAC: wanMAC}, Src: at(uint16(r.Uint32())), Dst: vip,
				Flags: flags[r.IntN(len(flags))], Seq: r.Uint32(), Ack: r.Uint32(), Options: []byte(options[r.IntN(len(options))]),
				Payload: []byte(dataPayload[:r.IntN(2)*r.IntN(len(dataPayload))]),
			}
			if r.IntN(3) == 0 {
				f.Src, f.Dst = packet.Endpoint{Addr: client6.Addr, Port: f.Src.Port}, vip6
			}
			switch r.IntN(20) {
			case 0:
				f.Dst.Port++ // no service
			case 1:
				f.Link.VLAN = []uint16{0xb005, 6}[:1+r.IntN(2)]
			case 2:
				f.Link.TTL = 1
			}
			batch[i] = f.Frame().Bytes()
		}
		var sent [2][2][][]byte
		var counted [2]GuardCounts
		var drops [2]map[string]uint64
		var bytes [2]uint64
		for way := range 2 {
			w.worker.fullSums[wan] = way == 1 // nothing of such a port goes the short way
			guards, counts := w.guardCounts(), w.worker.counts
			for _, f := range batch {
				w.put(wan, f)
			}
			sent[way] = w.run()
			counted[way], drops[way] = w.guardCounts(), map[string]uint64{}
			for e := range guards {
				counted[way][e] -= guards[e]
			}
			after := w.worker.counts
			for why := range after.Drops {
				drops[way][packet.Reason(why).String()] = after.Drops[why] - counts.Drops[why]
			}
			bytes[way] = after.RxBytes - counts.RxBytes
			if n := after.RxPackets - counts.RxPackets; n != uint64(len(batch)) {
				t.Fatalf("%d of %d packets counted", n, len(batch))
			}
		}
		if !sameFrames(sent[0], sent[1]) {
			t.Fatalf("short:\n% x\nlong:\n% x", sent[0], sent[1])
		}
		if counted[0] != counted[1] || !reflect.DeepEqual(drops[0], drops[1]) || bytes[0] != bytes[1] {
			t.Fatalf("short: %v %v %d\nlong:  %v %v %d", counted[0], drops[0], bytes[0], counted[1], drops[1], bytes[1])
		}
	}
}

// guarded6 is a guarded service of IPv6.
var guarded6 = sixToFour.service("tcp", "none", `synproxy = { answer = "userspace" }`)

// sameFrames reports whether the same frames have left, in whatever order: of one flow
// there is only one.
func sameFrames(a, b [2][][]byte) bool {
	for port := range a {
		left := map[string]int{}
		for _, f := range a[port] {
			left[string(f)]++
		}
		for _, f := range b[port] {
			left[string(f)]--
		}
		for _, n := range left {
			if n != 0 {
				return false
			}
		}
	}
	return true
}

// Segments of a client whose cookie comes in the same batch have no connection yet when
// they are looked at, and no cookie of their own.
func TestDataBehindItsCookieIsHeld(t *testing.T) {
	for name, ends := range map[string][2]packet.Endpoint{"ipv4": {client, vip}, "ipv6": {client6, vip6}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, guarded("")+guarded6)
			w.loose, w.vip = true, ends[1]
			k, _ := w.knock(ends[0], clientISN, synOptions)
			stamps := timestampsOf(synOptions)
			w.put(wan, k.fromClient(packet.ACK, stamps, "").Bytes())
			for _, data := range []string{"one", "two", "three"} {
				w.put(wan, k.fromClient(packet.ACK, stamps, data).Bytes())
				k.seq += uint32(len(data))
			}
			w.run()
			if n := w.counts().Drops[packet.BadCookie]; n != 0 || len(w.worker.held) != 3 {
				t.Errorf("%d segments rejected and %d held, want none and three", n, len(w.worker.held))
			}
		})
	}
}

// What is said of a packet that went the short way is what is said of any other.
func TestRejectedIsExplained(t *testing.T) {
	w := newWorld(t, guarded("")+guarded6)
	for _, ends := range [][2]packet.Endpoint{{client, vip}, {client6, vip6}} {
		from, to := ends[0], ends[1]
		f := packettest.TCP{
			Link: packettest.Link{SrcMAC: clientMAC, DstMAC: wanMAC}, Src: from, Dst: to, Flags: packet.ACK, Seq: 1, Ack: 1,
		}.Frame()
		w.refuse(wan, f.Bytes(), packet.BadCookie)
		if why, _ := w.engine.LastDrop(packet.Flow{
			Src: from.Addr, SrcPort: from.Port, Dst: to.Addr, DstPort: to.Port, Proto: packet.ProtoTCP,
		}); why != packet.BadCookie {
			t.Errorf("last drop of %v: %v, want %v", from, why, packet.BadCookie)
		}
	}
}
