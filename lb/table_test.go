package lb

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

// many returns a configuration with n services on a few addresses.
func many(n int) string {
	var b strings.Builder
	b.WriteString(head)
	for i := range n {
		fmt.Fprintf(&b, `
[[service]]
name = "s%d"
protocol = %q
address = "203.0.113.%d:%d"
real_server = [{ address = "10.0.2.11:8080" }]
`, i, []string{"tcp", "udp"}[i%2], i/2%100, 1000+i/200)
	}
	return b.String()
}

func TestServiceIsFoundByProtocolAddressAndPort(t *testing.T) {
	for _, n := range []int{1, 2, 3, 64, 1000} {
		table := compile(t, nil, many(n))
		for i, s := range table.Services {
			if got := table.Service(s.Proto, s.Virtual); got != s || s.Index != i {
				t.Fatalf("of %d services the one at %v was not found", n, s.Virtual)
			}
			other := s.Virtual
			other.Port += 7000
			if got := table.Service(s.Proto, other); got != nil {
				t.Errorf("found %q at %v", got.Name, other)
			}
			if got := table.Service(packet.ProtoICMP, s.Virtual); got != nil {
				t.Errorf("found %q with another protocol", got.Name)
			}
		}
	}
}

func TestServiceOfAnEmptyTable(t *testing.T) {
	if got := new(Table).Service(packet.ProtoTCP, at(203, 0, 113, 10, 80)); got != nil {
		t.Errorf("Service = %v", got)
	}
	if got := compile(t, nil, head).Service(packet.ProtoTCP, at(203, 0, 113, 10, 80)); got != nil {
		t.Errorf("Service = %v", got)
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	table := compile(t, nil, head+web+dns)
	virtual, client := at(203, 0, 113, 10, 80), at(198, 51, 100, 1, 40000)
	if got := testing.AllocsPerRun(1000, func() {
		s := table.Service(packet.ProtoTCP, virtual)
		s.PersistenceKey(client.Addr)
		server := s.Pick(client)
		server.Load.Opened()
		server.Available()
		server.Load.Add(0, -1)
	}); got != 0 {
		t.Errorf("%v allocations for a new connection", got)
	}
}

func BenchmarkService(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprintf("%d_services", n), func(b *testing.B) {
			table := compile(b, nil, many(n))
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				s := table.Services[i%n]
				i++
				if table.Service(s.Proto, s.Virtual) != s {
					b.Fatal("not found")
				}
			}
		})
	}
}
