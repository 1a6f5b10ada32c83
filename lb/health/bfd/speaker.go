// Package bfd speaks BFD with the hosts of real servers: asynchronous mode without
// authentication and without echoes (RFC 5880), over one hop (RFC 5881) or several
// (RFC 5883). It says what it finds out; what that means for a server is lb/health's.
//
// All sessions of an IP version and a number of hops share a socket to receive by and one
// to send from, and have no goroutine of their own.
package bfd

import (
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Our choices: the first packets of many sessions that begin together are sent within
// firstWithin, and a port that could not be had is tried again every retryListen.
const (
	firstWithin = 100 * time.Millisecond
	retryListen = time.Second
)

// A Speaker has sessions. Its methods are for any goroutine.
type Speaker struct {
	log    *slog.Logger
	listen Listen

	mu     sync.Mutex
	byKey  map[Key]*spoken
	byID   map[uint32]*spoken // by local discriminator
	links  map[Kind]Link
	failed map[Kind]error // why there is no link
	retry  *time.Timer
	silent bool // for good
	closed bool
	events []event
	news   chan struct{}
	done   chan struct{}
}

// A Kind is what sessions have in common that share sockets.
type Kind struct{ V6, Multihop bool }

func (k Key) kind() Kind { return Kind{k.Neighbor.Is6(), k.Multihop} }

// Port returns the port that both ends receive by.
func (k Key) Port() uint16 { return k.kind().port() }

// A Link is a pair of sockets.
type Link interface {
	// Send sends a packet. from is the source, if it is valid.
	Send(b []byte, to, from netip.Addr, ttl uint8) error
	// Drain takes all that has come until now, and returns when that is dealt with.
	Drain()
	Close() error
}

// Listen opens the Link of a Kind. What comes by it is given to receive, each Datagram
// when the one before is dealt with.
type Listen func(k Kind, receive func(Datagram)) (Link, error)

// A Datagram is what has come by a link.
type Datagram struct {
	Payload  []byte
	From, To netip.Addr
	TTL      uint8
}

// spoken is a session with what it needs to be spoken.
type spoken struct {
	session
	holders   []*Session
	transmit  *time.Timer // fires at next
	lost      *time.Timer
	lostAt    time.Time // when it fires; zero: it does not
	dropped   string    // why the last packet that seemed to be the neighbor's was not taken
	droppedAt time.Time
	notSent   error // why the last packet was not sent
	toldUp    bool  // that it is up was the last that was told
	gone      bool
}

// An event is a change of a session's state, to be told.
type event struct {
	of       *spoken
	neighbor netip.Addr
	state    State
	cause    string
}

// NewSpeaker returns a Speaker of no session. listen is UDP, but for tests.
func NewSpeaker(log *slog.Logger, listen Listen) *Speaker {
	sp := &Speaker{
		log: log, listen: listen, byKey: map[Key]*spoken{}, byID: map[uint32]*spoken{},
		links: map[Kind]Link{}, failed: map[Kind]error{}, news: make(chan struct{}, 1), done: make(chan struct{}),
	}
	go sp.tell()
	return sp
}

// tell tells of changes. Who holds a session may take his time; those who send and
// receive packets must not wait for him.
func (sp *Speaker) tell() {
	defer close(sp.done)
	for range sp.news {
		sp.mu.Lock()
		events := sp.events
		sp.events = nil
		var tell []func()
		for _, e := range events {
			for _, h := range e.of.holders {
				tell = append(tell, h.changed)
			}
		}
		sp.mu.Unlock()
		for _, e := range events {
			if e.state == Up {
				sp.log.Info("bfd session is up", "neighbor", e.neighbor)
			} else {
				sp.log.Info("bfd session is down", "neighbor", e.neighbor, "because", e.cause)
			}
		}
		for _, f := range tell {
			f()
		}
	}
}

// Listen opens the sockets that sessions with these Keys need. An error says what is
// wrong with one and what to do.
func (sp *Speaker) Listen(keys []Key) error {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for _, k := range keys {
		if _, err := sp.link(k.kind()); err != nil {
			return err
		}
	}
	return nil
}

// link returns the sockets of a kind, which it opens if they are not.
func (sp *Speaker) link(k Kind) (Link, error) {
	if l := sp.links[k]; l != nil {
		return l, nil
	}
	l, err := sp.listen(k, func(d Datagram) { sp.receive(k, d) })
	if err != nil {
		return nil, err
	}
	sp.links[k] = l
	delete(sp.failed, k)
	return l, nil
}

// open opens the sockets of a kind, and tries that again and again if it fails.
func (sp *Speaker) open(k Kind) {
	if sp.silent {
		return
	}
	if _, err := sp.link(k); err != nil {
		if sp.failed[k] == nil {
			sp.log.Error("no bfd session can come up, this is tried again", "error", err)
		}
		sp.failed[k] = err
		if sp.retry == nil {
			sp.retry = time.AfterFunc(retryListen, sp.reopen)
		}
	}
}

func (sp *Speaker) reopen() {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.retry = nil
	for k := range sp.failed {
		sp.open(k)
	}
}

// A Session is one holder's share of a session with a neighbor.
type Session struct {
	sp      *Speaker
	of      *spoken
	changed func()
}

// Open returns a share of the session with c.Key, which begins if nobody else has one.
// If somebody does, and c differs from what it is, it changes to that without going
// down. If m is not nil, a session that begins goes on where that of another process has
// ended. changed is called after each change between up and not up, and may call anything
// but Close of the Speaker.
func (sp *Speaker) Open(c Config, m *Memory, changed func()) *Session {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	now := time.Now()
	s := sp.byKey[c.Key]
	switch {
	case s == nil:
		s = sp.begin(c, m, now)
	case s.Config != c:
		s.configure(c, now)
		sp.settle(s, now)
	}
	if s.state == AdminDown { // it had been given up
		s.turn(Down, NoDiag, "", now)
		sp.settle(s, now)
	}
	h := &Session{sp, s, changed}
	s.holders = append(s.holders, h)
	return h
}

// begin makes a session, or resumes it.
func (sp *Speaker) begin(c Config, m *Memory, now time.Time) *spoken {
	resumed := m != nil && m.Local != 0 && m.Remote != 0 && sp.byID[m.Local] == nil
	var id uint32
	if resumed {
		id = m.Local
	}
	for id == 0 || sp.byID[id] != nil {
		id = rand.Uint32()
	}
	s := &spoken{session: *newSession(c, id, now)}
	s.transmit, s.lost = stopped(func() { sp.periodic(s) }), stopped(func() { sp.missed(s) })
	sp.byKey[c.Key], sp.byID[id] = s, s
	sp.open(c.kind())
	switch {
	case resumed:
		s.resume(m, now)
		sp.settle(s, now)
	case !c.Passive:
		sp.due(s, now.Add(rand.N(firstWithin)))
	}
	return s
}

// stopped returns a timer that fires when it is Reset.
func stopped(f func()) *time.Timer {
	t := time.AfterFunc(time.Hour, f)
	t.Stop()
	return t
}

// Close gives a share up. The session goes on until Sweep.
func (h *Session) Close() {
	h.sp.mu.Lock()
	defer h.sp.mu.Unlock()
	h.of.holders = slices.DeleteFunc(h.of.holders, func(o *Session) bool { return o == h })
}

// Sweep ends the sessions of which nobody has a share any more: their neighbors are told.
func (sp *Speaker) Sweep() {
	sp.mu.Lock()
	now := time.Now()
	for _, s := range sp.byKey {
		if len(s.holders) == 0 && s.state != AdminDown {
			sp.end(s, now)
		}
	}
	idle := sp.idle()
	sp.mu.Unlock()
	closeAll(idle)
}

// end tells the neighbor that the session is given up, and forgets it when the
// neighbor has had time to hear of that (RFC 5880, section 6.8.16).
func (sp *Speaker) end(s *spoken, now time.Time) {
	s.turn(AdminDown, Administrative, "", now)
	if s.remote == 0 {
		sp.forget(s)
		return
	}
	sp.settle(s, now)
}

func (sp *Speaker) forget(s *spoken) {
	s.gone = true
	s.transmit.Stop()
	s.lost.Stop()
	delete(sp.byKey, s.Key)
	delete(sp.byID, s.local)
}

// idle takes the sockets that no session needs away. They are to be closed without the
// lock, which who is reading one of them may wait for.
func (sp *Speaker) idle() (links []Link) {
	used := map[Kind]bool{}
	for key := range sp.byKey {
		used[key.kind()] = true
	}
	for k, l := range sp.links {
		if !used[k] {
			links = append(links, l)
			delete(sp.links, k)
		}
	}
	for k := range sp.failed {
		if !used[k] {
			delete(sp.failed, k)
		}
	}
	return links
}

func closeAll(links []Link) {
	for _, l := range links {
		_ = l.Close() // there is nobody who could do anything about it
	}
}

// Silence ends all sending and receiving for good, and tells no neighbor: another
// process goes on in a moment. What is known of the sessions stays as it is.
func (sp *Speaker) Silence() {
	sp.mu.Lock()
	links := sp.mute()
	sp.mu.Unlock()
	closeAll(links)
}

// mute forgets all sessions, and returns the sockets to be closed.
func (sp *Speaker) mute() []Link {
	sp.silent = true
	for _, s := range sp.byKey {
		sp.forget(s)
	}
	if sp.retry != nil {
		sp.retry.Stop()
	}
	return sp.idle()
}

// Close ends all sessions, tells their neighbors, and returns when nothing more is told.
func (sp *Speaker) Close() {
	sp.mu.Lock()
	now := time.Now()
	for _, s := range sp.byKey {
		sp.end(s, now)
	}
	links := sp.mute()
	if !sp.closed {
		sp.closed = true
		close(sp.news)
	}
	sp.mu.Unlock()
	closeAll(links)
	<-sp.done
}
