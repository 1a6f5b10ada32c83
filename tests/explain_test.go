package tests

import (
	"bytes"
	"net"
	"net/netip"
	"strings"

	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
	"github.com/fnatd/fnatd/tests/harness"
)

// explained asks fnatd about a flow, and checks its verdict.
func (b *bed) explained(verdict ctl.Verdict, protocol string, client, virtual netip.AddrPort) ctl.Explanation {
	b.Helper()
	e, err := b.lb.Ctl.Explain(b.Context(), ctl.Flow{Protocol: protocol, Client: client, Virtual: virtual})
	if err != nil {
		b.Fatal(err)
	}
	if e.Verdict != verdict {
		b.Errorf("%s %s -> %s: got %+v, want it %s", protocol, client, virtual, e, verdict)
	}
	return e
}

// badControlClients sits on the control socket in silence, and sends garbage to it.
// Operators wait no longer than it takes to cut off the silent, packets not at all.
func badControlClients(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	b.start(b.web(0))
	p := b.connect(accepted)
	for i := range 200 {
		c, err := net.Dial("unix", harness.Socket(b.dir))
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		if i%2 == 1 {
			go c.Write(bytes.Repeat([]byte{0xff, byte(i)}, 1<<16))
		}
	}
	for range 100 {
		p.exchange()
	}
	if changes := b.reload(b.web(0, 1)); len(changes) != 1 {
		b.Errorf("reload behind bad clients: got %q", changes)
	}
	if !strings.Contains(b.lb.Log(), `msg="control client left or was cut off without a request" by="uid 0 gid 0 pid `) {
		b.Error("the log does not tell of them")
	}
}

// flowsAreExplained asks about flows before there is a connection, while there is,
// and where there will be none.
func flowsAreExplained(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	other := b.listen(b.Servers[1], b.rip(1, 8080))
	b.meet()
	shut := b.echoService("")
	b.start(b.web(0, 1), shut)
	step := func(e ctl.Explanation, what string, words ...string) {
		b.Helper()
		for _, s := range e.Steps {
			if s.What != what {
				continue
			}
			for _, w := range words {
				if !strings.Contains(s.Text, w) {
					b.Errorf("%s: got %q, want it to tell of %q", what, s.Text, w)
				}
			}
			return
		}
		b.Errorf("no step %q in %+v", what, e.Steps)
	}
	// What is said beforehand comes true.
	for i := range uint16(3) {
		from := netip.AddrPortFrom(b.clientAddr(), 20000+i)
		e := b.explained(ctl.WouldForward, "tcp", from, b.vip(80))
		step(e, "service", "web: rr, pool lan")
		step(e, "table", "of 100000")
		step(e, "local", "idle ports of "+b.lip(0).String())
		step(e, "to real server", "by "+b.ServerSide())
		step(e, "to client", "by "+b.ClientSide())
		p := b.connectTo(b.vip(80), from, accepted, other)
		p.exchange()
		real := p.server.LocalAddr().String()
		step(e, "real server", real+": its is the next turn")
		e = b.explained(ctl.Forwarded, "tcp", from, b.vip(80))
		step(e, "real server", real)
		step(e, "local", p.server.RemoteAddr().String())
		step(e, "connection", "ESTABLISHED")
		if e.Connection == nil || e.Connection.Client != from || e.LastDrop != nil {
			b.Errorf("got connection %+v and last drop %+v, want it and none", e.Connection, e.LastDrop)
		}
		step(e, "queue", "worker ", b.ClientSide()+"/")
	}
	stray := netip.AddrPortFrom(b.clientAddr(), 9)
	if e := b.explained(ctl.WouldDrop, "udp", stray, b.vip(7)); e.Reason != "no_server" {
		b.Errorf("without a real server: got reason %q, want no_server", e.Reason)
	}
	step(b.explained(ctl.WouldNotArrive, "tcp", stray, b.vip(81)), "service", "none")

	why := "no_conn"
	if b.guard != "" {
		why = "bad_cookie"
	}
	client := b.rawClient()
	from := client.src.Netip()
	client.send(packettest.TCP{Flags: packet.ACK, Seq: 1, Ack: 1})
	b.eventually("the drop is remembered", func() bool {
		e := b.explained(ctl.WouldForward, "tcp", from, b.vip(80))
		return e.LastDrop != nil && e.LastDrop.Reason == why && e.LastDrop.AgoSeconds < patience.Seconds()
	})
	out := b.tell("explain", "tcp", from.String(), b.vip(80).String())
	for _, want := range []string{"would be forwarded\n", "\nlast drop      " + why + ", ", "\n               -> normal "} {
		if !strings.Contains(out, want) {
			b.Errorf("fnatctl explain: no %q in\n%s", want, out)
		}
	}
}
