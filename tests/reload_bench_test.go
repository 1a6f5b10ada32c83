package tests

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

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
// largest gap between two that arrive, of all and of each reload, and the longest that
// one was under way. Without any reload (none) it shows what the machine makes of gaps:
// reloads, the stream, and who sends and receives it have two processors in all. Where
// the worker has one of them alone, the rest is what fnatd does to itself.
func BenchmarkReload(b *testing.B) {
	for _, test := range []struct {
		name      string
		scheduler string
		every     int  // one in so many services changes; 0: no reload, for comparison
		alone     bool // the worker has a processor for itself
	}{
		{"none", "wlc", 0, false},
		{"wlc_one_change", "wlc", 1000, false},
		{"wlc_1000_changes", "wlc", 1, false},
		{"mh_one_change", "mh", 1000, false},
		{"none_alone", "wlc", 0, true},
		{"wlc_one_change_alone", "wlc", 1000, true},
		{"wlc_1000_changes_alone", "wlc", 1, true},
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
			dataplane := ""
			if test.alone {
				dataplane = fmt.Sprintf("cpus = [%d]", workerCPU)
			}
			for i := range configs {
				configs[i] = harness.Config(rig, dir, dataplane, append(manyServices(test.scheduler, 2+i, test.every), stream)...)
			}
			lb, err := harness.Start(rig, bin+"/fnatd", dir, configs[0])
			if err != nil {
				b.Fatal(err)
			}
			defer lb.Stop()
			if test.alone {
				alone(b, lb.PID())
			}
			s := startStream(b, rig, stream, 200*time.Microsecond)
			var times, gaps []time.Duration
			for i := 0; b.Loop(); i++ {
				s.lap()
				start := time.Now()
				if test.every == 0 {
					time.Sleep(100 * time.Millisecond)
				} else if _, err := lb.Reload(configs[1-i%2]); err != nil {
					b.Fatal(err)
				}
				times = append(times, time.Since(start))
				time.Sleep(20 * time.Millisecond) // for what the receiver has yet to read
				gaps = append(gaps, s.lap())
				time.Sleep(80 * time.Millisecond)
			}
			got := s.stop(b)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(ms(slices.Max(times)), "ms-longest")
			slices.Sort(times)
			b.ReportMetric(ms(times[len(times)/2]), "ms-median")
			slices.Sort(gaps)
			b.ReportMetric(ms(gaps[len(gaps)/2]), "ms-gap-median")
			b.ReportMetric(ms(gaps[len(gaps)*9/10]), "ms-gap-p90")
			b.ReportMetric(ms(got.gap), "ms-gap")
			b.ReportMetric(ms(got.sent), "ms-gap-of-sender")
			b.ReportMetric(ms(got.delay), "ms-delay")
			b.ReportMetric(float64(got.lost), "lost")
		})
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
