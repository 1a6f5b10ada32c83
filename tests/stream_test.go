package tests

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/fnatd/fnatd/internal/netns"
)

// A pair is one connection through fnatd, held at both ends.
type pair struct {
	*bed
	client, server *net.TCPConn
}

// listen accepts connections on a host until the test ends.
func (b *bed) listen(on *netns.Host, at netip.AddrPort) <-chan *net.TCPConn {
	b.Helper()
	l, err := on.Listen("tcp", at.String())
	if err != nil {
		b.Fatal(err)
	}
	accepted := make(chan *net.TCPConn, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c.(*net.TCPConn)
		}
	}()
	return accepted
}

// connect makes a connection from the client to the VIP, which is accepted on
// one of the channels. Both ends have the test's patience.
func (b *bed) connect(accepted ...<-chan *net.TCPConn) *pair {
	b.Helper()
	return b.connectTo(b.vip(80), netip.AddrPortFrom(b.clientAddr(), 0), accepted...)
}

// connectTo is connect to another port of the VIP, from an address and port of the
// client's.
func (b *bed) connectTo(to, from netip.AddrPort, accepted ...<-chan *net.TCPConn) *pair {
	b.Helper()
	return b.connectFrom(b.Client, to, from, accepted...)
}

// connectFrom is connectTo from another host.
func (b *bed) connectFrom(host *netns.Host, to, from netip.AddrPort, accepted ...<-chan *net.TCPConn) *pair {
	b.Helper()
	c, err := host.DialFrom(b.Context(), net.TCPAddrFromAddrPort(from), "tcp", to.String())
	if err != nil {
		b.Fatal(err)
	}
	p := &pair{bed: b, client: c.(*net.TCPConn)}
	b.eventually("a server accepts the connection", func() bool {
		for _, a := range accepted {
			select {
			case p.server = <-a:
				return true
			default:
			}
		}
		return false
	})
	for _, end := range []*net.TCPConn{p.client, p.server} {
		b.Cleanup(func() { end.Close() })
		end.SetDeadline(time.Now().Add(patience))
	}
	return p
}

// send writes to one end and checks that just this arrives at the other.
func (p *pair) send(from, to *net.TCPConn, what string) {
	p.Helper()
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(from, what)
		sent <- err
	}()
	got := make([]byte, len(what))
	n, err := io.ReadFull(to, got)
	if err := errors.Join(err, <-sent); err != nil || string(got) != what {
		p.Fatalf("sent %d bytes, %.20q…, arrived %d, %.20q…: %v", len(what), what, n, got, err)
	}
}

// exchange checks that the connection carries both ways.
func (p *pair) exchange() {
	p.Helper()
	p.send(p.client, p.server, "question")
	p.send(p.server, p.client, "answer")
}

// megabyte is something to send.
var megabyte = func() string {
	b := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{2}).Read(b)
	return string(b)
}()

func halfClose(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	b.start(b.web(0))
	for _, way := range []string{"client", "server"} {
		p := b.connect(accepted)
		first, second := p.client, p.server
		if way == "server" {
			first, second = second, first
		}
		io.WriteString(first, "all I say")
		first.CloseWrite()
		if got, err := io.ReadAll(second); err != nil || string(got) != "all I say" {
			b.Fatalf("%s closes first: the other end read %q, %v", way, got, err)
		}
		go func() {
			io.WriteString(second, megabyte)
			second.Close()
		}()
		if got, err := io.ReadAll(first); err != nil || string(got) != megabyte {
			b.Fatalf("%s closes first: it then read %d bytes, %v; want %d", way, len(got), err, len(megabyte))
		}
	}
}

func resetReachesOtherEnd(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	b.start(b.web(0))
	for _, way := range []string{"client", "server"} {
		p := b.connect(accepted)
		p.exchange()
		resets, other := p.client, p.server
		if way == "server" {
			resets, other = other, resets
		}
		resets.SetLinger(0)
		resets.Close()
		if n, err := other.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			b.Errorf("%s resets: the other end read %d bytes, %v; want %v", way, n, err, syscall.ECONNRESET)
		}
	}
	b.eventually("fnatd has closed both connections", func() bool {
		return len(b.connections("ESTABLISHED")) == 0
	})
}

func idleConnectionIsReset(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	s := b.web(0)
	s.Timeout = `established = "2s"`
	b.start(s)
	p := b.connect(accepted)
	for range 8 { // it is not idle for over three seconds
		p.exchange()
		time.Sleep(400 * time.Millisecond)
	}
	for _, end := range []*net.TCPConn{p.client, p.server} {
		if n, err := end.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			b.Errorf("%v read %d bytes, %v; want %v", end.LocalAddr(), n, err, syscall.ECONNRESET)
		}
	}
	if got := b.connections(""); len(got) != 0 {
		b.Errorf("still in the table: %+v", got)
	}
}

// serverDies kills the server of a download. The client must learn of it, and,
// once the operator has taken the server out, get its file from the other.
func serverDies(b *bed) {
	nginx := []*nginx{b.nginx(0), b.nginx(1)}
	for _, n := range nginx {
		n.file(b, "file", hundredMB)
	}
	b.start(b.web(0, 1))
	download, err := b.Client.Background("curl", "-sS", "--fail", "-o", "/dev/null", b.url("/slow/file"))
	if err != nil {
		b.Fatal(err)
	}
	dead := 0
	b.eventually("the download runs", func() bool {
		s := b.service("web").Servers
		if s[1].Traffic.OutBytes > s[0].Traffic.OutBytes {
			dead = 1
		}
		return s[dead].Traffic.OutBytes > 1<<20
	})
	nginx[dead].Kill()
	select {
	case <-download.Done():
	case <-time.After(patience):
		b.Fatal("the server is dead and the client has not learnt of it")
	}
	// 18: the file ended early. 56: the connection was reset.
	if got := download.Output(); !strings.Contains(got, "curl: (18)") && !strings.Contains(got, "curl: (56)") {
		b.Errorf("curl printed %q, want error 18 or 56", got)
	}

	s := b.web(0, 1)
	s.Servers[dead].Keys = "weight = 0"
	b.reload(s)
	for range 10 {
		if got, want := b.curl(b.url("/echo/")), "/echo/ "+[]string{"1", "0"}[dead]; got != want {
			b.Errorf("got %q, want %q", got, want)
		}
	}
}

// linkDownAndUp takes each of fnatd's links down and up again, by the balancer's
// operator and by the cable. A connection only waits.
func linkDownAndUp(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	b.start(b.web(0))
	p := b.connect(accepted)
	p.exchange()
	type end struct {
		host *netns.Host
		name string
	}
	ends := []end{{b.Balancer, b.ClientSide()}, {b.Switch, "lb"}}
	if b.Shape == netns.TwoArm {
		ends = append(ends, end{b.Balancer, b.ServerSide()}, end{b.Client, "eth0"})
	}
	for _, e := range ends {
		if err := e.host.LinkDown(e.name); err != nil {
			b.Fatal(err)
		}
		io.WriteString(p.client, "one way, ")
		io.WriteString(p.server, "the other, ")
		time.Sleep(300 * time.Millisecond) // so that they are sent into the void
		if err := e.host.LinkUp(e.name); err != nil {
			b.Fatal(err)
		}
		b.reads(p.server, "one way, ")
		b.reads(p.client, "the other, ")
		p.exchange()
		b.connect(accepted).exchange()
	}
}

// reads checks what is next to be read.
func (b *bed) reads(c net.Conn, want string) {
	b.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		b.Fatalf("%v read %q, %v; want %q", c.LocalAddr(), got[:n], err, want)
	}
}

// newMACAddress exchanges the network card of the server, then of the client, and
// then the balancer's own.
func newMACAddress(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	b.start(b.web(0))
	p := b.connect(accepted)
	p.exchange()
	for i, h := range []struct {
		host *netns.Host
		name string
	}{{b.Servers[0], "eth0"}, {b.Client, "eth0"}, {b.Balancer, b.ServerSide()}} {
		for _, notify := range []string{"net/ipv4/conf/all/arp_notify", "net/ipv6/conf/all/ndisc_notify"} { // tell the neighbours
			if err := h.host.Sysctl(notify, "1"); err != nil {
				b.Fatal(err)
			}
		}
		if err := h.host.SetMAC(h.name, net.HardwareAddr{2, 0, 0, 0, 0, byte(i + 1)}); err != nil {
			b.Fatal(err)
		}
		p.exchange()
		b.connect(accepted).exchange()
	}
}
