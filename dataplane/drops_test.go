package dataplane

import (
	"strings"
	"testing"
	"time"

	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// cut returns the frame's first n bytes; change returns it with the byte at
// offset at changed.
func cut(f packettest.Frame, n int) []byte { return f.Bytes()[:n] }

func change(f packettest.Frame, at int, to byte) []byte {
	b := append([]byte{}, f.Bytes()...)
	b[at] = to
	return b
}

const (
	ethHeader = 14
	ipHeader  = 20
	l4        = ethHeader + ipHeader
)

// TestDrops drives every reason that a packet can be dropped for.
func TestDrops(t *testing.T) {
	syn := packettest.TCP{Link: packettest.Link{SrcMAC: clientMAC, DstMAC: wanMAC}, Src: client, Dst: vip, Flags: packet.SYN}
	udp := packettest.UDP{Src: client, Dst: vipUDP, Payload: []byte("?")}
	with := func(change func(*packettest.TCP)) []byte {
		s := syn
		change(&s)
		return s.Frame().Bytes()
	}
	tests := map[packet.Reason]struct {
		services string
		frame    []byte
		port     int
		prepare  func(*world) []byte // brings about what the reason needs; may return the frame
		options  []option
	}{
		packet.ShortFrame:   {frame: cut(syn.Frame(), 30)},
		packet.NotIP:        {frame: change(syn.Frame(), 12, 0x42)},
		packet.BadIPHeader:  {frame: change(syn.Frame(), ethHeader, 0x44)},
		packet.BadTCPHeader: {frame: change(syn.Frame(), l4+12, 0x40)},
		packet.BadUDPLength: {frame: change(udp.Frame(), l4+5, 7)},
		packet.BadICMP:      {frame: packettest.ICMP{Src: real0.Addr, Dst: lip, Type: packet.ICMPEchoReply}.Frame().Bytes(), port: lan},
		packet.FragmentOverlap: {frame: secondPiece(), prepare: func(w *world) []byte {
			for _, piece := range fragments() {
				w.put(wan, piece.Bytes())
			}
			w.run()
			return nil
		}},
		packet.TinyFragment: {frame: packettest.Fragments(syn.Frame(), ipHeader+8)[0].Bytes()},
		packet.NoChecksum:   {frame: packettest.UDP{Src: client6, Dst: vip6, NoSum: true}.Frame().Bytes(), services: sixToFour.service("udp", "none", "")},
		packet.NoCounterpart: {frame: packettest.UDP{
			Link: packettest.Link{IPOptions: []byte{131, 7, 4, 192, 0, 2, 9, 0}}, Src: client, Dst: vip,
		}.Frame().Bytes(), services: fourToSix.service("udp", "none", "")},
		packet.BadProtocol: {frame: change(syn.Frame(), ethHeader+9, 132)},
		packet.NotOurs:     {frame: with(func(s *packettest.TCP) { s.Dst = packettest.Endpoint("198.18.0.9:80") })},
		packet.TTLExceeded: {frame: with(func(s *packettest.TCP) { s.TTL = 1 })},
		packet.BadFlags:    {frame: with(func(s *packettest.TCP) { s.Flags = packet.SYN | packet.FIN })},
		packet.NoService:   {frame: with(func(s *packettest.TCP) { s.Dst.Port = 81 })},
		packet.NoConn:      {frame: with(func(s *packettest.TCP) { s.Flags = packet.ACK })},
		packet.NoServer:    {frame: syn.Frame().Bytes(), services: tcpService + "weight = 0\n"},
		packet.NoLocalPort: {prepare: sameShard, options: []option{onePort}},
		packet.TableFull: {frame: syn.Frame().Bytes(), options: []option{maxConnections(1)}, prepare: func(w *world) []byte {
			w.connect(packet.Endpoint{Addr: client.Addr, Port: 1})
			return nil
		}},
		packet.NoRoute: {frame: syn.Frame().Bytes(), prepare: func(w *world) []byte {
			w.router.table = route.Static(2, []route.StaticPort{{MAC: wanMAC, MTU: 1500}, {MAC: lanMAC, MTU: 1500}})
			return nil
		}},
		packet.NoNeighbour: {frame: syn.Frame().Bytes(), services: strings.Replace(tcpService, "198.19.0.101", "198.19.0.55", 1)},
		packet.TooBig: {prepare: func(w *world) []byte {
			k := w.connect(client)
			return k.fromClient(packet.ACK, "", string(make([]byte, 1461))).Bytes()
		}},
		packet.TxFull: {frame: syn.Frame().Bytes(), prepare: func(w *world) []byte {
			w.ports[lan].room = 0
			return nil
		}},
		packet.StaleQuote: {port: lan, prepare: func(w *world) []byte {
			k := w.connect(client)
			old := packettest.TCP{Src: k.local, Dst: k.real, Flags: packet.ACK, Seq: 1}.Frame().Parse(w)
			return tooBig(real1.Addr, old, 600).Bytes()
		}},
		packet.ErrorLimit: {port: lan, prepare: func(w *world) []byte {
			for _, s := range w.sides {
				s.worker.errors = 0
			}
			return tooBig(real1.Addr, syn.Frame().Parse(w), 600).Bytes()
		}},
		packet.BadCookie: {services: guarded(""), frame: with(func(s *packettest.TCP) { s.Flags = packet.ACK })},
		packet.CookieACK: {services: guarded(", defer = true"), prepare: func(w *world) []byte {
			k, _ := w.knock(client, clientISN, "")
			return k.fromClient(packet.ACK, "", "").Bytes()
		}},
		packet.Refused: {services: guarded(""), prepare: func(w *world) []byte {
			k, _ := w.knock(client, clientISN, "")
			k.proveBy(k.fromClient(packet.ACK, "", ""))
			w.only(wan, w.exchange(lan, k.fromReal(packet.RST|packet.ACK, "", "")))
			return k.fromClient(packet.ACK, "", dataPayload).Bytes()
		}},
		packet.NotHeld: {services: guarded(""), prepare: func(w *world) []byte {
			k, _ := w.knock(client, clientISN, "")
			k.proveBy(k.fromClient(packet.ACK, "", ""))
			w.loose = true
			for range maxHeldOfConn {
				w.exchange(wan, k.fromClient(packet.ACK, "", dataPayload))
			}
			return k.fromClient(packet.ACK, "", dataPayload).Bytes()
		}},
		packet.ACKStorm: {services: guarded(", ack_storm_limit = 1"), port: lan, prepare: func(w *world) []byte {
			k := w.joined(client, "", "")
			k.pass(lan, k.fromReal(packet.ACK, "", ""))
			return k.fromReal(packet.ACK, "", "").Bytes()
		}},
		packet.NoticeReply: {port: lan, services: udpService, prepare: func(w *world) []byte {
			notice, _ := w.ask(client)
			return packettest.EchoReply(packettest.NewFrame(notice.Frame())).Bytes()
		}},
	}
	for why := packet.Kept + 1; why < packet.NumReasons; why++ {
		t.Run(why.String(), func(t *testing.T) {
			switch why {
			case packet.NoFrame:
				dropForWantOfFrames(t)
				return
			case packet.Fragment:
				dropEarlyFragment(t)
				return
			}
			test, ok := tests[why]
			if !ok {
				t.Fatal("no packet drives this reason")
			}
			if test.services == "" {
				test.services = tcpService + udpService
			}
			w := newWorld(t, test.services, test.options...)
			if test.prepare != nil {
				if frame := test.prepare(w); frame != nil {
					test.frame = frame
				}
			}
			w.refuse(test.port, test.frame, why)
		})
	}
}

func fragments() []packettest.Frame {
	return packettest.Fragments(packettest.UDP{Src: client, Dst: vipUDP, Payload: make([]byte, 4000)}.Frame(), 1500)
}

func secondPiece() []byte { return fragments()[1].Bytes() }

// dropEarlyFragment has a fragment wait for a first one that never comes.
func dropEarlyFragment(t *testing.T) {
	w := newWorld(t, udpService)
	w.loose = true
	w.put(wan, secondPiece())
	w.wait(time.Second)
	if got := w.worker.Counts().Drops[packet.Fragment]; got != 1 {
		t.Errorf("drops: got %d, want 1", got)
	}
}

// sameShard opens a connection and returns the SYN of another client that falls
// into the same shard of the table.
func sameShard(w *world) []byte {
	w.connect(client)
	other := client
	for other.Port++; w.shardOf(other) != w.shardOf(client); other.Port++ {
	}
	k := talk{client: other, virtual: vip}
	return k.fromClient(packet.SYN, "", "").Bytes()
}

// shardOf returns the shard of the table that a client's connection to vip is in.
func (w *world) shardOf(from packet.Endpoint) int {
	return w.conns.InboundKey(&packet.Flow{
		Src: from.Addr, SrcPort: from.Port, Dst: vip.Addr, DstPort: vip.Port, Proto: packet.ProtoTCP,
	}).Shard()
}

// dropForWantOfFrames has a notice go unsent because its datagram, which still
// leaves, took the last frame.
func dropForWantOfFrames(t *testing.T) {
	w := newWorld(t, udpService, fewFrames)
	w.pass(wan, query(client, "?"))
	if got := w.counts().Drops[packet.NoFrame]; got != 1 {
		t.Errorf("drops: got %d, want 1", got)
	}
	if got := w.traffic().NoticeSent; got != 0 {
		t.Errorf("notices sent: got %d, want 0", got)
	}
	if sent := w.wait(time.Second); len(sent[lan]) == 0 {
		t.Error("the notice was not sent later, when there was a frame")
	}
}
