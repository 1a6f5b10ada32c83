package dataplane

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
	"github.com/fnatd/fnatd/internal/siphash"
)

// The whole way of a packet in memory: parse, look up, track, rewrite, checksums,
// MACs, counters. What the frames come from and where they go is a belt, which
// costs next to nothing; making them is not counted.

// beltBatches is how many batches lie ready when the worker begins: enough for
// the clock's two readings not to count, few enough for the frames to stay in the
// second-level cache, as they do behind a NIC that writes into the cache.
const beltBatches = 8

// batchTime is how far the clock goes with each batch, as if it took so long.
const batchTime = 5 * time.Microsecond

// A belt is the only interface of a worker: it hands out frames of both
// directions mixed, and takes back what is sent.
type belt struct {
	umem  *xsk.UMEM
	ready []xsk.Desc
	sent  []xsk.Desc // since taken was last called
}

func (b *belt) Recv(d []xsk.Desc) int {
	n := copy(d, b.ready)
	b.ready = b.ready[n:]
	return n
}

func (b *belt) Refill()                 {}
func (b *belt) Kick()                   {}
func (b *belt) Complete() int           { return 0 }
func (b *belt) Send(d []xsk.Desc) int   { b.sent = append(b.sent, d...); return len(d) }
func (b *belt) frame(d xsk.Desc) []byte { return b.umem.Chunk(d.Addr)[b.umem.Offset(d.Addr):] }

// Addresses of the pipeline's world. Each client address has as many ports as
// connections want, each pair of LIP and real server some 64,000.
const (
	beltClients = 200
	beltLIPs    = 40
	beltReals   = 16
)

// A mill is a worker between two belts, and the connections that it carries. By
// the first it receives both directions.
type mill struct {
	worker *Worker
	umem   *xsk.UMEM
	belts  [2]*belt
	clock  time.Time

	ends       *beltEnds
	hash       uint64
	next, step int        // number of the next connection, and how far apart they are
	lines      []beltLine // connections that are established
	rng        *rand.Rand
	polled     int             // frames
	inPoll     time.Duration   // since the last lap
	runs       []time.Duration // what each run has taken
	spent      []float64       // ns a packet or a connection, for each lap
	yardstick  []float64       // ns a hash, measured in between
}

// A beltLine is a connection as its ends know it.
type beltLine struct {
	number uint32 // which tells the client; see client
	lip    uint8
	real   uint8
	lport  uint16
}

// beltEnds is a pipeline's world in one family. Of addresses the last byte tells which
// client, LIP or real server it is.
type beltEnds struct {
	service           string // the head of its configuration
	vip               packet.Endpoint
	client, lip, real netip.Addr // the first of each
	atSource          int        // offset in a frame of the last byte of its source
	atDestination     int        // likewise
	atPorts           int
	frames            beltFrames
}

// beltFrames are the packets of a connection, of any client's.
type beltFrames struct{ syn, synAck, ack, request, reply, finReal, fin []byte }

var (
	belt4 = newBeltEnds(vip, "198.18.1.0", "198.19.0.10", "198.19.0.101", 14+12+3, 14+16+3, 14+20)
	belt6 = newBeltEnds(vip6, "2001:db8:18:1::", "2001:db8:19::20", "2001:db8:19::80", 14+8+15, 14+24+15, 14+40)
)

// newBeltEnds returns a world with frames of 64 bytes with the check sequence, or of IPv6
// 84. Their checksums are those of no connection; nobody here verifies them.
func newBeltEnds(vip packet.Endpoint, client, lip, real string, atSource, atDestination, atPorts int) *beltEnds {
	e := &beltEnds{
		service: "protocol = \"tcp\"\nclient_address = \"toa\"\n",
		vip:     vip, client: netip.MustParseAddr(client), lip: netip.MustParseAddr(lip), real: netip.MustParseAddr(real),
		atSource: atSource, atDestination: atDestination, atPorts: atPorts,
	}
	fromClient := packettest.TCP{
		Src: packet.EndpointFrom(netip.AddrPortFrom(e.client, 1)), Dst: vip, Seq: 1001, Ack: 5007, Payload: make([]byte, 6),
	}
	fromReal := packettest.TCP{
		Src: packet.EndpointFrom(netip.AddrPortFrom(e.real, 8080)), Dst: packet.EndpointFrom(netip.AddrPortFrom(e.lip, 1)),
		Seq: 5001, Ack: 1007, Payload: make([]byte, 6),
	}
	e.frames = beltFrames{
		syn:     shape(fromClient, packet.SYN),
		synAck:  shape(fromReal, packet.SYN|packet.ACK),
		ack:     shape(fromClient, packet.ACK),
		request: shape(fromClient, packet.ACK|packet.PSH),
		reply:   shape(fromReal, packet.ACK),
		finReal: shape(fromReal, packet.FIN|packet.ACK),
		fin:     shape(fromClient, packet.FIN|packet.ACK),
	}
	return e
}

// nth returns the address that is n behind a in its last byte.
func nth(a netip.Addr, n int) netip.Addr {
	b := a.AsSlice()
	b[len(b)-1] += byte(n)
	n4, _ := netip.AddrFromSlice(b)
	return n4
}

// newMills returns so many workers on one table for n connections.
func newMills(b *testing.B, ends *beltEnds, workers, n int) []*mill {
	services := fmt.Sprintf("[[service]]\nname = \"web\"\naddress = %q\ninterface = \"wan0\"\nscheduler = \"rr\"\nlocal_pool = \"lan\"\n%s", ends.vip, ends.service)
	lans := map[netip.Addr][6]byte{}
	for i := range beltReals {
		a := nth(ends.real, i)
		services += fmt.Sprintf("[[service.real_server]]\naddress = %q\n", netip.AddrPortFrom(a, 8080))
		lans[a] = realMAC
	}
	wans := map[netip.Addr][6]byte{}
	for i := range beltClients {
		wans[nth(ends.client, i)] = clientMAC
	}
	networks := func(v4, v6 string) []netip.Prefix {
		return []netip.Prefix{netip.MustParsePrefix(v4), netip.MustParsePrefix(v6)}
	}
	mills := make([]*mill, workers)
	w := newWorld(b, services, maxConnections(n), func(w *world, _ *Config, _ *conntrack.Config) {
		w.sides = make([]side, workers)
		w.frames = batchSize * beltBatches
		w.pool = fmt.Sprintf("%v-%v", ends.lip, nth(ends.lip, beltLIPs-1))
		w.router.table = route.Static(1, []route.StaticPort{{
			MAC: wanMAC, MTU: 1500, Neighbours: wans, Networks: networks("198.18.0.0/23", "2001:db8:18::/48"),
		}, {
			MAC: lanMAC, MTU: 1500, Neighbours: lans, Networks: networks("198.19.0.0/24", "2001:db8:19::/48"),
		}})
	})
	for i, side := range w.sides {
		m := &mill{
			worker: side.worker, umem: side.umem, clock: w.clock, ends: ends,
			next: i, step: workers, rng: rand.New(rand.NewPCG(1, uint64(i))),
		}
		for port := range m.belts {
			m.belts[port] = &belt{umem: m.umem, sent: make([]xsk.Desc, 0, w.frames)}
		}
		m.worker.assign(Queue{UMEM: m.umem, Ports: [][]Port{{m.belts[wan]}, {m.belts[lan]}}}, workers)
		mills[i] = m
	}
	return mills
}

// shape returns a frame with other flags, and with an empty payload of such length
// that it is of 60 bytes all the same.
func shape(s packettest.TCP, flags packet.TCPFlags) []byte {
	s.Flags = flags
	if flags.Any(packet.SYN | packet.FIN) {
		s.Payload, s.Pad = nil, 6
	}
	return s.Frame().Bytes()
}

// inbound lays a frame of l's client on the belt, outbound one of its real server.
func (m *mill) inbound(l *beltLine, frame []byte) {
	f := m.lay(frame)
	f[m.ends.atSource] = byte(l.number % beltClients)
	binary.BigEndian.PutUint16(f[m.ends.atPorts:], uint16(1+l.number/beltClients))
}

func (m *mill) outbound(l *beltLine, frame []byte) {
	f := m.lay(frame)
	f[m.ends.atSource] = l.real
	f[m.ends.atDestination] = l.lip
	binary.BigEndian.PutUint16(f[m.ends.atPorts+2:], l.lport)
}

func (m *mill) lay(frame []byte) []byte {
	addr, _ := m.umem.Alloc()
	d := xsk.Desc{Addr: addr + packettest.Headroom, Len: uint32(len(frame))}
	b := m.belts[wan]
	b.ready = append(b.ready, d)
	f := b.frame(d)
	copy(f, frame)
	return f
}

// run has the worker carry what lies on the belt, and takes the frames back.
func (m *mill) run() {
	b := m.belts[wan]
	n, all := len(b.ready), b.ready[:0]
	begin := threadTime()
	for len(b.ready) > 0 {
		m.clock = m.clock.Add(batchTime)
		m.worker.poll(m.clock)
	}
	m.took(threadTime() - begin)
	m.polled += n
	b.ready = all

	begin = threadTime()
	for range n {
		m.hash = siphash.Key{}.Sum2(m.hash, 0)
	}
	m.yardstick = append(m.yardstick, float64(threadTime()-begin)/float64(n))
}

// lap notes what n packets, or connections, have taken since the last lap.
func (m *mill) lap(n int) {
	m.spent = append(m.spent, float64(m.inPoll)/float64(n))
	m.inPoll = 0
}

// threadTime returns the processor time of the calling thread: what other programs
// of the machine take is not the worker's.
func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(err)
	}
	return time.Duration(ts.Nano())
}

// taken calls f with each frame that was sent by a port, and frees it.
func (m *mill) taken(port int, f func(i int, frame []byte)) {
	b := m.belts[port]
	for i, d := range b.sent {
		if f != nil {
			f(i, b.frame(d))
		}
		m.umem.Free(d.Addr)
	}
	b.sent = b.sent[:0]
}

// clear frees all frames that were sent.
func (m *mill) clear() {
	m.taken(wan, nil)
	m.taken(lan, nil)
}

// open makes up to so many connections, as many as there are frames.
func (m *mill) open(n int) []beltLine {
	begun := len(m.lines)
	for range min(n, batchSize*beltBatches) {
		m.lines = append(m.lines, beltLine{number: uint32(m.next)})
		m.next += m.step
		m.inbound(&m.lines[len(m.lines)-1], m.ends.frames.syn)
	}
	fresh := m.lines[begun:]
	m.run()
	m.taken(lan, func(i int, frame []byte) { // in the order in which they came
		fresh[i].lip, fresh[i].real = frame[m.ends.atSource], frame[m.ends.atDestination]
		fresh[i].lport = binary.BigEndian.Uint16(frame[m.ends.atPorts:])
	})
	m.all(fresh, (*mill).outbound, m.ends.frames.synAck)
	m.all(fresh, (*mill).inbound, m.ends.frames.ack)
	return fresh
}

// all has one frame of each connection carried.
func (m *mill) all(lines []beltLine, lay func(*mill, *beltLine, []byte), frame []byte) {
	for i := range lines {
		lay(m, &lines[i], frame)
	}
	m.run()
	m.clear()
}

// mix has frames of connections at random carried, in either direction.
func (m *mill) mix() {
	for range batchSize * beltBatches {
		r := m.rng.Uint64()
		l := &m.lines[r>>32*uint64(len(m.lines))>>32]
		if r&1 == 0 {
			m.inbound(l, m.ends.frames.request)
		} else {
			m.outbound(l, m.ends.frames.reply)
		}
	}
	m.run()
	m.clear()
}

// report reports the time in poll, and fails the benchmark if a frame was lost. The
// mean is what the machine gave; what the best twentieth of the laps took is
// nearer to what it can. A machine that does nothing else takes 10 ns for a hash
// whose input is the last one's output: by this yardstick a run on a busy machine
// can be judged.
func report(b *testing.B, mills []*mill, unit string) {
	var dropped, polled int
	var spent, yardstick []float64
	for _, m := range mills {
		yardstick = append(yardstick, m.yardstick...)
		polled += m.polled
		spent = append(spent, m.spent...)
		c := m.worker.Counts()
		dropped += int(c.Dropped())
	}
	if dropped > 0 {
		b.Errorf("dropped %d frames of %d", dropped, polled)
	}
	slices.Sort(spent)
	slices.Sort(yardstick)
	sum := 0.0
	for _, ns := range spent {
		sum += ns
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(sum/float64(len(spent)), "ns/"+unit)
	b.ReportMetric(spent[len(spent)/20], "best-ns/"+unit)
	b.ReportMetric(yardstick[len(yardstick)/20], "best-ns/hash")
}

// reset forgets what was measured so far.
func reset(b *testing.B, mills []*mill) {
	for _, m := range mills {
		m.spent, m.runs, m.yardstick, m.polled, m.inPoll = m.spent[:0], m.runs[:0], m.yardstick[:0], 0, 0
	}
	b.ResetTimer()
}

// each runs f for all mills at once, each on a thread of its own.
func each(mills []*mill, f func(*mill)) {
	var done sync.WaitGroup
	for _, m := range mills {
		done.Go(func() {
			runtime.LockOSThread() // for threadTime
			f(m)
			runtime.UnlockOSThread()
		})
	}
	done.Wait()
}

// BenchmarkPipeline is a packet of an established connection, connections visited
// at random and both directions mixed.
func BenchmarkPipeline(b *testing.B) { benchmarkPipeline(b, belt4, 10_000, 1_000_000, 10_000_000) }

// BenchmarkPipeline6 is the same of IPv6.
func BenchmarkPipeline6(b *testing.B) { benchmarkPipeline(b, belt6, 10_000, 1_000_000) }

func benchmarkPipeline(b *testing.B, ends *beltEnds, sizes ...int) {
	for _, conns := range sizes {
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("conns=%d/workers=%d", conns, workers), func(b *testing.B) {
				mills := newMills(b, ends, workers, conns+1024)
				each(mills, func(m *mill) {
					for len(m.lines) < conns/workers {
						m.open(conns/workers - len(m.lines))
					}
					m.mix()
				})
				reset(b, mills)
				each(mills, func(m *mill) {
					for n := 0; n < b.N; n += batchSize * beltBatches {
						m.mix()
						m.lap(batchSize * beltBatches)
					}
				})
				report(b, mills, "packet")
			})
		}
	}
}
