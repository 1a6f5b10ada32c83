package bfd

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"
)

// A Key is what makes a session the same over changes of all else.
type Key struct {
	Neighbor netip.Addr
	Source   netip.Addr // packets are sent from it; invalid: the kernel chooses
	Multihop bool       // port 4784 instead of 3784 (RFC 5883)
}

// A Config says how a session is to be. Its fields are valid: config sees to that.
type Config struct {
	Key
	MinTx   time.Duration // between packets that we should like to send
	MinRx   time.Duration // between packets that we can receive
	IdleTx  time.Duration // in place of MinTx while the session is not up; at least slowTx
	Mult    uint8         // packets that must be missed until the neighbor takes us for lost
	Passive bool          // send nothing until the neighbor has been heard
	TTL     uint8         // that both ends send with
	MaxHops uint8         // by which less may be left of it on arrival
}

// slowTx is the shortest interval while a session is not up (RFC 5880, section 6.8.3).
const slowTx = time.Second

// noDemands is what we take the neighbor to be able to receive before it has said
// so (RFC 5880, section 6.8.1).
const noDemands = time.Microsecond

// A session is the state of RFC 5880, section 6.8.1, whose names are given where ours
// are others. It does no more than to follow the rules: the Speaker, whose lock guards
// it, gives it packets and time, and asks it what to send and when.
type session struct {
	Config
	local, remote      uint32 // discriminators; remote is 0 while not known
	state, remoteState State
	diag, remoteDiag   Diag
	remoteTx, remoteRx time.Duration // the neighbor's DesiredMinTxInterval, RemoteMinRxInterval
	remoteMult         uint8
	remoteDemand       bool
	minTx, minRx       time.Duration // DesiredMinTxInterval, RequiredMinRxInterval: what we say
	heldTx, heldRx     time.Duration // what counts until the Poll Sequence has ended
	polling, again     bool          // a Poll Sequence is under way; another one has to follow
	heard              time.Time     // when the last packet came that was not discarded
	next               time.Time     // when the next periodic packet is due; zero: none is
	deadline           time.Time     // when the neighbor is lost; zero: nothing is to be lost
	sent               Packet        // the last one, but for answers to a Poll
	sentAt             time.Time
	since              time.Time // of state
	ups, downs         uint64    // times that it came to be up, and ceased to be
	cause              string    // why it is not up; "": it has not been yet
	lastDiag           Diag      // why it last went down
}

func newSession(c Config, local uint32, now time.Time) *session {
	s := &session{Config: c, local: local, state: Down, since: now, remoteState: Down, remoteRx: noDemands}
	s.minTx, s.minRx = s.idle(), c.MinRx
	s.heldTx, s.heldRx = s.minTx, s.minRx
	return s
}

func (s *session) idle() time.Duration { return max(s.IdleTx, slowTx) }

// configure changes everything but the Key.
func (s *session) configure(c Config, now time.Time) {
	s.Config = c
	tx := s.idle()
	if s.state == Up {
		tx = c.MinTx
	}
	s.offer(tx, c.MinRx)
	s.expectBy(now)
}

// offer changes what we say of our timers (RFC 5880, section 6.8.3): the neighbor is
// polled, and what would have it take us for lost, or us it, before it knows waits
// until it has answered.
func (s *session) offer(tx, rx time.Duration) {
	if tx == s.minTx && rx == s.minRx {
		return
	}
	s.minTx, s.minRx = tx, rx
	if s.state != Up || tx < s.heldTx {
		s.heldTx = tx
	}
	if s.state != Up || rx > s.heldRx {
		s.heldRx = rx
	}
	s.again = s.polling // an answer under way is one to what we said before
	s.polling = true
}

// interval returns the time from one periodic packet to the next, before jitter, or 0
// if there are to be none (RFC 5880, sections 6.8.2 and 6.8.7).
func (s *session) interval() time.Duration {
	switch {
	case s.Passive && s.remote == 0, s.remoteRx == 0:
		return 0
	case s.remoteDemand && s.state == Up && s.remoteState == Up && !s.polling:
		return 0 // Demand mode is active at the neighbor's
	}
	return max(s.heldTx, s.remoteRx)
}

// detection returns the time without a packet after which the neighbor is lost
// (RFC 5880, section 6.8.4).
func (s *session) detection() time.Duration {
	return time.Duration(s.remoteMult) * max(s.heldRx, s.remoteTx)
}

// jittered shortens an interval at random, so that no two ends come to send in step
// (RFC 5880, section 6.8.7): to 75 to 100 % of it, and to 75 to 90 % where a single
// packet that is late would be a loss.
func (s *session) jittered(d time.Duration) time.Duration {
	least, spread := d*3/4, d/4
	if s.Mult == 1 {
		spread = d * 15 / 100
	}
	return least + time.Duration(rand.Int64N(int64(spread)+1))
}

// packet returns what is to be sent.
func (s *session) packet(final bool) Packet {
	return Packet{
		Diag: s.diag, State: s.state, Mult: s.Mult, My: s.local, Your: s.remote, MinTx: micros(s.minTx), MinRx: micros(s.minRx),
		Poll: s.polling && !final, Final: final, // never both (RFC 5880, section 6.5)
	}
}

// news reports whether what is to be sent says anything that the last packet did not,
// for which the neighbor need not wait (RFC 5880, section 6.8.7).
func (s *session) news() bool {
	p, sent := s.packet(false), s.sent
	p.Poll, p.Final, sent.Poll, sent.Final = false, false, false, false
	return p != sent
}

// receive takes a packet that is this session's and passed Parse. It follows RFC 5880,
// section 6.8.6, from where a session has been found on. Demand mode it lets the
// neighbor have; echoes there are none.
func (s *session) receive(p *Packet, now time.Time) {
	s.remote, s.remoteState, s.remoteDiag, s.remoteDemand = p.My, p.State, p.Diag, p.Demand
	s.remoteRx, s.remoteTx, s.remoteMult = span(p.MinRx), span(p.MinTx), p.Mult
	if p.Final && s.polling {
		s.answered()
	}
	switch {
	case s.state == AdminDown:
		return
	case p.State == AdminDown && s.state != Down:
		s.turn(Down, NeighborDown, "the neighbor has taken it down: "+p.Diag.String(), now)
	case p.State == AdminDown:
	case p.State == Down && s.state == Up:
		s.turn(Down, NeighborDown, "the neighbor says that it is down: "+p.Diag.String(), now)
	case p.State == Down && s.state == Down:
		s.turn(Init, NoDiag, s.cause, now)
	case p.State == Init && s.state == Down, p.State >= Init && s.state == Init:
		s.turn(Up, NoDiag, "", now)
	}
	if s.state == Up && s.ups == 0 { // it was resumed, and the neighbor goes on with it
		s.ups++
	}
	s.heard = now
	s.expectBy(now)
}

// answered ends a Poll Sequence.
func (s *session) answered() {
	s.polling, s.again = s.again, false
	if !s.polling {
		s.heldTx, s.heldRx = s.minTx, s.minRx
	}
}

// expectBy sets until when the next packet has to come. In Down, too: as long as the
// neighbor sends, what it has said counts.
func (s *session) expectBy(now time.Time) {
	if s.remote == 0 {
		s.deadline = time.Time{}
		return
	}
	from := s.heard
	if from.IsZero() {
		from = now
	}
	s.deadline = from.Add(s.detection())
}

// expire forgets a neighbor of which nothing has come for the detection time
// (RFC 5880, sections 6.8.1 and 6.8.4).
func (s *session) expire(now time.Time) {
	silence := s.detection()
	s.remote, s.remoteState, s.remoteDemand = 0, Down, false
	s.remoteTx, s.remoteRx, s.remoteMult = 0, noDemands, 0
	s.deadline = time.Time{}
	if s.state > Down {
		s.turn(Down, TimeExpired, fmt.Sprintf("no packet for %v", silence), now)
	}
}

// turn changes the state.
func (s *session) turn(to State, diag Diag, cause string, now time.Time) {
	if diag != NoDiag {
		s.lastDiag = diag
	}
	switch {
	case to == Up:
		s.ups++
	case s.state == Up && s.ups > 0: // else it was merely resumed
		s.downs++
	}
	s.state, s.diag, s.cause, s.since = to, diag, cause, now
	if to == Up {
		s.offer(s.MinTx, s.minRx)
		return
	}
	s.offer(s.idle(), s.minRx)
	s.heldTx, s.heldRx = s.minTx, s.minRx // only who is up can be taken for lost
}
