package dataplane

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// TestShortWayOfJoinedIsTheLongWay is TestShortWayIsTheLongWay for connections that began
// with a cookie, of ends that agree and of ends that do not.
func TestShortWayOfJoinedIsTheLongWay(t *testing.T) {
	all := ends{1460, 7, true, true, 1}
	for name, test := range map[string]struct{ client, real ends }{
		"same_scale_and_clocks":       {all, ends{1460, 7, true, true, 1 << 31}},
		"smaller_scale":               {all, ends{1460, 2, true, true, 5}},
		"larger_scale":                {all, ends{1460, 9, true, true, ^uint32(0)}},
		"server_without_scale":        {all, ends{1460, -1, true, true, 5}},
		"server_without_timestamps":   {all, ends{1460, 7, true, false, 0}},
		"no_timestamps":               {ends{1460, 7, true, false, 0}, ends{1460, 7, true, false, 0}},
		"no_timestamps_smaller_scale": {ends{1460, 7, true, false, 0}, ends{1460, 2, true, false, 0}},
		"nothing":                     {ends{1460, -1, false, false, 0}, ends{1460, -1, false, false, 0}},
	} {
		for _, f := range allFamilies {
			t.Run(name+"/"+f.name, func(t *testing.T) {
				short, long := f.bothWaysJoined(t, test.client, test.real)
				t.Logf("%d packets from clients and %d from real servers went the short way, %d and %d had to go the long one",
					short[wan], short[lan], long[wan], long[lan])
				same := f.client.Addr.Is4() == f.real.Addr.Is4()
				for port := range short {
					if same && short[port] < 100 || !same && short[port] > 0 || long[port] < 100 {
						t.Errorf("port %d: none of the first, or too few to tell", port)
					}
				}
			})
		}
	}
}

// bothWaysJoined has packets of both directions carried and returns how many of them, by
// port, could go which way.
func (f *families) bothWaysJoined(t *testing.T, client, real ends) (short, long [2]int) {
	w := newWorld(t, f.service("tcp", "toa", "synproxy = { answer = \"userspace\" }"))
	w.vip = f.vip
	rng := rand.New(rand.NewPCG(5, 6))
	port := f.client.Port
	join := func() *talk {
		port++
		return w.joined(packet.Endpoint{Addr: f.client.Addr, Port: port}, client.options(), real.options())
	}
	var talks []*talk
	for range 6 {
		talks = append(talks, join())
	}
	options := []string{"", onlyStamps, onlyStamps, "\x01\x01\x08\x0a\x00\x00\x00\x05\x00\x00\x00\x00", "\x01\x01\x05\x0a\x00\x00\x00\x01\x00\x00\x00\x09"}
	flags := []packet.TCPFlags{packet.ACK | packet.PSH, packet.ACK | packet.FIN, packet.RST, packet.SYN, packet.SYN | packet.ACK}
	windows := []uint16{1, 3, 100, 5000, 40000, 65535}
	for range 1500 {
		i := rng.IntN(len(talks))
		k := *talks[i]
		c := k.copyOf()
		if c.State == conntrack.None || c.State == conntrack.SynSent { // one is over, by and by, and the other a handshake's
			talks[i] = join()
			continue
		}
		flag, inbound := packet.ACK, rng.IntN(2) == 0
		if rng.IntN(8) == 0 {
			flag = flags[rng.IntN(len(flags))]
		}
		s := packettest.TCP{
			Src: k.real, Dst: k.local, Flags: flag, Seq: c.RealSeq + rng.Uint32N(40) - 10, Ack: c.RealAck + rng.Uint32N(40) - 10,
			Window: windows[rng.IntN(len(windows))], Options: []byte(options[rng.IntN(len(options))]), Payload: []byte(dataPayload[:rng.IntN(len(dataPayload))]),
		}
		if rng.IntN(8) == 0 { // a bare ACK that says the same again
			s.Seq, s.Ack, s.Flags, s.Payload = c.RealSeq, c.RealAck, packet.ACK, nil
		}
		at := lan
		if inbound {
			at, s.Link, s.Src, s.Dst = wan, packettest.Link{SrcMAC: clientMAC}, k.client, k.virtual
			s.Seq, s.Ack = s.Ack-c.SeqDelta, s.Seq+c.AckDelta // now and then it is for a cookie to say whether it is of c
		}
		frame := s.Frame()
		if rng.IntN(8) == 0 {
			frame = withoutWindow(t, frame)
		}
		if rng.IntN(8) == 0 {
			frame = inVLAN(frame)
		}
		w.worker.home = home(rng.IntN(2))
		w.engine.View().Services[0].Guard.accepts.Store(rng.IntN(4) > 0)
		if w.bothWays(at, frame) {
			short[at]++
		} else {
			long[at]++
		}
		w.engine.View().Services[0].Guard.accepts.Store(true)
		w.clock = w.clock.Add(time.Millisecond)
	}
	return short, long
}

// copyOf returns a copy of the connection, which is of no state if there is none.
func (k *talk) copyOf() conntrack.Conn {
	f := packet.Flow{Src: k.client.Addr, SrcPort: k.client.Port, Dst: k.virtual.Addr, DstPort: k.virtual.Port, Proto: packet.ProtoTCP}
	key := k.conns.InboundKey(&f)
	s := k.conns.Lock(key)
	defer s.Unlock()
	if c := s.Find(key, &f); c != nil {
		return c.Copy()
	}
	return conntrack.Conn{}
}

// withoutWindow returns a segment that closes the window.
func withoutWindow(t *testing.T, f packettest.Frame) packettest.Frame {
	p := f.Parse(t)
	binary.BigEndian.PutUint16(p.TCP()[14:], 0)
	p.RecomputeChecksums()
	return packettest.NewFrame(p.Buf[p.Start:p.End])
}

// What is not for the short way of joined connections is let go of as it was.
func TestNotShortForJoined(t *testing.T) {
	knocked := func(w *world) *talk {
		k, _ := w.knock(client, clientISN, synOptions)
		k.proveBy(k.fromClient(packet.ACK, "", ""))
		k.realSeq = realISN
		return k
	}
	for name, prepare := range map[string]func(w *world) *talk{
		"connecting": knocked,
		"refused": func(w *world) *talk {
			k := knocked(w)
			k.exchange(lan, k.fromReal(packet.RST|packet.ACK, "", ""))
			return k
		},
		"told_of_no_client": func(w *world) *talk { return w.joined(client, synOptions, synOptions) },
		"other_routes": func(w *world) *talk {
			k := w.joined(client, synOptions, synOptions)
			k.realSeq++
			k.pass(lan, k.fromReal(packet.ACK, "", "x"))
			k.ack += 2
			w.router.table = routes(2, realMAC)
			w.run()
			return k
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, guarded(""))
			k := prepare(w)
			before := k.copyOf()
			for port, f := range map[int]packettest.Frame{
				wan: k.fromClient(packet.ACK|packet.PSH, "", dataPayload), lan: k.fromReal(packet.ACK, "", ""),
			} {
				if name == "told_of_no_client" && port == lan {
					continue // which goes the short way, or says the same again
				}
				j := w.classified(port, f)
				if !j.short {
					t.Fatal("the frame is not plain")
				}
				if w.worker.carryShort(j, 0) || w.worker.caught == nil || w.worker.carryJoined(j, 0) {
					t.Errorf("port %d: carried, or not left to carryJoined", port)
				}
				off := w.umem.Offset(j.addr)
				if got := w.umem.Chunk(j.addr)[off : off+len(f.Bytes())]; !bytes.Equal(got, f.Bytes()) {
					t.Errorf("port %d: the frame has changed", port)
				}
				if after := k.copyOf(); after != before { // waits for ever if nobody has let go of it
					t.Errorf("port %d: got %+v, want it as it was, %+v", port, after, before)
				}
				w.umem.Free(j.addr)
			}
		})
	}
}
