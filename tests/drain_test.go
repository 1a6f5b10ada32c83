package tests

import (
	"errors"
	"net"
	"strings"
	"syscall"

	"github.com/fnatd/fnatd/internal/ctl"
)

// isReset checks that both ends of a connection are told that it is over.
func (p *pair) isReset() {
	p.Helper()
	for end, c := range map[string]*net.TCPConn{"client": p.client, "server": p.server} {
		if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
			p.Errorf("%s: read %d bytes and %v, want a reset", end, n, err)
		}
	}
}

// concerned returns the connections that fnatctl diff says a change concerns.
func (b *bed) concerned(what string) ctl.Change {
	b.Helper()
	for _, c := range answer[ctl.Diff](b, "diff").Changes {
		if strings.HasPrefix(c.What, what) {
			return c
		}
	}
	b.Fatalf("fnatctl diff: no change %q", what)
	return ctl.Change{}
}

// removedServerDrains takes a server with connections out of the configuration,
// in one service with time to drain, in the other without.
func removedServerDrains(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	other := b.listen(b.Servers[1], b.rip(1, 8080))
	b.echoServer(0)
	b.echoServer(1)
	b.meet()
	web, echo := b.web(0, 1), b.echoService(`drain = "0s"`, 0, 1)
	web.Keys += "\ndrain = \"2s\""
	b.start(web, echo)
	pairs := []*pair{b.connect(accepted, other), b.connect(accepted, other)}
	u := b.udpClient(b.clientAddr())
	if err := u.ask([]byte("before")); err != nil {
		b.Fatal(err)
	}

	web.Servers, echo.Servers = web.Servers[1:], echo.Servers[1:]
	b.configure(web, echo)
	got := b.concerned(`- service "web": real_server ` + b.rip(0, 8080).String())
	if got.Connections != 1 || got.Effect != "go on for 2s, then reset" {
		b.Errorf("fnatctl diff: got %+v, want one connection, reset after 2s", got)
	}
	if got := b.concerned(`- service "echo": real_server ` + b.rip(0, 7).String()); got.Connections != 1 || got.Effect != "reset at once" {
		b.Errorf("fnatctl diff: got %+v, want one connection, reset at once", got)
	}
	b.contains(b.tell("diff"), 1, "-", "service", `"web":`, "real_server", b.rip(0, 8080))
	if n := len(b.service("web").Servers); n != 2 {
		b.Fatalf("fnatctl diff has changed something: %d servers", n)
	}

	b.reload(web, echo)
	for _, p := range pairs {
		p.exchange()
	}
	b.contains(b.tell("drain"), "web", b.rip(0, 8080), 1, "in", "removed from the configuration")
	b.eventually("the datagrams go to the other server", func() bool {
		if err := u.ask([]byte("after")); err != nil {
			b.Fatal(err)
		}
		return b.service("echo").Servers[0].Active == 1
	})
	gone, stays := pairs[0], pairs[1]
	if gone.server.LocalAddr().String() != b.rip(0, 8080).String() {
		gone, stays = stays, gone
	}
	gone.isReset()
	stays.exchange()
	b.eventually("nothing is drained any more", func() bool { return strings.Contains(b.tell("drain"), "nothing is drained") })
	if got := len(b.connections("ESTABLISHED")); got != 1 {
		b.Errorf("got %d established connections, want 1", got)
	}
}

// removedServerComesBack removes a server and has it again before its time is over.
func removedServerComesBack(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	b.listen(b.Servers[1], b.rip(1, 8080))
	web := b.web(0)
	web.Keys += "\ndrain = \"1s\""
	b.start(web)
	p := b.connect(accepted)
	web.Servers = b.to(8080, 1)
	b.reload(web)
	web.Servers = b.to(8080, 0, 1)
	b.reload(web)
	if got := b.tell("drain"); !strings.Contains(got, "nothing is drained") {
		b.Errorf("fnatctl drain: got %s", got)
	}
	// The next that is removed is reset when the first one would have been over.
	web.Servers = b.to(8080, 0)
	b.reload(web)
	b.eventually("nothing is drained any more", func() bool { return strings.Contains(b.tell("drain"), "nothing is drained") })
	p.exchange()
}

// removedServiceDrains takes a whole service out of the configuration. Its VIP
// stays until its connections are over.
func removedServiceDrains(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	web := b.web(0)
	web.Keys += "\ndrain = \"1s\""
	b.start(web)
	p := b.connect(accepted)
	b.reload()
	p.exchange()
	p.isReset()
	b.eventually("nothing is drained any more", func() bool { return strings.Contains(b.tell("drain"), "nothing is drained") })
	if n := len(b.connections("")); n != 0 {
		b.Errorf("got %d connections, want none", n)
	}
}

// operatorDrains takes a server out of use by hand.
func operatorDrains(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	other := b.listen(b.Servers[1], b.rip(1, 8080))
	b.start(b.web(0, 1))
	old := b.connect(accepted, other)
	for old.server.LocalAddr().String() != b.rip(0, 8080).String() {
		old = b.connect(accepted, other)
	}
	if out, err := b.ctl("drain", "192.0.2.1"); err == nil || !strings.Contains(out, "no service has a real server 192.0.2.1") {
		b.Errorf("drain of a stranger: got %v, %s", err, out)
	}
	b.contains(b.tell("drain", b.rip(0, 0).Addr().String(), "--for", "1s"), "web", b.rip(0, 8080), 1, "in", "drained by an operator")
	for range 4 {
		b.connect(other).exchange()
	}
	old.isReset()

	// It holds over a reload, which says nothing of it.
	if changes := b.reload(b.web(0, 1)); len(changes) != 0 {
		b.Errorf("reload: got changes %q, want none", changes)
	}
	if got := b.service("web").Servers[0]; got.Weight != 0 || got.Active != 0 {
		b.Errorf("after a reload: got %+v, want weight 0 and no connection", got)
	}
	b.contains(b.tell("drain"), "web", b.rip(0, 8080), 0, "done", "drained by an operator")
	b.tell("drain", b.rip(0, 8080).String(), "--undo")
	if got := b.service("web").Servers[0].Weight; got != 1 {
		b.Errorf("after --undo: got weight %d, want 1", got)
	}
	b.connect(accepted, other).exchange()
	b.connect(accepted, other).exchange()
	if got := b.service("web").Servers[0].Active; got != 1 {
		b.Errorf("after --undo: got %d connections, want 1", got)
	}
	if want := `msg=drain by="uid 0 gid 0 pid `; !strings.Contains(b.lb.Log(), want) {
		b.Errorf("the log does not say who it was: no %s", want)
	}
}
