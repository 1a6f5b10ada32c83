package bfd

import "time"

// A Memory is what it takes to go on with a session that is up in another process, so
// that its neighbor notices nothing.
type Memory struct {
	Key
	Local, Remote      uint32        // discriminators
	RemoteTx, RemoteRx time.Duration // what the neighbor has said
	RemoteMult         uint8
}

// Memory returns what another process needs; ok is false if the session is not up.
func (h *Session) Memory() (m Memory, ok bool) {
	h.sp.mu.Lock()
	defer h.sp.mu.Unlock()
	s := h.of
	m = Memory{s.Key, s.local, s.remote, s.remoteTx, s.remoteRx, s.remoteMult}
	return m, s.state == Up && !s.gone
}

// resume has s, which is new, be up as m says. RFC 5880, section 6.8.1, has a session
// begin as down; this one has begun long ago. Until a packet has come it has not been up
// here: what has become of the neighbor meanwhile is not known.
func (s *session) resume(m *Memory, now time.Time) {
	s.state, s.remoteState, s.since = Up, Up, now
	s.remote, s.remoteTx, s.remoteRx, s.remoteMult = m.Remote, m.RemoteTx, m.RemoteRx, m.RemoteMult
	s.minTx, s.heldTx = s.MinTx, s.MinTx
	s.heard = now
	s.expectBy(now)
}
