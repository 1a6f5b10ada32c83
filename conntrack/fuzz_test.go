package conntrack

import (
	"math/rand/v2"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

// The table against a map: a program of four-byte instructions runs on both.

// modelKey names a connection, or a template if port is zero.
type modelKey struct {
	client  packet.Endpoint
	virtual packet.Endpoint
	proto   uint8
}

// A modelConn is what the model knows of a connection.
type modelConn struct {
	Conn        // deadline, state, server and port as the model believes them
	order int   // of becoming half-open
	alarm int64 // or -1
}

type model struct {
	testing.TB
	tb       *Table
	bindings []BindingID
	locals   []LocalID
	conns    map[modelKey]*modelConn
	now      uint32
	orders   int
	counts   []uint8 // of Know; nil until it was called
	lines    []uint8
}

const (
	modelBound = 24
	checkEvery = 8
)

func newModel(t testing.TB) *model {
	m := &model{TB: t, tb: newTestTable(t, Config{MaxConnections: modelBound, Shards: 4}), conns: map[modelKey]*modelConn{}}
	second := endpoint("203.0.113.11:80")
	for _, b := range []Binding{
		{packet.ProtoTCP, virtual, real1},
		{packet.ProtoTCP, virtual, real2},
		{packet.ProtoTCP, second, real1}, // shares a server with the first
		{packet.ProtoUDP, virtual, real1},
	} {
		m.bindings = append(m.bindings, mustBind(t, m.tb, b.Proto, b.Virtual, b.Real))
	}
	m.locals = []LocalID{
		mustAddLocal(t, m.tb, "10.0.1.10", 1000, 1004),
		mustAddLocal(t, m.tb, "10.0.1.11", 2000, 2003),
	}
	return m
}

// run executes a program, compares table and model after each instruction, and
// has the table check itself, which takes longer, now and then and at the end.
func (m *model) run(program []byte) {
	for n := 1; len(program) >= 4; n++ {
		m.step(program[0]%8, program[1], program[2], program[3])
		m.compare()
		if program = program[4:]; n%checkEvery == 0 {
			if err := m.tb.Check(); err != nil {
				m.Fatal(err)
			}
		}
	}
}

func (m *model) step(op, who, what, howLong byte) {
	b := m.bindings[int(what)%len(m.bindings)]
	bind := m.tb.Binding(b)
	client := clientN(int(who) % 48)
	key := modelKey{client, bind.Virtual, bind.Proto}
	timeout := uint32(howLong)*700 + 1
	switch op {
	case 0, 1:
		if m.conns[key] == nil {
			m.open(key, b)
			return
		}
		m.change(key, what/4, timeout)
	case 2:
		if m.conns[key] != nil {
			m.change(key, what/4, timeout)
		}
	case 3:
		m.remove(key)
	case 4:
		m.expire(uint32(who)<<8|uint32(what), int(howLong))
	case 5:
		m.template(packet.Addr(client.Addr), b, timeout)
	case 6:
		lo := 1000 + uint16(who%4)
		mustAddLocal(m, m.tb, "10.0.1.10", lo, lo+3+uint16(what%4))
	case 7:
		other := packet.Endpoint{Addr: real2.Addr, Port: uint16(who % 4)}
		m.tb.Unbind(mustBind(m, m.tb, packet.ProtoTCP, virtual, other))
		if howLong%4 == 0 {
			m.know(b)
		}
	}
}

// know has the connections of b counted as well, which Check looks at.
func (m *model) know(b BindingID) {
	var set BindingSet
	set.Add(b)
	if m.counts == nil {
		m.counts, m.lines = newCounts(m.tb)
	}
	m.tb.Know(m.counts, m.lines, &set)
}

// reserve reserves a place and sees that what is evicted for it is the oldest
// half-open connection.
func (m *model) reserve() bool {
	var oldest *modelConn
	for _, c := range m.conns {
		if c.State.HalfOpen() && (oldest == nil || int16(c.born-oldest.born) < 0) {
			oldest = c
		}
	}
	full := len(m.conns) == modelBound
	e, evicted, ok := m.tb.Reserve()
	if evicted != (full && oldest != nil) || ok != (!full || oldest != nil) {
		m.Fatalf("reserve with %d connections: evicted %v, ok %v", len(m.conns), evicted, ok)
	}
	if evicted {
		k := m.keyOf(&e.Conn)
		c := m.conns[k]
		if c == nil || !c.State.HalfOpen() || c.born != oldest.born {
			m.Fatalf("evicted %+v, want one as old as %+v", e.Conn, oldest.Conn)
		}
		for _, other := range m.conns {
			if sameShard := m.shardOf(other) == m.shardOf(c); sameShard && other.State.HalfOpen() && other.order < c.order {
				m.Fatalf("evicted %+v before the older %+v", c.Conn, other.Conn)
			}
		}
		delete(m.conns, k)
	}
	return ok
}

func (m *model) shardOf(c *modelConn) int {
	f := m.tb.InboundFlow(&c.Conn)
	return m.tb.InboundKey(&f).Shard()
}

func (m *model) keyOf(c *Conn) modelKey {
	b := m.tb.Binding(c.Binding())
	return modelKey{packet.Endpoint{Addr: c.Client, Port: c.ClientPort}, b.Virtual, b.Proto}
}

func (m *model) open(key modelKey, b BindingID) {
	if !m.reserve() {
		return
	}
	c, why := openReserved(m.tb, key.client, b, m.locals, m.now)
	switch why {
	case packet.Kept:
		m.orders++
		m.conns[key] = &modelConn{Conn: c, order: m.orders, alarm: -1}
	case packet.NoLocalPort:
		m.checkNoPort(key, b)
	default:
		m.Fatal(why)
	}
}

// checkNoPort sees that every port that the connection could have had is in use
// toward its real server.
func (m *model) checkNoPort(key modelKey, b BindingID) {
	f := flow(key.proto, key.client, key.virtual)
	shard := m.tb.InboundKey(&f).Shard()
	for _, id := range m.locals {
		l := m.tb.Local(id)
		for port := l.PortMin; port <= l.PortMax; port++ {
			if int(port)%4 == shard && !m.portInUse(id, port, b) {
				m.Fatalf("refused, but %v:%d is usable toward %v", l.Addr, port, m.tb.Binding(b).Real)
			}
		}
	}
}

func (m *model) portInUse(id LocalID, port uint16, b BindingID) bool {
	want := m.tb.Binding(b)
	for _, c := range m.conns {
		have := m.tb.Binding(c.Binding())
		if c.Local == id && c.LocalPort == port && have.Real == want.Real && have.Proto == want.Proto {
			return true
		}
	}
	return false
}

// change does to an existing connection what a packet might.
func (m *model) change(key modelKey, how byte, timeout uint32) {
	mc := m.conns[key]
	with(m, m.tb, mc.Conn, func(s *Shard, c *Conn) {
		wasHalf := c.State.HalfOpen()
		to := State(how/4)%SynAck + Established
		if c.State.isUDP() {
			to = UDPOneWay + State(how/4)%2
		}
		switch how % 4 {
		case 0:
			s.Touch(c, timeout, m.now)
		case 1:
			if how < 128 || !c.MoveOn(to, timeout, m.now) {
				s.SetState(c, to, timeout, m.now)
			}
		case 2:
			s.Restart(c, to, timeout, m.now)
			wasHalf, mc.alarm = false, -1
		case 3:
			if !c.State.isUDP() {
				return
			}
			s.SetAlarm(c, m.now+timeout)
			mc.alarm = int64(max(m.now+timeout, 1))
		}
		if c.State.HalfOpen() && !wasHalf {
			m.orders++
			mc.order = m.orders
		}
		if c.Deadline != m.now+timeout && how%4 != 3 {
			m.Fatalf("deadline %d, want %d", c.Deadline, m.now+timeout)
		}
		mc.Conn = c.Copy()
	})
}

func (m *model) remove(key modelKey) {
	mc := m.conns[key]
	if mc == nil {
		return
	}
	with(m, m.tb, mc.Conn, func(s *Shard, c *Conn) {
		if e := s.Remove(c); outside(&e.Conn) != outside(&mc.Conn) {
			m.Fatalf("removed %+v, want %+v", e.Conn, mc.Conn)
		}
	})
	delete(m.conns, key)
}

// template inserts, touches or, if it is another server's, replaces a template.
func (m *model) template(client packet.Addr, b BindingID, timeout uint32) {
	bind := m.tb.Binding(b)
	key := modelKey{packet.Endpoint{Addr: client}, bind.Virtual, bind.Proto}
	k := m.tb.TemplateKey(bind.Proto, client, bind.Virtual)
	mc := m.conns[key]
	if mc == nil && !m.reserve() {
		return
	}
	s := m.tb.Lock(k)
	defer s.Unlock()
	c := s.FindTemplate(k, bind.Proto, client, bind.Virtual)
	switch {
	case (c == nil) != (mc == nil):
		m.Fatalf("template: found %v, want %v", c, mc)
	case c == nil:
		c, _ = s.InsertTemplate(k, client, b, timeout, m.now)
	case c.Binding() != b:
		s.Remove(c)
		delete(m.conns, key)
		return
	default:
		s.Touch(c, timeout, m.now)
	}
	m.conns[key] = &modelConn{Conn: c.Copy(), alarm: -1}
}

// expire moves the clock on. Every connection whose tick is over must go, none
// that is not due may. One that is asked about its alarm lives on.
func (m *model) expire(by uint32, limit int) {
	m.now += by
	full := true
	for shard := range m.tb.Shards() {
		n := m.tb.Expire(shard, m.now, limit, func(s *Shard, c *Conn) uint32 {
			k := m.keyOf(c)
			mc := m.conns[k]
			if mc == nil || outside(&mc.Conn) != outside(c) {
				m.Fatalf("asked about %+v, want %+v", *c, mc)
			}
			if !before(m.now, c.Deadline) {
				delete(m.conns, k)
				return 0
			}
			if mc.alarm < 0 || before(m.now, uint32(mc.alarm)) {
				m.Fatalf("asked at %d about %+v", m.now, *c)
			}
			s.ClearAlarm(c)
			mc.alarm, mc.SeqDelta = -1, 0
			return 1
		})
		full = full && n < limit
	}
	for _, c := range m.conns {
		if full && before((c.Deadline+patience)|(tick-1), m.now) {
			m.Fatalf("still there at %d: %+v", m.now, c.Conn)
		}
	}
}

// compare looks for each connection of the model in the table.
func (m *model) compare() {
	live := 0
	for _, c := range m.conns {
		if c.State != Template && !has(m, m.tb, c.Conn) {
			m.Fatalf("lost: %+v", c.Conn)
		}
		live++
	}
	if st := m.tb.Stats(); st.Connections+st.Templates != live {
		m.Fatalf("table has %d, model %d", st.Connections+st.Templates, live)
	}
}

func randomProgram(seed uint64, steps int) []byte {
	rng := rand.New(rand.NewPCG(seed, 0))
	program := make([]byte, 4*steps)
	for i := range program {
		program[i] = byte(rng.Uint32())
		if i%4 == 1 && program[i-1]%8 == 4 {
			program[i] %= 32 // so that time does not run away
		}
	}
	return program
}

func TestRandomOperations(t *testing.T) {
	for seed := range uint64(20) {
		newModel(t).run(randomProgram(seed, 250))
	}
}

func FuzzTable(f *testing.F) {
	f.Add(randomProgram(100, 60))
	f.Add([]byte{0, 1, 0, 0, 4, 255, 255, 255, 0, 1, 0, 0})
	f.Fuzz(func(t *testing.T, program []byte) {
		newModel(t).run(program[:min(len(program), 1000)])
	})
}
