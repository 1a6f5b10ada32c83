package tests

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/fnatd/fnatd/tests/harness"
)

// namedServer makes server i answer each datagram by its number, until stop is
// called.
func (b *bed) namedServer(i int) (stop func()) {
	b.Helper()
	c, err := b.Servers[i].ListenPacket("udp", b.rip(i, 7).String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 1<<16)
		for {
			_, peer, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			c.WriteTo(fmt.Append(nil, i), peer)
		}
	}()
	return func() { c.Close() }
}

func udpFlowsMove(b *bed) {
	stops := []func(){b.namedServer(0), b.namedServer(1)}
	b.meet()
	echo := b.echoService("client_address = \"none\"", 0, 1)
	echo.Health = "type = \"udp\"\nrequire_reply = true\n" + quickCheck
	b.start(echo)
	c := b.udpClient(b.clientAddr())
	// who asks on the one flow who answers; nobody is "".
	who := func() string {
		buf := make([]byte, 10)
		if _, err := c.Write([]byte("?")); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			b.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(time.Second))
		n, _ := c.Read(buf)
		return string(buf[:n])
	}
	var first string
	b.eventually("a server answers", func() bool { first = who(); return first != "" })
	for range 5 {
		if got := who(); got != first {
			b.Errorf("got an answer of %q, want the flow to stay with %s", got, first)
		}
	}
	n := int(first[0] - '0')
	stops[n]()
	other := fmt.Sprint(1 - n)
	b.eventually("the other server answers on the same flow", func() bool { return who() == other })
	for range 5 {
		if got := who(); got != other {
			b.Errorf("got an answer of %q, want the flow to stay with %s", got, other)
		}
	}
	if got := b.stats().Events; !strings.Contains(fmt.Sprint(got), "{conn_closed 1}") {
		b.Errorf("events: got %v, want one connection closed", got)
	}
}

// brokenPort is where the health of servers is asked for that only look well.
const brokenPort = 8081

// half returns the service web whose servers 0 and 1 are checked at another port
// than clients use, of which server 0's can be closed.
func (b *bed) half(keys string) (web harness.Service, accepted [2]<-chan *net.TCPConn, fail func()) {
	b.Helper()
	for i := range accepted {
		accepted[i] = b.listen(b.Servers[i], b.rip(i, 8080))
		l, err := b.Servers[i].Listen("tcp", b.rip(i, brokenPort).String())
		if err != nil {
			b.Fatal(err)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
		if i == 0 {
			fail = func() { l.Close() }
		}
	}
	web = b.web(0, 1)
	web.Keys += "\n" + keys
	web.Health = fmt.Sprintf("type = \"tcp\"\nport = %d\n", brokenPort) + quickCheck
	return web, accepted, fail
}

// reset waits for a RST to end a connection.
func reset(c *net.TCPConn) error {
	c.SetReadDeadline(time.Now().Add(patience))
	_, err := c.Read(make([]byte, 1))
	if !errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("got %v, want a reset", err)
	}
	return nil
}

func deadConnectionsAreReset(b *bed) {
	web, accepted, fail := b.half(`down_connections = "reset"`)
	b.start(web)
	var pairs [2]*pair
	for range pairs { // in turn
		p := b.connect(accepted[0], accepted[1])
		p.exchange()
		for i := range pairs {
			if p.server.LocalAddr().String() == b.rip(i, 8080).String() {
				pairs[i] = p
			}
		}
	}
	fail()
	if err := errors.Join(reset(pairs[0].client), reset(pairs[0].server)); err != nil {
		b.Errorf("connection of the dead server: %v", err)
	}
	pairs[1].exchange()
	for range 4 {
		b.connect(accepted[1]).exchange()
	}
}

func deadConnectionsDrain(b *bed) {
	web, accepted, fail := b.half("down_connections = \"drain\"\ndown_drain = \"5s\"")
	b.start(web)
	p := b.connect(accepted[0], accepted[1])
	if p.server.LocalAddr().String() != b.rip(0, 8080).String() {
		p = b.connect(accepted[0])
	}
	fail()
	b.becomes("web", "down up")
	p.exchange()
	if err := errors.Join(reset(p.client), reset(p.server)); err != nil {
		b.Error(err)
	}
}

// mute has server i hear everything and be heard by nobody.
func (b *bed) mute(i int) {
	b.Helper()
	for _, a := range []netip.Addr{b.lip(0), b.lip(1), b.balancerLANAddr()} {
		b.run(b.Servers[i], "ip", "route", "add", "blackhole", netip.PrefixFrom(a, a.BitLen()).String())
	}
}

func unansweredSYNGoesElsewhere(b *bed) {
	b.nginx(0)
	b.nginx(1)
	web := b.checkedWeb(0, 1)
	web.Health = "type = \"ping\"\ninterval = \"400ms\"\ntimeout = \"300ms\"\nfall = 5\nrise = 1\nwarmup = \"0s\"\n"
	b.start(web)
	b.becomes("web", "up up")
	b.mute(0)
	// Every request arrives, though the first ones ask the mute server first:
	// their SYNs come again and are then given the other one.
	for range 6 {
		if got := b.answersFrom(1); got["1"] != 1 {
			b.Errorf("got answers %v, want one of server 1", got)
		}
	}
	b.becomes("web", "down up")
	if n := b.service("web").Servers[0].Traffic.Unanswered; n == 0 {
		b.Error("no SYN was counted as unanswered")
	}
}
