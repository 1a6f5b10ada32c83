package tests

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"
)

// hostKeepsEverythingElse checks what is the kernel's while fnatd runs.
func hostKeepsEverythingElse(b *bed) {
	b.listen(b.Servers[0], b.rip(0, 8080))
	b.hostServer()
	b.start(b.web(0))
	for _, at := range []string{b.balancerAddr().String(), b.vip(0).Addr().String()} {
		b.run(b.Client, "ping", "-c", "3", "-i", "0.1", "-W", "5", at)
	}
	for _, at := range []string{b.balancerLANAddr().String(), b.lip(0).String(), b.lip(1).String()} {
		b.run(b.Servers[1], "ping", "-c", "3", "-i", "0.1", "-W", "5", at)
	}
	b.hostAnswers()
	// Ports of the VIP that no service has are the host's, too: here closed ones.
	if _, err := b.dial(b.vip(443), patience); !errors.Is(err, syscall.ECONNREFUSED) {
		b.Errorf("dial of another port of the VIP: got %v, want it refused by the kernel", err)
	}
	// And the host's own connections to servers.
	if !b.answers(b.Balancer, b.rip(0, 8080))() {
		b.Error("the balancer cannot connect to a server")
	}
	if got := b.service("web").Traffic.InPackets; got != 0 {
		b.Errorf("fnatd has forwarded %d packets, want none", got)
	}
}

func killAndReturn(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	b.hostServer()
	b.start(b.web(0))
	old := b.connect(accepted)
	old.exchange()

	seen, err := b.Client.Capture("eth0")
	if err != nil {
		b.Fatal(err)
	}
	b.lb.Kill()
	// A program and a pin for each interface, their directory, a VIP and four LIPs.
	if got, want := b.traces(), 2*len(b.Interfaces())+6; len(got) != want {
		b.Errorf("killed fnatd: got traces %q, want %d", got, want)
	}
	// Balanced packets are dropped: silence, on the old connection and on a new one.
	old.client.Write([]byte("is anybody there?"))
	old.client.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	if _, err := old.client.Read(make([]byte, 1)); !os.IsTimeout(err) {
		b.Errorf("old connection: got %v, want silence", err)
	}
	if _, err := b.dial(b.vip(80), 1500*time.Millisecond); err == nil || !os.IsTimeout(err) {
		b.Errorf("new connection: got %v, want silence", err)
	}
	b.hostAnswers()
	b.run(b.Client, "ping", "-c", "1", "-W", "5", b.balancerAddr().String())

	frames, err := seen.Stop()
	if err != nil {
		b.Fatal(err)
	}
	for _, s := range segments(frames) {
		if s.src == b.vip(80) {
			b.Errorf("fnatd is dead and the client got %v", s)
		}
	}

	b.start(b.web(0))
	if !strings.Contains(b.lb.Log(), "took over the program that an earlier fnatd left") {
		b.Errorf("the new fnatd does not say that it took over:\n%s", b.lb.Log())
	}
	b.connect(accepted).exchange()
	b.hostAnswers()
}

// dial tries to connect from the client for a while.
func (b *bed) dial(to netip.AddrPort, d time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(b.Context(), d)
	defer cancel()
	return b.Client.Dial(ctx, "tcp", to.String())
}

const banner = "SSH-2.0-test"

// hostServer stands for ssh: it greets whoever connects to port 22 of any address
// of the balancer's.
func (b *bed) hostServer() {
	b.Helper()
	accepted := b.listen(b.Balancer, netip.AddrPortFrom(netip.IPv6Unspecified(), 22))
	go func() {
		for {
			select {
			case c := <-accepted:
				io.WriteString(c, banner)
				c.Close()
			case <-b.Context().Done():
				return
			}
		}
	}()
}

// hostAnswers checks that the client still reaches it.
func (b *bed) hostAnswers() {
	b.Helper()
	c, err := b.dial(netip.AddrPortFrom(b.balancerAddr(), 22), patience)
	if err != nil {
		b.Errorf("the host's own server: %v", err)
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if got, err := io.ReadAll(c); err != nil || string(got) != banner {
		b.Errorf("the host's own server: got %q, %v", got, err)
	}
}
