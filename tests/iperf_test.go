package tests

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/harness"
)

// bulk is iperf3's port of the VIP. Its control connection and the one that it
// measures belong to the same server, which persistence would see to as well.
func (b *bed) bulk(server int) harness.Service {
	return harness.Service{Name: "bulk", Virtual: b.vip(5201), Servers: b.to(5201, server)}
}

// iperfServer runs iperf3 on server i for one measurement. Between two of them it
// closes its port, and so may reset the next one's connection.
func (b *bed) iperfServer(i int) *netns.Process {
	b.Helper()
	s := b.Servers[i]
	return b.background(s, func() bool {
		_, err := s.Run(b.Context(), "sh", "-c", "ss -Hltn sport = 5201 | grep -q .")
		return err == nil
	}, "iperf3", "-s", "-p", "5201", "--one-off")
}

// iperfBytes returns how many bytes have arrived by an iperf3's report. It fails
// the test if the measurement was not completed.
func (b *bed) iperfBytes(report string) float64 {
	b.Helper()
	var r struct {
		Error string
		End   struct {
			Received struct{ Bytes float64 } `json:"sum_received"`
		}
	}
	if err := json.Unmarshal([]byte(report), &r); err != nil || r.Error != "" || r.End.Received.Bytes == 0 {
		b.Fatalf("iperf3: %v %s\n%s", err, r.Error, report)
	}
	return r.End.Received.Bytes
}

func iperfBothWays(b *bed) {
	b.start(b.bulk(0))
	for _, args := range [][]string{{}, {"-R"}, {"--bidir"}} {
		server := b.iperfServer(0)
		b.iperfBytes(b.run(b.Client, "iperf3", append([]string{"-c", b.vip(0).Addr().String(), "-t", "1", "-P", "4", "--json"}, args...)...))
		if err := server.Wait(); err != nil {
			b.Error(err)
		}
	}
}

// BenchmarkBulkThroughSYNPROXY has iperf3 send and receive without SYNPROXY, with the workers
// answering its SYNs, and with the XDP program, in turn, and shows the medians of all turns: Gbit/s
// without it, and shares of that with it.
func BenchmarkBulkThroughSYNPROXY(b *testing.B) {
	guards := []string{`mode = "off"`, `answer = "userspace"`, `answer = "xdp"`}
	for _, dir := range []struct {
		name string
		args []string
	}{{"upload", nil}, {"download", []string{"-R"}}} {
		b.Run(dir.name, func(b *testing.B) {
			// The client has a program in any case, as answers of XDP want it.
			bed := newBed(b, variant{netns.TwoArm, 1, fourToFour, false, "xdp"}, 1)
			rates := make([][]float64, len(guards))
			b.ResetTimer()
			for range b.N {
				for i, guard := range guards {
					service := bed.bulk(0)
					service.Keys = fmt.Sprintf("synproxy = { %s }", guard)
					bed.start(service)
					rates[i] = append(rates[i], bed.iperfRate(dir.args...))
					bed.stop()
				}
			}
			var medians []float64
			for _, r := range rates {
				slices.Sort(r)
				medians = append(medians, r[len(r)/2])
			}
			b.ReportMetric(medians[0]/1e9, "Gbit/s-off")
			b.ReportMetric(medians[1]/medians[0], "of-off-userspace")
			b.ReportMetric(medians[2]/medians[0], "of-off-xdp")
		})
	}
}

// iperfRate returns the bits a second that two seconds of iperf3 reach.
func (b *bed) iperfRate(args ...string) float64 {
	b.Helper()
	server := b.iperfServer(0)
	const seconds = 2
	n := b.iperfBytes(b.run(b.Client, "iperf3", append([]string{"-c", b.vip(0).Addr().String(), "-t", fmt.Sprint(seconds), "--json"}, args...)...))
	if err := server.Wait(); err != nil {
		b.Error(err)
	}
	return 8 * n / seconds
}

// stopUnderLoad stops fnatd while its rings are full. bed.stop checks that no
// frame is lost even then.
func stopUnderLoad(b *bed) {
	for range 3 {
		server := b.iperfServer(0)
		b.start(b.bulk(0))
		iperf, err := b.Client.Background("iperf3", "-c", b.vip(0).Addr().String(), "-t", "60", "-P", "8", "--bidir")
		if err != nil {
			b.Fatal(err)
		}
		b.eventually("traffic runs both ways", func() bool {
			t := b.service("bulk").Traffic
			return t.InBytes > 10<<20 && t.OutBytes > 10<<20
		})
		b.stop()
		iperf.Kill()
		server.Kill()
	}
}
