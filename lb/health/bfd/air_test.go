package bfd

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const ms = time.Millisecond

// latency is how long a packet is under way in air.
const latency = ms

var (
	addrA = netip.MustParseAddr("10.0.2.1")
	addrB = netip.MustParseAddr("10.0.2.11")
)

// An air carries packets between Speakers, and remembers them.
type air struct {
	*testing.T
	began time.Time

	mu     sync.Mutex
	ends   map[end]*ether
	cut    map[netip.Addr]bool // addresses that no packet reaches
	flown  []flight
	busy   map[netip.Addr]bool // whose socket is not read until it is drained
	closed int
	refuse error // for whoever listens
}

type end struct {
	Kind
	addr netip.Addr
}

// A flight is one packet under way.
type flight struct {
	at       time.Duration
	from, to netip.Addr
	Packet
}

// ether is one Speaker's link to air.
type ether struct {
	end
	air     *air
	receive func(Datagram)
	waiting []Datagram
}

func newAir(t *testing.T) *air {
	return &air{T: t, began: time.Now(), ends: map[end]*ether{}, cut: map[netip.Addr]bool{}, busy: map[netip.Addr]bool{}}
}

// speaker returns a Speaker of an address.
func (a *air) speaker(addr netip.Addr) *Speaker {
	sp := NewSpeaker(slog.New(slog.DiscardHandler), func(k Kind, receive func(Datagram)) (Link, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.refuse != nil {
			return nil, a.refuse
		}
		e := &ether{end: end{k, addr}, air: a, receive: receive}
		a.ends[e.end] = e
		return e, nil
	})
	a.Cleanup(sp.Close)
	return sp
}

func (e *ether) Send(b []byte, to, from netip.Addr, ttl uint8) error {
	a := e.air
	p, err := Parse(b)
	if err != nil {
		a.Errorf("%v sends %x: %v", e.addr, b, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if to == netip.MustParseAddr("10.255.0.1") {
		return errors.New("network is unreachable")
	}
	a.flown = append(a.flown, flight{time.Since(a.began), e.addr, to, p})
	if !a.cut[to] {
		a.deliver(end{e.Kind, to}, Datagram{slices.Clone(b), e.addr, to, ttl})
	}
	return nil
}

// deliver brings a datagram to an end in a while.
func (a *air) deliver(to end, d Datagram) {
	time.AfterFunc(latency, func() {
		a.mu.Lock()
		e := a.ends[to]
		busy := a.busy[to.addr]
		if e != nil && busy {
			e.waiting = append(e.waiting, d)
		}
		a.mu.Unlock()
		if e != nil && !busy {
			e.receive(d)
		}
	})
}

// inject has a datagram come to A's single-hop port.
func (a *air) inject(from netip.Addr, ttl uint8, b []byte) {
	a.deliver(end{Kind{}, addrA}, Datagram{b, from, addrA, ttl})
	time.Sleep(latency)
	synctest.Wait()
}

func (e *ether) Drain() {
	e.air.mu.Lock()
	all := e.waiting
	e.waiting = nil
	e.air.mu.Unlock()
	for _, d := range all {
		e.receive(d)
	}
}

// Close ends when whoever is receiving has, as that of a socket does.
func (e *ether) Close() error {
	e.receive(Datagram{From: addrB, To: addrA})
	e.air.mu.Lock()
	defer e.air.mu.Unlock()
	e.air.closed++
	delete(e.air.ends, e.end)
	return nil
}

// disturb sets a property of an address.
func (a *air) disturb(what map[netip.Addr]bool, addr netip.Addr, is bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	what[addr] = is
}

// sentBy returns what an address has sent since a time.
func (a *air) sentBy(from netip.Addr, since time.Duration) (all []flight) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range a.flown {
		if f.from == from && f.at >= since {
			all = append(all, f)
		}
	}
	return all
}

// now is the time since air began.
func (a *air) now() time.Duration { return time.Since(a.began) }

func (a *air) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// expect compares what is known of a session with a text: "up", "down: no packet for 30ms".
func (a *air) expect(h *Session, want string) {
	a.Helper()
	synctest.Wait()
	st := h.Status()
	got := st.State.String()
	if st.Why != "" {
		got += ": " + st.Why
	}
	if d := cmp.Diff(want, got); d != "" {
		a.Errorf("at %v (-want +got):\n%s", a.now(), d)
	}
}

// usual is the session from A to B of most tests.
func usual() Config {
	return Config{Key: Key{Neighbor: addrB}, MinTx: 10 * ms, MinRx: 10 * ms, IdleTx: time.Second, Mult: 3, TTL: 255}
}

// mirrored returns c from the other end.
func mirrored(c Config, self netip.Addr) Config {
	c.Neighbor = self
	return c
}

// pair is two Speakers with a session between them.
type pair struct {
	*air
	a, b   *Speaker
	ha, hb *Session
	mu     sync.Mutex
	told   []string // of what A's session has told: "1.003s up"
}

func newPair(t *testing.T, a, b Config) *pair {
	p := &pair{air: newAir(t)}
	p.a, p.b = p.speaker(addrA), p.speaker(addrB)
	p.ha = p.a.Open(a, nil, func() {
		st := p.ha.Status()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.told = append(p.told, fmt.Sprintf("%v", st.State))
	})
	p.hb = p.b.Open(b, nil, func() {})
	return p
}

// up returns a pair of which the session is up and quiet.
func upPair(t *testing.T, c Config) *pair {
	p := newPair(t, c, mirrored(c, addrA))
	p.sleep(5 * time.Second)
	p.expect(p.ha, "up")
	p.expect(p.hb, "up")
	return p
}

// stop has B fall silent, and returns when its last packet has come to A.
func (p *pair) stop() (last time.Duration) {
	p.b.Silence()
	p.sleep(latency)
	sent := p.sentBy(addrB, 0)
	return sent[len(sent)-1].at + latency
}
