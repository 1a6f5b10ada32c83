package ctl

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
)

// A Flow is what a client sends to a virtual address.
type Flow struct {
	Protocol string         `json:"protocol"` // tcp or udp
	Client   netip.AddrPort `json:"client"`
	Virtual  netip.AddrPort `json:"virtual"`
}

// ParseFlow reads a Flow as people write it.
func ParseFlow(protocol, client, virtual string) (f Flow, err error) {
	if f.Protocol = protocol; protocol != "tcp" && protocol != "udp" {
		return Flow{}, fmt.Errorf("protocol %q: want tcp or udp", protocol)
	}
	read := func(what, text string, to *netip.AddrPort) {
		at, wrong := netip.ParseAddrPort(text)
		if wrong != nil && err == nil {
			err = fmt.Errorf("%s %q: not an address and port (want it as 198.51.100.7:40000 or [2001:db8::7]:40000)", what, text)
		}
		*to = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	}
	read("client", client, &f.Client)
	read("virtual", virtual, &f.Virtual)
	return f, err
}

// An Explanation says what has become of a flow's packets, or would become of its
// first.
type Explanation struct {
	Flow
	Verdict    Verdict     `json:"verdict"`
	Reason     string      `json:"reason"`               // why it would be dropped; else empty
	Connection *Connection `json:"connection,omitempty"` // if there is one
	Steps      []Step      `json:"steps"`
	LastDrop   *LastDrop   `json:"last_drop,omitempty"` // of a packet of the flow, if fnatd remembers one
}

// A Verdict is what an Explanation comes to.
type Verdict string

// The verdicts.
const (
	Forwarded      Verdict = "forwarded"        // it has a connection
	WouldForward   Verdict = "would_forward"    // its first packet would open one
	WouldDrop      Verdict = "would_drop"       // for a Reason
	WouldNotArrive Verdict = "would_not_arrive" // the kernel keeps it: no service of fnatd's
)

// A Step is one stage of the way of a packet, and what is found there.
type Step struct {
	What string `json:"what"`
	Text string `json:"text"`
}

// A LastDrop is why a packet of a flow was dropped.
type LastDrop struct {
	Drop               // its Count is 0: only one is meant
	AgoSeconds float64 `json:"ago_seconds"`
}

// ExplainPath returns the path and query that ask about f.
func ExplainPath(f Flow) string {
	q := url.Values{"protocol": {f.Protocol}, "client": {f.Client.String()}, "virtual": {f.Virtual.String()}}
	return PathExplain + "?" + q.Encode()
}

// Explain asks what has become of a flow, or would.
func (c *Client) Explain(ctx context.Context, f Flow) (Explanation, error) {
	return ask[Explanation](ctx, c, Get(ExplainPath(f)))
}

func (s *server) explain(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	for key, values := range q {
		if key != "protocol" && key != "client" && key != "virtual" || len(values) != 1 {
			fail(w, http.StatusBadRequest, fmt.Errorf("%q: no such parameter, or twice (want protocol, client and virtual)", key))
			return
		}
	}
	f, err := ParseFlow(q.Get("protocol"), q.Get("client"), q.Get("virtual"))
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	e := s.b.Explain(f)
	e.Steps = orEmpty(e.Steps)
	answer(w, http.StatusOK, e)
}
