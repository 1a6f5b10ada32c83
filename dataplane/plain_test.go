package dataplane

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// A passage is what came of one packet.
type passage struct {
	why     packet.Reason
	frame   []byte
	port    int // that it was sent by
	conn    conntrack.Conn
	seam    seam // if it is joined
	traffic Traffic
	active  int32 // connections of its real server
	tally   GuardCounts
	strays  uint64 // answers that came by another worker
}

// TestShortWayIsTheLongWay has plain packets, good ones and odd ones, carried by
// the short way and then, from the same state, by the long one. What changes its family
// is never for the short way.
func TestShortWayIsTheLongWay(t *testing.T) {
	for _, f := range allFamilies {
		t.Run(f.name, func(t *testing.T) {
			short, long := f.bothWays(t)
			t.Logf("%d packets went the short way and %d had to go the long one", short, long)
			if wantShort := f.client.Addr.Is4() == f.real.Addr.Is4(); wantShort && short < 1000 || !wantShort && short > 0 || long < 500 {
				t.Error("none of the first, or too few to tell")
			}
		})
	}
}

// bothWays has thousands of packets carried and returns how many of them could go which way.
func (f *families) bothWays(t *testing.T) (short, long int) {
	w := newWorld(t, f.service("tcp", "toa", "")+strings.Replace(f.service("udp", "icmp-echo", ""), `"s"`, `"t"`, 1))
	w.vip = f.vip
	from := func(port int) packet.Endpoint { return packet.Endpoint{Addr: f.client.Addr, Port: uint16(port)} }
	rng := rand.New(rand.NewPCG(3, 4))
	var talks []*talk
	for i := range 8 {
		talks = append(talks, w.connect(from(40000+i)))
	}
	ask := func(port int, payload string) packettest.Frame {
		return packettest.UDP{Link: packettest.Link{SrcMAC: clientMAC}, Src: from(port), Dst: f.vip, Payload: []byte(payload)}.Frame()
	}
	const answered, never = 50000, 50001
	w.put(wan, ask(never, "?").Bytes())
	w.run()
	w.put(wan, ask(answered, "?").Bytes())
	sent := w.run()[lan] // a notice and the datagram
	asked := packettest.NewFrame(sent[1]).Parse(t)
	w.acknowledge(packettest.NewFrame(sent[0]).Parse(t))

	options := []string{"", "", onlyStamps, "\x01\x01\x05\x0a\x00\x00\x00\x01\x00\x00\x00\x09"}
	flags := []packet.TCPFlags{packet.ACK, packet.ACK, packet.ACK | packet.PSH, packet.ACK | packet.FIN, packet.RST, packet.SYN}
	for range 5000 {
		k := *talks[rng.IntN(len(talks))]
		k.seq += rng.Uint32N(40)
		k.ack += rng.Uint32N(40)
		k.realSeq += rng.Uint32N(40)
		port, flag := rng.IntN(2), flags[rng.IntN(len(flags))]
		if rng.IntN(8) > 0 {
			flag = packet.ACK // else no connection lives for long
		}
		o, payload := options[rng.IntN(len(options))], dataPayload[:rng.IntN(len(dataPayload))]
		frame := k.fromClient(flag, o, payload)
		switch udp := rng.IntN(4) == 0; {
		case udp && port == wan:
			frame = ask(answered+rng.IntN(2), payload)
		case udp:
			frame = packettest.UDP{Src: asked.Flow.Destination(), Dst: asked.Flow.Source(), Payload: []byte(payload)}.Frame()
		case port == lan:
			frame = k.fromReal(flag, o, payload)
		}
		if rng.IntN(8) == 0 {
			frame = inVLAN(frame)
		}
		if w.bothWays(port, frame) {
			short++
		} else {
			long++
		}
		w.run()
		switch fresh := from(1 + short + long); {
		case flag == packet.SYN: // may have begun it anew
			talks[rng.IntN(len(talks))] = w.connect(fresh)
		case rng.IntN(8) == 0: // half-open, for the handshake's last packet
			half, _ := w.syn(fresh, clientISN)
			half.synAck()
			talks[rng.IntN(len(talks))] = half
		}
		w.clock = w.clock.Add(time.Millisecond)
	}
	return short, long
}

// inVLAN returns an untagged frame with a tag.
func inVLAN(f packettest.Frame) packettest.Frame {
	b := f.Bytes()
	return packettest.NewFrame(slices.Concat(b[:12], []byte{0x81, 0, 0xb0, 5}, b[12:]))
}

// onlyStamps is the options of most segments.
const onlyStamps = "\x01\x01\x08\x0a\x00\x00\x00\x05\x00\x00\x00\x06"

// bothWays carries a packet by the short way, if it may go that, and by the long
// one, compares, and reports whether it could go the short way.
func (w *world) bothWays(port int, f packettest.Frame) (short bool) {
	w.Helper()
	w.run() // the worker's clock and view
	j := w.classified(port, f)
	defer func() { w.umem.Free(j.addr) }()
	mayBeShort := j.short
	key := w.worker.lookups.Key(0)
	if mayBeShort {
		w.worker.lengthen(j, key)
	}
	c := w.conn(j)
	if !mayBeShort || c == nil {
		w.worker.through(j)
		return false
	}
	before, m := *c, w.seamOf(key, c)
	got := w.passage(j, c, func() packet.Reason {
		if short = w.worker.carryShort(j, 0) || w.worker.caught != nil && w.worker.carryJoined(j, 0); short {
			return packet.Kept
		}
		return packet.Held
	})
	if !short && (!bytes.Equal(got.frame, f.Bytes()) || got.conn != before || got.seam != m || got.traffic != Traffic{}) {
		w.Fatalf("refused the short way, but changed: %+v", got)
	}

	w.restore(key, c, &before, m)
	again := w.classified(port, f)
	defer w.umem.Free(again.addr)
	w.worker.lengthen(again, key)
	want := w.passage(again, c, func() packet.Reason {
		why := w.worker.through(again)
		if why == packet.Kept {
			w.worker.finish(again, why)
		}
		return why
	})
	if short && !got.equal(&want) {
		w.Fatalf("by the short way:\n%+v\nby the long way:\n%+v", got, want)
	}
	return short
}

// restore makes a connection what it was before a packet, and what else knows of it.
func (w *world) restore(key conntrack.Key, c, before *conntrack.Conn, m seam) {
	s := w.conns.Lock(key)
	defer s.Unlock()
	load := w.worker.view.targets[before.Binding()].Server.Load
	switch was, is := active(before.State), active(c.State); {
	case was && !is:
		load.Add(1, -1)
	case is && !was:
		load.Add(-1, 1)
	}
	s.SetState(c, before.State, 0, w.worker.now)
	*c = *before
	if hasSeam(c) {
		s.SetSpare(c, m.clock, m.bits)
	}
}

// seamOf returns the seam of a connection, if it may have one.
func (w *world) seamOf(key conntrack.Key, c *conntrack.Conn) (m seam) {
	s := w.conns.Lock(key)
	defer s.Unlock()
	if hasSeam(c) {
		m = loadSeam(s, c)
	}
	return m
}

func hasSeam(c *conntrack.Conn) bool { return c.Flags&spliced != 0 && !c.State.HalfOpen() }

// classified returns a frame as carry gets it.
func (w *world) classified(port int, f packettest.Frame) *job {
	addr, _ := w.umem.Alloc()
	j := &job{addr: addr + uint64(f.Start), port: port}
	copy(w.umem.Chunk(addr)[f.Start:], f.Bytes())
	w.worker.look(j, f.End-f.Start)
	return j
}

// look classifies a frame of so many bytes.
func (w *Worker) look(j *job, size int) {
	if j.short = w.glance(j, 0, uint32(size)); !j.short {
		w.classify(j, size, 0)
		w.lookups.SetKey(0, j.key)
	}
	w.conns.Hash(&w.lookups, 0, 1)
	w.conns.See(&w.lookups, 1)
}

// conn returns the connection of a job, or nil.
func (w *world) conn(j *job) *conntrack.Conn {
	s := w.conns.Lock(j.key)
	defer s.Unlock()
	return s.Find(j.key, &j.p.Flow)
}

// through carries a job that has a connection, but for sending it.
func (w *Worker) through(j *job) packet.Reason {
	if j.role == virtual {
		return w.inbound(j)
	}
	return w.outbound(j)
}

// passage has a job carried and returns what came of it.
func (w *world) passage(j *job, c *conntrack.Conn, carry func() packet.Reason) passage {
	row := w.worker.ledger.row(c.Binding())
	t := w.worker.view.targets[c.Binding()]
	tally := &GuardCounts{}
	if t.Service.Guard != nil {
		tally = w.worker.tally.of(t.Service)
	}
	w.worker.ledger.publish(0, w.worker.view.targets)
	row = w.worker.ledger.row(c.Binding())
	*tally = GuardCounts{}
	strays := w.worker.counts.Events[ReplyElsewhere]
	p := passage{why: carry()}
	off := w.umem.Offset(j.addr)
	at, size := j.plain.Untagged()
	p.frame = w.umem.Chunk(j.addr)[off : off+at+size]
	for port, line := range w.worker.out {
		for _, d := range line {
			off := w.umem.Offset(d.Addr)
			p.port, p.frame = port, w.umem.Chunk(d.Addr)[off:off+int(d.Len)]
		}
		w.worker.out[port] = line[:0]
	}
	p.frame, p.conn, p.seam, p.traffic = bytes.Clone(p.frame), *c, w.seamOf(j.key, c), row.Traffic
	p.active, p.tally = t.Server.Load.Active.Load()+row.active, *tally
	p.strays = w.worker.counts.Events[ReplyElsewhere] - strays
	return p
}

func (p *passage) equal(q *passage) bool {
	return p.why == q.why && bytes.Equal(p.frame, q.frame) && p.port == q.port &&
		p.conn == q.conn && p.seam == q.seam && p.traffic == q.traffic && p.active == q.active && p.tally == q.tally && p.strays == q.strays
}
