package tests

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/harness"
)

// What is told of links here goes over the two-arm rig of rig_test.go, between
// echo servers of this process's own on server0.

// echoes are a TCP and a UDP service that server0 answers with what it was sent.
func (b *bed) echoes() []harness.Service {
	return []harness.Service{
		{Name: "tcp", Virtual: b.vip(7), Servers: b.to(7, 0)},
		{Name: "udp", Protocol: "udp", Virtual: b.vip(7), Servers: b.to(7, 0)},
	}
}

// echo runs the servers of echoes.
func (b *bed) echo() {
	b.Helper()
	b.accept(b.Servers[0], b.rip(0, 7), func(c net.Conn) { io.Copy(c, c) })
	p, err := b.Servers[0].ListenPacket("udp", b.rip(0, 7).String())
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := p.ReadFrom(buf)
			if err != nil {
				return
			}
			p.WriteTo(buf[:n], from)
		}
	}()
}

// dialEcho connects the client to a service of echoes.
func (b *bed) dialEcho(network string) net.Conn {
	b.Helper()
	c, err := b.Client.Dial(b.Context(), network, b.vip(7).String())
	if err != nil {
		b.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// echoStream sends size random bytes over TCP, which must come back.
func (b *bed) echoStream(size int) {
	b.Helper()
	c := b.dialEcho("tcp")
	defer c.Close()
	want := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(want)
	go c.Write(want)
	got := make([]byte, size)
	if _, err := io.ReadFull(c, got); err != nil {
		b.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		b.Errorf("%d bytes came back changed", size)
	}
}

// echoDatagrams sends datagrams of these sizes, each of which must come back.
func (b *bed) echoDatagrams(sizes ...int) {
	b.Helper()
	c := b.dialEcho("udp")
	defer c.Close()
	buf := make([]byte, 1<<16)
	for i, size := range sizes {
		want := bytes.Repeat([]byte{byte(i), 7}, size)[:size]
		if _, err := c.Write(want); err != nil {
			b.Fatal(err)
		}
		n, err := c.Read(buf)
		if err != nil {
			b.Fatalf("datagram of %d bytes: %v", size, err)
		}
		if !bytes.Equal(buf[:n], want) {
			b.Errorf("datagram of %d bytes came back changed, of %d", size, n)
		}
	}
}

// newJumboBed is newBed with another MTU, on every interface.
func newJumboBed(t *testing.T, mtu int) *bed {
	t.Helper()
	b := &bed{TB: t, families: fourToFour, Rig: netns.ForTest(t, netns.Topology{Servers: 1, MTU: mtu}), dir: t.TempDir()}
	t.Cleanup(b.stop)
	return b
}

// TestMTU has everything that a frame holds, in one buffer or in several, arrive
// in the size it was sent in: nobody here puts fragments together.
func TestMTU(t *testing.T) {
	for _, mtu := range []int{1770, 3506, 3818, 3819, 9000} {
		t.Run(fmt.Sprint(mtu), func(t *testing.T) {
			b := newJumboBed(t, mtu)
			b.echo()
			capture, err := b.Servers[0].Capture("eth0")
			if err != nil {
				t.Fatal(err)
			}
			b.start(b.echoes()...)
			b.echoStream(8 << 20)
			longest := mtu - 20 - 8
			b.echoDatagrams(1, 1500, longest-1, longest, min(8000, longest))
			frames, err := capture.Stop()
			if err != nil {
				t.Fatal(err)
			}
			size := 0
			for _, f := range frames {
				if !f.Sent {
					size = max(size, len(f.Data))
				}
			}
			if want := mtu + 14; size != want {
				t.Errorf("longest frame at the server: got %d bytes, want %d", size, want)
			}
			if got := b.drops("fragment"); got != 0 {
				t.Errorf("fragments: got %d, want none", got)
			}
		})
	}
}

// TestChecksumOffload has the senders leave checksums undone, as containers do.
func TestChecksumOffload(t *testing.T) {
	b := newBed(t, matrix[0], 1)
	b.echo()
	var settings string
	for _, name := range b.Interfaces() {
		settings += fmt.Sprintf("[[dataplane.interface]]\nname = %q\nchecksum = \"full\"\n", name)
	}
	for _, h := range slices.Concat([]*netns.Host{b.Client}, b.Servers) {
		if err := h.EnableChecksumOffload("eth0"); err != nil {
			t.Fatal(err)
		}
	}
	b.startWith(settings, b.echoes()...)
	b.echoStream(1 << 20)
	b.echoDatagrams(1, 2, 999, 1400)
}
