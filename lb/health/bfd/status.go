package bfd

import (
	"fmt"
	"net/netip"
	"time"
)

// A Status is what is known of a session.
type Status struct {
	Neighbor           netip.Addr
	State, RemoteState State

	Diag          Diag   // why it last went down; NoDiag: it never did
	RemoteDiag    Diag   // the neighbor's, in its last packet
	Local, Remote uint32 // discriminators; Remote is 0 while the neighbor is not heard
	Since         time.Time
	Ups, Downs    uint64        // times that it came to be up, and ceased to be
	Interval      time.Duration // between packets that we send, at most; 0: we send none
	Detection     time.Duration // without a packet after which the neighbor is lost; 0: it is not heard
	Why           string        // it is not up
}

// Status returns what is known of the session.
func (h *Session) Status() Status {
	h.sp.mu.Lock()
	defer h.sp.mu.Unlock()
	s := h.of
	st := Status{
		Neighbor: s.Neighbor, State: s.state, RemoteState: s.remoteState, Diag: s.lastDiag, RemoteDiag: s.remoteDiag, Local: s.local, Remote: s.remote,
		Since: s.since, Ups: s.ups, Downs: s.downs, Interval: s.interval(),
	}
	if s.remote != 0 {
		st.Detection = s.detection()
	}
	if s.state != Up {
		st.Why = h.sp.why(s)
	}
	return st
}

// why says why a session is not up.
func (sp *Speaker) why(s *spoken) string {
	switch err := sp.failed[s.kind()]; {
	case err != nil:
		return err.Error()
	case s.notSent != nil:
		return fmt.Sprintf("cannot send: %v", s.notSent)
	case s.droppedAt.After(s.since):
		return "a packet of the neighbor's is dropped: " + s.dropped
	case s.cause != "":
		return s.cause
	case s.remote == 0:
		return "no packet has come"
	}
	return fmt.Sprintf("the neighbor is %v", s.remoteState)
}
