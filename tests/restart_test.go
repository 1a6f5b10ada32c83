package tests

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/harness"
)

// kill ends fnatd as an out-of-memory kill does.
func (b *bed) kill() {
	b.Helper()
	b.lb.Kill()
	b.lb = nil
}

// An adoption is what fnatd has logged of the connections that it found.
type adoption struct{ connections, undone, lost int }

var adopted = regexp.MustCompile(`msg="adopted the connections of an earlier fnatd[^"]*" connections=(\d+) undone=(\d+) lost=(\d+)`)

func (b *bed) adoption() (a adoption) {
	b.Helper()
	m := adopted.FindStringSubmatch(b.lb.Log())
	if m == nil {
		b.Fatalf("fnatd has adopted nothing:\n%s", b.lb.Log())
	}
	for i, n := range []*int{&a.connections, &a.undone, &a.lost} {
		*n, _ = strconv.Atoi(m[i+1])
	}
	return a
}

// kept opens so many connections to a port of the VIP.
func (b *bed) kept(n int, port uint16) []net.Conn {
	b.Helper()
	conns := make([]net.Conn, n)
	b.each(conns, func(i int) (err error) {
		conns[i], err = b.Client.DialFrom(b.Context(), &net.TCPAddr{IP: b.clientAddr().AsSlice()}, "tcp", b.vip(port).String())
		return err
	})
	b.Cleanup(func() {
		for _, c := range conns {
			c.Close()
		}
	})
	return conns
}

// each calls do for the number of every connection, several at a time.
func (b *bed) each(conns []net.Conn, do func(i int) error) {
	b.Helper()
	var all sync.WaitGroup
	var next atomic.Int64
	errs := make([]error, 32)
	for w := range errs {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(conns) && errs[w] == nil; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					errs[w] = fmt.Errorf("connection %d: %w", i, err)
				}
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		b.Fatal(err)
	}
}

// request has each connection carry a request and its answer.
func (b *bed) request(conns []net.Conn) {
	b.Helper()
	b.each(conns, func(i int) error {
		conns[i].SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(conns[i], "GET / HTTP/1.1\r\nHost: kept\r\n\r\n"); err != nil {
			return err
		}
		r, err := http.ReadResponse(bufio.NewReader(conns[i]), nil)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r.Body)
		return err
	})
}

// TestKilledAndRestarted kills fnatd in mid-traffic. Nobody may notice.
func TestKilledAndRestarted(t *testing.T) {
	for _, v := range []variant{
		{netns.TwoArm, 1, fourToFour, false, ""},
		{netns.OneArm, 2, sixToSix, false, ""},
		{netns.TwoArm, 2, sixToFour, false, "userspace"},
		{netns.TwoArm, 1, fourToFour, false, "xdp"},
	} {
		t.Run(v.String(), func(t *testing.T) { killedAndRestarted(newBed(t, v, 2)) })
	}
}

func killedAndRestarted(b *bed) {
	const many, size = 5000, 100 << 20
	n := b.nginx(0)
	n.file(b, "index.html", 100)
	hash := n.file(b, "file", size)
	b.nginx(1).file(b, "index.html", 100)
	b.echoServer(0)
	services := []harness.Service{b.web(0, 1), b.echoService("", 0), b.bulk(0), {Name: "file", Virtual: b.vip(81), Servers: b.to(8080, 0)}}
	b.start(services...)
	conns := b.kept(many, 80)
	b.request(conns)
	udp := b.udpClient(b.clientAddr())
	if err := udp.ask([]byte("before")); err != nil {
		b.Fatal(err)
	}
	server := b.iperfServer(0)
	iperf := b.background(b.Client, func() bool { return true }, "iperf3", "-c", b.vip(0).Addr().String(), "-t", "3", "--json")
	loading := b.kept(1, 81)[0]
	loading.SetDeadline(time.Now().Add(patience))
	io.WriteString(loading, "GET /file HTTP/1.0\r\n\r\n")
	r, err := http.ReadResponse(bufio.NewReader(loading), nil)
	if err != nil {
		b.Fatal(err)
	}
	h := sha256.New()
	if _, err := io.CopyN(h, r.Body, size/20); err != nil {
		b.Fatal(err)
	}

	b.eventually("iperf3's two connections are there as well", func() bool {
		s, err := b.lb.Ctl.Stats(b.Context())
		return err == nil && s.Table.Connections >= many+4
	})

	b.kill()
	b.start(services...)

	b.request(conns)
	b.request(b.kept(10, 80))
	if err := udp.ask([]byte("after")); err != nil {
		b.Error(err)
	}
	if n, err := io.Copy(h, r.Body); err != nil || fmt.Sprintf("%x", h.Sum(nil)) != hash {
		b.Errorf("download: after %d bytes: %v", n+size/20, err)
	}
	if err := iperf.Wait(); err != nil {
		b.Errorf("iperf3: %v: %s", err, iperf.Output())
	}
	server.Wait()
	if !strings.Contains(b.lb.Log(), "an earlier fnatd has left its program") {
		b.Errorf("fnatd has waited for its own XDP program:\n%s", b.lb.Log())
	}
	if a := b.adoption(); a.lost != 0 || a.connections < many+3 || a.connections > many+10 {
		b.Errorf("adopted %+v, want %d connections and none lost", a, many+4)
	}
}
