package bfd

import (
	"log/slog"
	"net/netip"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// BenchmarkSessions has sessions with 127.0.0.0/8 up, each of which is its own neighbor,
// on real sockets. It reports what a packet takes that is sent and received, and how many
// sessions were lost. It needs the ports of BFD: run it by unshare -n, with lo up.
func BenchmarkSessions(b *testing.B) {
	for _, sessions := range []int{100, 1000, 5000} {
		b.Run(strconv.Itoa(sessions), func(b *testing.B) { manySessions(b, sessions) })
	}
}

func manySessions(b *testing.B, n int) {
	sp := NewSpeaker(slog.New(slog.DiscardHandler), UDP)
	defer sp.Close()
	if err := sp.Listen([]Key{{Neighbor: addrA}}); err != nil {
		b.Fatal(err)
	}
	var all []*Session
	for i := range n {
		addr := netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)})
		c := Config{Key: Key{Neighbor: addr, Source: addr}, MinTx: 100 * time.Millisecond, MinRx: 100 * time.Millisecond, IdleTx: time.Second, Mult: 3, TTL: 255}
		all = append(all, sp.Open(c, nil, func() {}))
	}
	time.Sleep(4 * time.Second)
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	began := time.Now()
	for b.Loop() {
		time.Sleep(time.Second)
	}
	took := time.Since(began)
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	var downs uint64
	for _, h := range all {
		if downs += h.Status().Downs; h.Status().Ups == 0 {
			b.Fatalf("%v has not come up: %s", h.of.Neighbor, h.Status().Why)
		}
	}
	cpu := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	packets := float64(n) * took.Seconds() / 0.0875 // jitter makes of 100 ms 87.5 on average
	b.ReportMetric(float64(cpu.Microseconds())/packets, "cpu-µs/packet")
	b.ReportMetric(100*cpu.Seconds()/took.Seconds(), "%cpu")
	b.ReportMetric(float64(downs), "lost")
}
