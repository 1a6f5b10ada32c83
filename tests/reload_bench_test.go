package tests

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/harness"
)

// manyServices returns 1,000 services, each with an address of its own and ten
// real servers, of which the last has this weight in every so-many-th service.
func manyServices(scheduler string, weight, every int) (all []harness.Service) {
	for i := range 1000 {
		s := harness.Service{
			Name:    fmt.Sprintf("service%d", i),
			Virtual: netip.AddrPortFrom(netip.AddrFrom4([4]byte{100, 64, byte(i >> 8), byte(i)}), 80),
			Keys:    fmt.Sprintf("scheduler = %q", scheduler),
		}
		for j := range 10 {
			s.Servers = append(s.Servers, harness.Server{Real: netip.AddrPortFrom(netns.ServerAddr(j%2), uint16(1000+j))})
		}
		if every > 0 && i%every == 0 {
			s.Servers[9].Keys = fmt.Sprintf("weight = %d", weight)
		}
		all = append(all, s)
	}
	return all
}

// BenchmarkReload reloads 10,000 real servers in 1,000 services under a steady
// stream of 5,000 datagrams a second, and shows besides the time of a reload the
// largest gap between two that arrive and the longest that one was under way.
func BenchmarkReload(b *testing.B) {
	for _, test := range []struct {
		name      string
		scheduler string
		every     int // one in so many services changes; 0: no reload, for comparison
	}{
		{"none", "wlc", 0},
		{"wlc_one_change", "wlc", 1000},
		{"wlc_1000_changes", "wlc", 1},
		{"mh_one_change", "mh", 1000},
	} {
		b.Run(test.name, func(b *testing.B) {
			rig := netns.ForTest(b, netns.Topology{Servers: 2})
			dir := b.TempDir()
			stream := harness.Service{
				Name: "stream", Protocol: "udp", Virtual: netip.AddrPortFrom(netns.VIP(0), 7),
				Keys:    `client_address = "none"`,
				Servers: []harness.Server{{Real: netip.AddrPortFrom(netns.ServerAddr(0), 7)}},
			}
			var configs [2]string
			for i := range configs {
				configs[i] = harness.Config(rig, dir, "", append(manyServices(test.scheduler, 2+i, test.every), stream)...)
			}
			lb, err := harness.Start(rig, bin+"/fnatd", dir, configs[0])
			if err != nil {
				b.Fatal(err)
			}
			defer lb.Stop()
			s := startStream(b, rig, stream, 200*time.Microsecond)
			var times []time.Duration
			for i := 0; b.Loop(); i++ {
				start := time.Now()
				if test.every == 0 {
					time.Sleep(100 * time.Millisecond)
				} else if _, err := lb.Reload(configs[1-i%2]); err != nil {
					b.Fatal(err)
				}
				times = append(times, time.Since(start))
				time.Sleep(100 * time.Millisecond)
			}
			gap, delay, lost := s.stop()
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(ms(slices.Max(times)), "ms-longest")
			slices.Sort(times)
			b.ReportMetric(ms(times[len(times)/2]), "ms-median")
			b.ReportMetric(ms(gap), "ms-gap")
			b.ReportMetric(ms(delay), "ms-delay")
			b.ReportMetric(float64(lost), "lost")
		})
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// A steady is a stream of numbered datagrams at even intervals. Its arrivals are
// timed by the kernel of the receiver, so that only the way counts.
type steady struct {
	quit     chan struct{}
	sent     chan uint64
	received chan [3]uint64 // gap and delay in ns, and datagrams
	c        net.PacketConn
}

// startStream sends a datagram each interval, or as often as it can.
func startStream(b testing.TB, rig *netns.Rig, to harness.Service, interval time.Duration) *steady {
	s := &steady{quit: make(chan struct{}), sent: make(chan uint64, 1), received: make(chan [3]uint64, 1)}
	var err error
	if s.c, err = rig.Servers[0].ListenPacket("udp", to.Servers[0].Real.String()); err != nil {
		b.Fatal(err)
	}
	raw, err := s.c.(*net.UDPConn).SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
			b.Fatal(err)
		}
	})
	c, err := rig.Client.Dial(b.Context(), "udp", to.Virtual.String())
	if err != nil {
		b.Fatal(err)
	}
	go s.receive()
	go s.send(c, interval)
	time.Sleep(500 * time.Millisecond)
	return s
}

func (s *steady) send(c net.Conn, interval time.Duration) {
	defer c.Close()
	n := uint64(0)
	next := time.Now()
	for {
		select {
		case <-s.quit:
			s.sent <- n
			return
		default:
		}
		next = next.Add(interval)
		time.Sleep(time.Until(next))
		if late := time.Since(next); late > interval { // no bursts
			next = time.Now()
		}
		if _, err := c.Write(binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixNano()))); err == nil {
			n++
		}
	}
}

func (s *steady) receive() {
	var last int64
	var got [3]uint64
	buf, control := make([]byte, 64), make([]byte, 256)
	for {
		n, oobn, _, _, err := s.c.(*net.UDPConn).ReadMsgUDP(buf, control)
		if err != nil {
			s.received <- got
			return
		}
		at := stamp(control[:oobn])
		sent := int64(binary.BigEndian.Uint64(buf[:n]))
		if last != 0 {
			got[0] = max(got[0], uint64(at-last))
			got[1] = max(got[1], uint64(max(at-sent, 0)))
		}
		last = at
		got[2]++
	}
}

// stamp returns when the kernel received a datagram.
func stamp(control []byte) int64 {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) == 0 {
		return time.Now().UnixNano()
	}
	t := messages[0].Data
	return int64(binary.NativeEndian.Uint64(t))*1e9 + int64(binary.NativeEndian.Uint64(t[8:]))
}

func (s *steady) stop() (gap, delay time.Duration, lost uint64) {
	close(s.quit)
	sent := <-s.sent
	time.Sleep(200 * time.Millisecond)
	s.c.Close()
	got := <-s.received
	return time.Duration(got[0]), time.Duration(got[1]), sent - got[2]
}
