package tests

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"time"

	"github.com/fnatd/fnatd/tests/harness"
)

// echoService is UDP port 7 of the VIP, spread in turn over these servers.
func (b *bed) echoService(keys string, servers ...int) harness.Service {
	return harness.Service{Name: "echo", Protocol: "udp", Virtual: b.vip(7), Keys: "scheduler = \"rr\"\n" + keys, Servers: b.to(7, servers...)}
}

// echoServer makes server i answer each datagram by itself.
func (b *bed) echoServer(i int) {
	b.Helper()
	c, err := b.Servers[i].ListenPacket("udp", b.rip(i, 7).String())
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, peer, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			c.WriteTo(buf[:n], peer)
		}
	}()
}

// A udpClient is a UDP socket of the client's that is connected to the VIP.
type udpClient struct{ net.Conn }

func (b *bed) udpClient(from netip.Addr) udpClient {
	b.Helper()
	c, err := b.Client.DialFrom(b.Context(), &net.UDPAddr{IP: from.AsSlice()}, "udp", b.vip(7).String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return udpClient{c}
}

// ask sends a datagram and waits for it to come back.
func (c udpClient) ask(what []byte) error {
	if _, err := c.Write(what); err != nil {
		return err
	}
	got := make([]byte, 1<<16)
	c.SetReadDeadline(time.Now().Add(patience))
	n, err := c.Read(got)
	if err == nil && !bytes.Equal(got[:n], what) {
		err = fmt.Errorf("sent %.20q and %d bytes, got %.20q and %d bytes", what, len(what), got[:n], n)
	}
	return err
}

// meet has the balancer know its neighbours. fnatd holds no datagram back until
// it does, and nobody repeats one.
func (b *bed) meet() {
	b.Helper()
	all := []netip.Addr{b.clientAddr()}
	for i := range b.Servers {
		all = append(all, b.rip(i, 0).Addr())
	}
	for _, a := range all {
		b.run(b.Balancer, "ping", "-c", "1", "-W", "5", a.String())
	}
}

func udpEcho(b *bed) {
	const clients, questions = 20, 50
	other := b.addClient(3)
	longest := 1500 - 8 - b.longestHeader()
	b.echoServer(0)
	b.echoServer(1)
	b.meet()
	b.start(b.echoService("", 0, 1))
	var all sync.WaitGroup
	for i := range clients {
		c := b.udpClient([]netip.Addr{b.clientAddr(), other}[i%2])
		all.Go(func() {
			for j := range questions {
				// From nothing to the longest that fits the MTU.
				what := bytes.Repeat(fmt.Appendf(nil, "%d/%d ", i, j), 300)[:longest*j/(questions-1)]
				if err := c.ask(what); err != nil {
					b.Errorf("client %d, question %d: %v", i, j, err)
					return
				}
			}
		})
	}
	all.Wait()
	b.eventually("the servers have acknowledged all notices", func() bool {
		n := b.service("echo").ClientAddresses.Notices
		return n.Sent == clients && n.Acknowledged == clients && n.GivenUp == 0
	})
	s := b.service("echo")
	if s.Traffic.InPackets != clients*questions || s.Traffic.OutPackets != clients*questions {
		b.Errorf("traffic: got %+v, want %d datagrams each way", s.Traffic, clients*questions)
	}
	for _, r := range s.Servers {
		if r.Traffic.Connections != clients/2 || r.Active != clients/2 {
			b.Errorf("server %v: got %+v, want %d connections", r.Real, r, clients/2)
		}
	}
}

// longDatagrams exceed every MTU, and the last is about the longest there is.
func longDatagrams(b *bed) {
	b.echoServer(0)
	b.meet()
	b.start(b.echoService("", 0))
	what := bytes.Repeat([]byte("0123456789abc"), 5000)
	c := b.udpClient(b.clientAddr())
	// One that just fits does not behind a longer header. Who sent it is told, and
	// cuts the next.
	switch first := what[:1472]; {
	case b.client < b.server:
		if err := c.ask(first); !errors.Is(err, syscall.EMSGSIZE) {
			b.Errorf("datagram of 1472 bytes: got %v, want %v", err, syscall.EMSGSIZE)
		}
	case b.client > b.server:
		c.Write(first)
		b.eventually("the server is told that its answer is too long", func() bool { return b.drops("too_big") == 1 })
	}
	for _, size := range []int{1472, 1473, 8000, 8001, 65000, 100, 65000, 8000} {
		if err := c.ask(what[:size]); err != nil {
			b.Errorf("datagram of %d bytes: %v", size, err)
		}
	}
}

const unboundConfig = `server:
	interface: %[1]s
	do-daemonize: no
	username: ""
	chroot: ""
	directory: %[2]q
	pidfile: ""
	use-syslog: no
	module-config: "iterator"
	access-control: 0.0.0.0/0 allow
	access-control: ::/0 allow
	local-zone: "test." static
	local-data: "www.test. IN A 192.0.2.1"
	local-data: "mail.test. IN A 192.0.2.2"
	local-data: "text.test. IN TXT 'some text that is longer than an address'"
`

// unbound runs the DNS server on server i.
func (b *bed) unbound(i int) {
	b.Helper()
	config := filepath.Join(b.dir, fmt.Sprintf("unbound%d.conf", i))
	if err := os.WriteFile(config, fmt.Appendf(nil, unboundConfig, b.rip(i, 0).Addr(), b.dir), 0o644); err != nil {
		b.Fatal(err)
	}
	b.background(b.Servers[i], b.answers(b.Servers[i], b.rip(i, 53)), "unbound", "-d", "-p", "-c", config)
}

// answered is what dnsperf says when every query was answered with NOERROR.
var answered = regexp.MustCompile(`(?s)Queries sent: +(\d+)\n.*Queries completed: +(\d+) \(100\.00%\)\n.*Queries lost: +0 \(0\.00%\)\n.*Response codes: +NOERROR (\d+) \(100\.00%\)\n`)

func dnsUnderLoad(b *bed) {
	b.unbound(0)
	b.unbound(1)
	b.meet()
	b.start(
		harness.Service{Name: "dns", Protocol: "udp", Virtual: b.vip(53), Keys: `scheduler = "rr"`, Servers: b.to(53, 0, 1)},
		harness.Service{Name: "dns-tcp", Virtual: b.vip(53), Keys: `scheduler = "rr"`, Servers: b.to(53, 0, 1)},
	)
	queries := filepath.Join(b.dir, "queries")
	if err := os.WriteFile(queries, []byte("www.test A\nmail.test A\ntext.test TXT\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	for _, mode := range []string{"udp", "tcp"} {
		out := b.run(b.Client, "dnsperf", "-m", mode, "-s", b.vip(0).Addr().String(), "-d", queries, "-l", "2", "-Q", "2000", "-c", "20")
		m := answered.FindStringSubmatch(out)
		if m == nil || m[1] != m[2] || m[1] != m[3] || m[1] == "0" {
			b.Errorf("dnsperf over %s: want every query answered, got\n%s", mode, out)
		}
	}
	for _, name := range []string{"dns", "dns-tcp"} {
		for _, r := range b.service(name).Servers {
			if r.Traffic.Connections != 10 {
				b.Errorf("%s: server %v: got %d connections, want 10 of dnsperf's 20 clients", name, r.Real, r.Traffic.Connections)
			}
		}
	}
}
