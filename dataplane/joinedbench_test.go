package dataplane

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// A joinedLine is a connection that began with a cookie, as its ends know it.
type joinedLine struct {
	beltLine
	fromClient uint32 // what its client acknowledges: the first number of the real server's data, as told by the cookie
	fromReal   uint32 // likewise, what its real server acknowledges
}

// joinedMill is a mill of such connections.
type joinedMill struct {
	*mill
	lines  []joinedLine
	frames beltFrames
}

// BenchmarkJoined is BenchmarkPipeline of connections that began with a cookie: of ends
// without timestamps, so that only their numbers are to be moved, and with them, of which
// the real server's are on another clock than its client was told.
func BenchmarkJoined(b *testing.B) {
	for _, stamps := range []bool{false, true} {
		for _, conns := range []int{10_000, 1_000_000} {
			b.Run(fmt.Sprintf("stamps=%t/conns=%d", stamps, conns), func(b *testing.B) { benchmarkJoined(b, stamps, conns) })
		}
	}
}

func benchmarkJoined(b *testing.B, stamps bool, conns int) {
	ends := *belt4
	ends.service += "synproxy = { answer = \"userspace\" }\n"
	mills := newMills(b, &ends, 1, conns+1024)
	m := &joinedMill{mill: mills[0], frames: joinedFrames(&ends, stamps)}
	each(mills, func(*mill) {
		for len(m.lines) < conns {
			m.join(min(conns-len(m.lines), batchSize*beltBatches/2)) // each takes a second frame, for fnatd's own SYN
		}
		m.worker.counts.Drops[packet.CookieACK] = 0 // what has proven a client and said nothing else
		m.mix()
	})
	reset(b, mills)
	each(mills, func(*mill) {
		for n := 0; n < b.N; n += batchSize * beltBatches {
			m.mix()
			m.lap(batchSize * beltBatches)
		}
	})
	report(b, mills, "packet")
	if got := m.worker.conns.Stats().Connections; got != conns {
		b.Errorf("%d connections, want %d", got, conns)
	}
}

// joinedFrames are those of ends, with what numbers acknowledge left open.
func joinedFrames(ends *beltEnds, stamps bool) beltFrames {
	fromClient := packettest.TCP{Src: packet.Endpoint{Addr: packet.AddrFromNetip(ends.client), Port: 1}, Dst: ends.vip, Seq: 1001}
	fromReal := packettest.TCP{
		Src: packet.Endpoint{Addr: packet.AddrFromNetip(ends.real), Port: 8080}, Dst: packet.Endpoint{Addr: packet.AddrFromNetip(ends.lip), Port: 1},
		Seq: 5001,
	}
	syn, both := offered(false), ""
	if stamps {
		syn, both = offered(true), onlyStamps
	}
	frame := func(s packettest.TCP, flags packet.TCPFlags, options, payload string) []byte {
		s.Flags, s.Options, s.Payload = flags, []byte(options), []byte(payload)
		if flags.Has(packet.SYN) {
			s.Seq--
		}
		return s.Frame().Bytes()
	}
	const payload = "abcdef"
	return beltFrames{
		syn:     frame(fromClient, packet.SYN, syn, ""),
		synAck:  frame(fromReal, packet.SYN|packet.ACK, syn, ""),
		ack:     frame(fromClient, packet.ACK, both, ""),
		request: frame(fromClient, packet.ACK|packet.PSH, both, payload),
		reply:   frame(fromReal, packet.ACK, both, payload),
	}
}

// offered returns the options of a SYN that asks for no more than fnatd offers.
func offered(stamps bool) string { return ends{1460, 7, true, stamps, 1}.options() }

// join makes so many connections.
func (m *joinedMill) join(n int) {
	begun := len(m.lines)
	for range n {
		m.lines = append(m.lines, joinedLine{beltLine: beltLine{number: uint32(m.next)}})
		m.next += m.step
	}
	fresh := m.lines[begun:]
	m.each(fresh, m.fromClient, m.frames.syn, 0)
	m.taken(wan, func(_ int, frame []byte) {
		port := binary.BigEndian.Uint16(frame[m.ends.atPorts+2:])
		number := uint32(port-1)*beltClients + uint32(frame[m.ends.atDestination])
		fresh[number-fresh[0].number].fromClient = seqIn(frame, m.ends) + 1
	})
	m.each(fresh, m.fromClient, m.frames.ack, 0)
	m.taken(lan, func(i int, frame []byte) { // in the order in which they came
		l := &fresh[i]
		l.lip, l.real = frame[m.ends.atSource], frame[m.ends.atDestination]
		l.lport = binary.BigEndian.Uint16(frame[m.ends.atPorts:])
		l.fromReal = seqIn(frame, m.ends) + 1
	})
	m.each(fresh, m.fromReal, m.frames.synAck, 0)
	m.clear()
	m.each(fresh, m.fromReal, m.frames.reply, 0)
	m.clear()
}

// seqIn returns the sequence number in a frame.
func seqIn(frame []byte, e *beltEnds) uint32 { return binary.BigEndian.Uint32(frame[e.atPorts+4:]) }

// each has one frame of each connection carried, which acknowledges so much beyond the
// handshake.
func (m *joinedMill) each(lines []joinedLine, lay func(*joinedLine, []byte, uint32), frame []byte, acked uint32) {
	for i := range lines {
		lay(&lines[i], frame, acked)
	}
	m.run()
}

func (m *joinedMill) fromClient(l *joinedLine, frame []byte, acked uint32) {
	m.inbound(&l.beltLine, frame)
	m.acknowledge(l.fromClient + acked)
}

func (m *joinedMill) fromReal(l *joinedLine, frame []byte, acked uint32) {
	m.outbound(&l.beltLine, frame)
	m.acknowledge(l.fromReal + acked)
}

// acknowledge writes what the frame laid down last acknowledges.
func (m *joinedMill) acknowledge(ack uint32) {
	b := m.belts[wan]
	binary.BigEndian.PutUint32(b.frame(b.ready[len(b.ready)-1])[m.ends.atPorts+8:], ack)
}

// mix is mill.mix.
func (m *joinedMill) mix() {
	for range batchSize * beltBatches {
		r := m.rng.Uint64()
		l := &m.lines[r>>32*uint64(len(m.lines))>>32]
		if r&1 == 0 {
			m.fromClient(l, m.frames.request, 6)
		} else {
			m.fromReal(l, m.frames.reply, 6)
		}
	}
	m.run()
	m.clear()
}
