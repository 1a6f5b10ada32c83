package dataplane

import (
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
	"github.com/fnatd/fnatd/internal/siphash"
	"github.com/fnatd/fnatd/internal/state"
	"github.com/fnatd/fnatd/lb"
)

// The world of the worker's tests: one worker on fake rings between a client's
// network (port 0) and the real servers' (port 1), with a clock of its own.
const (
	wan = 0
	lan = 1
)

var (
	clientMAC = [6]byte{2, 0, 0, 0, 0, 2}
	wanMAC    = [6]byte{2, 0, 0, 0, 1, 1}
	lanMAC    = [6]byte{2, 0, 0, 0, 2, 1}
	realMAC   = [6]byte{2, 0, 0, 0, 2, 101}

	client = packettest.Endpoint("198.18.0.2:40000")
	vip    = packettest.Endpoint("198.18.0.100:80")
	vipUDP = packettest.Endpoint("198.18.0.100:53")
	real0  = packettest.Endpoint("198.19.0.101:8080")
	real1  = packettest.Endpoint("198.19.0.102:8080")
	lip    = packettest.Addr("198.19.0.10")
)

const header = `
[daemon]
[dataplane]
interfaces = ["wan0", "lan0"]
[[local_pool]]
name = "lan"
interface = "lan0"
addresses = ["%s", "2001:db8:19::10"]
ports = "%s"
`

const tcpService = `
[[service]]
name = "web"
protocol = "tcp"
address = "198.18.0.100:80"
interface = "wan0"
scheduler = "rr"
local_pool = "lan"
client_address = "toa"
[[service.real_server]]
address = "198.19.0.101:8080"
`

const udpService = `
[[service]]
name = "dns"
protocol = "udp"
address = "198.18.0.100:53"
interface = "wan0"
scheduler = "rr"
local_pool = "lan"
client_address = "icmp-echo"
[[service.real_server]]
address = "198.19.0.101:8080"
`

// A fakePort is a queue whose wire is a test.
type fakePort struct {
	umem     *xsk.UMEM
	received []xsk.Desc // to be handed out by Recv
	sent     [][]byte   // copies of what was sent
	done     []uint64   // sent frames, until Complete
	room     int        // frames that the transmit ring takes until the next Complete; negative is no limit
	blind    bool       // does not keep copies
}

func (p *fakePort) Recv(d []xsk.Desc) int {
	n := copy(d, p.received)
	p.received = p.received[n:]
	return n
}

func (p *fakePort) Refill() {}
func (p *fakePort) Kick()   {}

func (p *fakePort) Send(d []xsk.Desc) int {
	if p.room >= 0 {
		d = d[:min(len(d), p.room-len(p.done))]
	}
	for len(d) > 0 && d[len(d)-1].Options&xsk.Continued != 0 {
		d = d[:len(d)-1]
	}
	for i := range d {
		p.done = append(p.done, d[i].Addr)
		if p.blind {
			continue
		}
		if i == 0 || d[i-1].Options&xsk.Continued == 0 {
			p.sent = append(p.sent, nil)
		}
		frame, off := &p.sent[len(p.sent)-1], p.umem.Offset(d[i].Addr)
		*frame = append(*frame, p.umem.Chunk(d[i].Addr)[off:off+int(d[i].Len)]...)
	}
	return len(d)
}

func (p *fakePort) Complete() int {
	n := len(p.done)
	for _, addr := range p.done {
		p.umem.Free(addr)
	}
	p.done = p.done[:0]
	return n
}

// A fakeRouter routes by a static table.
type fakeRouter struct {
	table  *route.Table
	newer  *route.Table // takes its place when that was asked for once; or nil
	wanted []packet.Addr
	used   []route.HopID
}

func (r *fakeRouter) Table() *route.Table {
	t := r.table
	if r.newer != nil {
		r.table, r.newer = r.newer, nil
	}
	return t
}
func (r *fakeRouter) Want(a packet.Addr) { r.wanted = append(r.wanted, a) }
func (r *fakeRouter) Use(id route.HopID) { r.used = append(r.used, id) }
func (r *fakeRouter) Reflect(port int, mac [6]byte, vlans packet.VLANs) route.HopID {
	return r.table.Reflect(port, mac, vlans)
}

type world struct {
	testing.TB
	engine *Engine
	side          // the first of sides
	sides  []side // one; with apart two: a worker for each port
	conns  *conntrack.Table
	router *fakeRouter
	clock  time.Time
	frames int             // of the UMEM
	pool   string          // address of the local pool
	lports string          // and its ports
	vip    packet.Endpoint // of the first service
	loose  bool            // the worker may hold frames between rounds
	tape   []netns.Frame   // what came and went while it was rolling
	rolls  bool
}

// A side is a worker with its queues.
type side struct {
	worker *Worker
	umem   *xsk.UMEM
	ports  [2]*fakePort
}

// apart gives the worlds that are made while it is set two workers: what comes in
// by wan is the first one's, what comes in by lan the second one's.
var apart bool

// An option changes how a world is made.
type option func(*world, *Config, *conntrack.Config)

func maxConnections(n int) option {
	return func(_ *world, _ *Config, c *conntrack.Config) { c.MaxConnections = n }
}

// workers gives the world so many of them.
func workers(n int) option {
	return func(w *world, _ *Config, _ *conntrack.Config) { w.sides = make([]side, n) }
}

func reflectMAC(_ *world, c *Config, _ *conntrack.Config) { c.ReflectClientMAC = true }

// onePort leaves one local port to each shard of the connection table.
func onePort(w *world, _ *Config, _ *conntrack.Config) { w.lports = "1024-1087" }

// fewFrames is one frame for a packet that comes in and none for fnatd's own.
func fewFrames(w *world, _ *Config, _ *conntrack.Config) { w.frames = 1 }

// newWorld makes a world with the given services.
func newWorld(t testing.TB, services string, options ...option) *world {
	t.Helper()
	w := &world{TB: t, clock: time.Unix(1_700_000_000, 0), frames: 512, pool: "198.19.0.10", lports: "1024-65535", vip: vip}
	w.router = &fakeRouter{table: routes(1, realMAC)}
	cfg := Config{
		Router: w.router,
		Epoch:  w.clock,
		ISNKey: siphash.Key{K0: 1, K1: 2},
	}
	table := conntrack.Config{MaxConnections: 10_000}
	for _, o := range options {
		o(w, &cfg, &table)
	}
	if w.sides == nil && apart {
		w.sides = make([]side, 2)
	} else if w.sides == nil {
		w.sides = make([]side, 1)
	}
	for i := range w.sides {
		cfg.Queues = append(cfg.Queues, w.newSide(&w.sides[i]))
	}
	w.conns = newConns(t, table)
	cfg.Conns = w.conns
	var err error
	if w.engine, err = New(cfg, w.compile(services, nil)); err != nil {
		t.Fatal(err)
	}
	for i, worker := range w.engine.Workers() {
		w.sides[i].worker = worker
		worker.swept = 0
	}
	w.side = w.sides[0]
	return w
}

// newConns returns an empty connection table, in memory as fnatd has it.
func newConns(t testing.TB, c conntrack.Config) *conntrack.Table {
	t.Helper()
	f, err := state.Create("", conntrack.Measure(c).Memory(), state.Secrets{}, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, ok := t.(*testing.B); ok {
		gather(f)
	}
	conns, err := conntrack.New(c, f.Table())
	if err != nil {
		t.Fatal(err)
	}
	return conns
}

// gather has a state lie in huge pages, as that of a fnatd which has run for a second.
func gather(f *state.File) {
	table := f.Table()
	for at := 0; at < len(table); at += os.Getpagesize() {
		table[at] = 0 // only what is there can be gathered
	}
	f.Gather(nil)
}

// newSide makes the queues of a worker.
func (w *world) newSide(s *side) Queue {
	w.Helper()
	var err error
	if s.umem, err = xsk.NewUMEM(xsk.Config{Frames: w.frames}); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { s.umem.Close() })
	for i := range s.ports {
		s.ports[i] = &fakePort{umem: s.umem, room: -1}
	}
	return Queue{UMEM: s.umem, Ports: [][]Port{{s.ports[wan]}, {s.ports[lan]}}}
}

// at returns the side that a port's frames come in by.
func (w *world) at(port int) *side { return &w.sides[port%len(w.sides)] }

// routes are both networks, with the client and the real servers known.
func routes(generation uint16, real [6]byte) *route.Table {
	return route.Static(generation, routesTo(real))
}

// routesTo are those of routes.
func routesTo(real [6]byte) []route.StaticPort {
	return []route.StaticPort{
		wan: {
			MAC: wanMAC, MTU: 1500, Networks: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/24"), netip.MustParsePrefix("2001:db8:18::/64")},
			Neighbours: map[netip.Addr][6]byte{
				netip.MustParseAddr("198.18.0.2"):     clientMAC,
				netip.MustParseAddr("2001:db8:18::2"): clientMAC,
			},
		},
		lan: {
			MAC: lanMAC, MTU: 1500, Networks: []netip.Prefix{netip.MustParsePrefix("198.19.0.0/24"), netip.MustParsePrefix("2001:db8:19::/64")},
			Neighbours: map[netip.Addr][6]byte{
				netip.MustParseAddr("198.19.0.101"):     real,
				netip.MustParseAddr("198.19.0.102"):     real,
				netip.MustParseAddr("2001:db8:19::101"): real,
			},
		},
	}
}

func (w *world) compile(services string, prev *lb.Table) *lb.Table {
	w.Helper()
	cfg, err := config.Parse("test.toml", []byte(fmt.Sprintf(header, w.pool, w.lports)+services))
	if err != nil {
		w.Fatal(err)
	}
	table, err := lb.Compile(cfg, prev)
	if err != nil {
		w.Fatal(err)
	}
	return table
}

// reload puts other services in force.
func (w *world) reload(services string) {
	w.Helper()
	if err := w.engine.Apply(w.compile(services, w.engine.View().Table)); err != nil {
		w.Fatal(err)
	}
}

// put lays a packet into the receive ring of a port: one frame, or one for each
// of its pieces.
func (w *world) put(port int, pieces ...[]byte) {
	w.Helper()
	w.record(pieces)
	w.putAt(w.at(port), port, pieces...)
}

// putAt lays a packet into the receive ring of a port that a side has.
func (w *world) putAt(s *side, port int, pieces ...[]byte) {
	w.Helper()
	for i, piece := range pieces {
		addr, ok := s.umem.Alloc()
		if !ok {
			w.Fatal("no free frame: the worker leaks")
		}
		copy(s.umem.Chunk(addr)[packettest.Headroom:], piece)
		d := xsk.Desc{Addr: addr + packettest.Headroom, Len: uint32(len(piece))}
		if i+1 < len(pieces) {
			d.Options = xsk.Continued
		}
		s.ports[port].received = append(s.ports[port].received, d)
	}
}

// run lets the workers do one round and returns what they sent, by port. Whatever
// leaves must have right checksums, and no frame may get lost.
func (w *world) run() (sent [2][][]byte) {
	w.Helper()
	for _, s := range w.sides {
		s.worker.poll(w.clock)
		for i, p := range s.ports {
			p.Complete()
			for _, frame := range p.sent {
				packettest.CheckSums(w, frame)
			}
			w.record(p.sent)
			sent[i] = append(sent[i], p.sent...)
			p.sent = nil
		}
		if c := s.umem.Census(); !c.Conserved() || c.Free != w.frames && !w.loose {
			w.Errorf("frames: got %+v, want all of %d free", c, w.frames)
		}
	}
	return sent
}

// record puts frames on the tape, each a little later than the one before.
func (w *world) record(frames [][]byte) {
	for _, f := range frames {
		if w.rolls {
			w.tape = append(w.tape, netns.Frame{Time: w.clock.Add(time.Duration(len(w.tape)) * time.Microsecond), Data: f})
		}
	}
}

// counts returns the sum of the workers' counters.
func (w *world) counts() (sum Counts) {
	for _, s := range w.sides {
		c := s.worker.Counts()
		for i, n := range c.Drops {
			sum.Drops[i] += n
		}
		for i, n := range c.Events {
			sum.Events[i] += n
		}
	}
	return sum
}

// pass sends a frame into a port and returns the only one that leaves, by the
// other port.
func (w *world) pass(port int, f packettest.Frame) *packet.Packet {
	w.Helper()
	w.put(port, f.Bytes())
	sent := w.run()
	if len(sent[port]) != 0 || len(sent[1-port]) != 1 {
		w.Fatalf("sent: got %d and %d frames, want one by the other port (drops: %v)", len(sent[wan]), len(sent[lan]), w.drops())
	}
	return packettest.NewFrame(sent[1-port][0]).Parse(w)
}

// refuse sends a frame into a port, from where it must not come further, for
// the reason why.
func (w *world) refuse(port int, f []byte, why packet.Reason) {
	w.Helper()
	before := w.counts().Drops[why]
	w.put(port, f)
	if sent := w.run(); len(sent[1-port]) != 0 || len(sent[port]) != 0 && !answered[why] {
		w.Errorf("sent: got %v, want nothing", sent)
	}
	if got := w.counts().Drops[why] - before; got != 1 {
		w.Errorf("drops for %v: got %d, want 1 (all: %v)", why, got, w.drops())
	}
}

// answered are the reasons of which the sender is told.
var answered = map[packet.Reason]bool{packet.TTLExceeded: true, packet.TooBig: true}

// drops are the reasons counted so far.
func (w *world) drops() map[string]uint64 {
	all := map[string]uint64{}
	for why, n := range w.counts().Drops {
		if n > 0 {
			all[packet.Reason(why).String()] = n
		}
	}
	return all
}

// wait lets time pass, with the worker's timers running.
func (w *world) wait(d time.Duration) (sent [2][][]byte) {
	w.Helper()
	for end := w.clock.Add(d); w.clock.Before(end); {
		w.clock = w.clock.Add(min(100*time.Millisecond, end.Sub(w.clock)))
		now := w.run()
		sent[wan] = append(sent[wan], now[wan]...)
		sent[lan] = append(sent[lan], now[lan]...)
	}
	return sent
}

// traffic returns the meter of the only service.
func (w *world) traffic() Traffic { return w.engine.View().Services[0].Meter.Read() }

// load returns the connections of the first real server.
func (w *world) load() (active, inactive int32) {
	l := w.engine.View().Services[0].Servers[0].Load
	return l.Active.Load(), l.Inactive.Load()
}
