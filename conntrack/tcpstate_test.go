package conntrack

import (
	"strings"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

// The transition table of LVS-FULLNAT as its documentation prints it.
const publishedTable = `
in  syn  SR ES ES SR SR SR SR SR SR SR SR
in  fin  CL CW SS TW TW TW CL CW LA LI TW
in  ack  CL ES SS ES FW TW CL CW CL LI ES
in  rst  CL CL CL SR CL CL CL CL LA LI SR
out syn  SS ES SS SR SS SS SS SS SS LI SR
out fin  TW FW SS TW FW TW CL TW LA LI TW
out ack  ES ES SS ES FW TW CL CW LA ES ES
out rst  CL CL SS CL CL TW CL CL CL CL CL`

func TestNextStateIsThePublishedTable(t *testing.T) {
	columns := []string{"NO", "ES", "SS", "SR", "FW", "TW", "CL", "CW", "LA", "LI", "SA"}
	states := map[string]State{
		"NO": None, "ES": Established, "SS": SynSent, "SR": SynReceived, "FW": FinWait, "TW": TimeWait,
		"CL": Closed, "CW": CloseWait, "LA": LastAck, "LI": Listen, "SA": SynAck,
	}
	flags := map[string]packet.TCPFlags{
		"syn": packet.SYN, "fin": packet.FIN, "ack": packet.ACK, "rst": packet.RST,
	}
	cells := 0
	for _, line := range strings.Split(strings.TrimSpace(publishedTable), "\n") {
		w := strings.Fields(line)
		for i, to := range w[2:] {
			from, want := states[columns[i]], states[to]
			if got := NextState(from, w[0] == "out", flags[w[1]]); got != want {
				t.Errorf("%s %s in %v: got %v, want %v", w[0], w[1], from, got, want)
			}
			cells++
		}
	}
	if want := 2 * 4 * int(SynAck+1); cells != want {
		t.Errorf("table has %d cells, want %d", cells, want)
	}
}

func TestNextState(t *testing.T) {
	for _, c := range []struct {
		name     string
		from     State
		outbound bool
		flags    packet.TCPFlags
		want     State
	}{
		{"syn_ack_counts_as_syn", SynReceived, true, packet.SYN | packet.ACK, SynReceived},
		{"fin_ack_counts_as_fin", Established, true, packet.FIN | packet.ACK, FinWait},
		{"rst_counts_before_syn", Established, false, packet.RST | packet.SYN, Closed},
		{"rst_counts_before_fin", Established, false, packet.RST | packet.FIN | packet.ACK, Closed},
		{"syn_counts_before_fin", TimeWait, false, packet.SYN | packet.FIN, SynReceived},
		{"psh_alone_changes_nothing", SynReceived, false, packet.PSH, SynReceived},
		{"no_flags_change_nothing", Established, true, 0, Established},
		{"forged_syn_does_not_reopen_established", Established, false, packet.SYN, Established},
		{"stray_ack_does_not_revive_time_wait", TimeWait, false, packet.ACK, TimeWait},
		{"stray_ack_does_not_revive_closed", Closed, false, packet.ACK, Closed},
		{"udp_is_not_tcp", UDPOneWay, true, packet.ACK, UDPOneWay},
		{"template_is_not_tcp", Template, false, packet.RST, Template},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := NextState(c.from, c.outbound, c.flags); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestStates(t *testing.T) {
	timeouts := DefaultTimeouts()
	names := map[string]State{}
	for s := None; s < NumStates; s++ {
		if other, twice := names[s.String()]; s.String() == "" || twice {
			t.Errorf("state %d has the name %q of state %d", s, s, other)
		}
		names[s.String()] = s
		if timeouts[s] == 0 {
			t.Errorf("%v has no default timeout", s)
		}
		want := s == SynSent || s == SynReceived || s == UDPOneWay
		if s.HalfOpen() != want {
			t.Errorf("%v: half-open is %v", s, s.HalfOpen())
		}
	}
	if got := NumStates.String(); got != "ERR!" {
		t.Errorf("name of no state: got %q", got)
	}
	for _, s := range []State{SynReceived, UDPOneWay} {
		if timeouts[s] != initialTimeout {
			t.Errorf("connections begin as %v: its timeout %d is not the initial %d", s, timeouts[s], initialTimeout)
		}
	}
}
