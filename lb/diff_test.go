package lb

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/internal/packet"
)

func TestDiff(t *testing.T) {
	full := `
[[service]]
name = "web"
protocol = "tcp"
address = "203.0.113.10:80"
scheduler = "sh"
sh_port = true
persistence = "6m"
persistence_granularity = "255.255.255.0"
timeout = { established = "5m", last_ack = "7s" }
real_server = [
  { address = "10.0.2.9:8080", weight = 0, upper_threshold = 10 },
  { address = "10.0.2.12:8080", weight = 3, lower_threshold = 1, upper_threshold = 2 },
]
`
	tests := []struct {
		name     string
		old, new string // "" is no table
		want     []string
	}{
		{"nothing", head + web, head + web, nil},
		{"order_does_not_matter", head + web + dns, head + dns + web, nil},
		{"from_no_table", "", head + dns, []string{
			`+ local_pool "lan": interface eth0, addresses 10.0.1.10-10.0.1.13, ports 1024-65535`,
			`+ service "dns": name "dns", protocol udp, address 203.0.113.10:53, interface eth0, local_pool "lan", scheduler wlc, client_address icmp-echo (length 42)`,
			`+ service "dns": real_server 10.0.2.11:53: weight 1`,
		}},
		{"service_removed", head + web + dns, head + web, []string{
			`- service "dns": name "dns", protocol udp, address 203.0.113.10:53, interface eth0, local_pool "lan", scheduler wlc, client_address icmp-echo (length 42)`,
			`- service "dns": real_server 10.0.2.11:53: weight 1`,
		}},
		{"another_address_is_another_service", head + dns, head + strings.Replace(dns, "10:53", "10:54", 1), []string{
			`- service "dns": name "dns", protocol udp, address 203.0.113.10:53, interface eth0, local_pool "lan", scheduler wlc, client_address icmp-echo (length 42)`,
			`- service "dns": real_server 10.0.2.11:53: weight 1`,
			`+ service "dns": name "dns", protocol udp, address 203.0.113.10:54, interface eth0, local_pool "lan", scheduler wlc, client_address icmp-echo (length 42)`,
			`+ service "dns": real_server 10.0.2.11:53: weight 1`,
		}},
		{"everything_changed", head + web, head + full, []string{
			`~ service "web": scheduler rr -> sh`,
			`~ service "web": hash_port default -> on`,
			`~ service "web": persistence default -> 6m0s`,
			`~ service "web": persistence_granularity default -> 24`,
			`~ service "web": timeout.established default -> 5m0s`,
			`~ service "web": timeout.last_ack default -> 7s`,
			`~ service "web": real_server 10.0.2.9:8080: weight 1 -> 0`,
			`~ service "web": real_server 10.0.2.9:8080: upper_threshold default -> 10`,
			`- service "web": real_server 10.0.2.11:8080: weight 1`,
			`+ service "web": real_server 10.0.2.12:8080: weight 3, upper_threshold 2, lower_threshold 1`,
		}},
		{"and_back", head + full, head + web, []string{
			`~ service "web": scheduler sh -> rr`,
			`~ service "web": hash_port on -> default`,
			`~ service "web": persistence 6m0s -> default`,
			`~ service "web": persistence_granularity 24 -> default`,
			`~ service "web": timeout.established 5m0s -> default`,
			`~ service "web": timeout.last_ack 7s -> default`,
			`~ service "web": real_server 10.0.2.9:8080: weight 0 -> 1`,
			`~ service "web": real_server 10.0.2.9:8080: upper_threshold 10 -> default`,
			`+ service "web": real_server 10.0.2.11:8080: weight 1`,
			`- service "web": real_server 10.0.2.12:8080: weight 3, upper_threshold 2, lower_threshold 1`,
		}},
		{"renamed", head + web, head + strings.Replace(web, `"web"`, `"www"`, 1), []string{
			`~ service "www": name "web" -> "www"`,
		}},
		{"pool", head + web, strings.NewReplacer("10-13", "10-11\", \"10.0.1.20", "1024-", "5000-").Replace(head) + web, []string{
			`~ local_pool "lan": addresses 10.0.1.10-10.0.1.13 -> 10.0.1.10-10.0.1.11 10.0.1.20`,
			`~ local_pool "lan": ports 1024-65535 -> 5000-65535`,
		}},
		{"drain", head + web, head + web + "drain = \"0s\"", []string{
			`~ service "web": drain default -> 0s`,
		}},
		{"timestamps", head + web, head + web + "timestamps = \"strip\"", []string{
			`~ service "web": timestamps translate -> strip`,
		}},
		{"client_address", head + web + "toa_on_syn = true", head + web + "client_address = \"ttm\"\nttm_kind = 200", []string{
			`~ service "web": client_address toa (kind6 254) on the SYN too -> ttm (kind 200, length 22)`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var old *Table
			if tt.old != "" {
				old = compile(t, nil, tt.old)
			}
			var got []string
			for _, c := range Diff(old, compile(t, old, tt.new)) {
				got = append(got, c.String())
			}
			if diff := cmp.Diff(got, tt.want); diff != "" {
				t.Errorf("(-got +want):\n%s", diff)
			}
		})
	}
}

// BenchmarkDiff compares 1,000 services of 10 real servers, of which one differs.
func BenchmarkDiff(b *testing.B) {
	tables := [2]*Table{manyServices(1), manyServices(2)}
	for b.Loop() {
		if got := Diff(tables[0], tables[1]); len(got) != 1 {
			b.Fatalf("got %d changes", len(got))
		}
	}
}

// manyServices returns a table of 1,000 services, of which the last has a real
// server of this weight.
func manyServices(weight int) *Table {
	t := &Table{Pools: []*Pool{{Name: "lan"}}}
	for i := range 1000 {
		s := &Service{Name: fmt.Sprint("service", i), Index: i, Proto: packet.ProtoTCP, Virtual: at(100, 64, byte(i>>8), byte(i), 80), Pool: t.Pools[0], Scheduler: "wlc"}
		for j := range 10 {
			s.Servers = append(s.Servers, &Server{Service: s, Index: j, Real: at(10, 0, 2, byte(j), 80), Weight: 1})
		}
		t.Services = append(t.Services, s)
	}
	t.Services[999].Servers[9].Weight = weight
	t.index = newIndex(t.Services)
	return t
}

// TestLooksLikeForgetsNothing changes each field of a Server that can be a
// property: what its description shows, looksLike must see.
func TestLooksLikeForgetsNothing(t *testing.T) {
	server := func() *Server { return &Server{Service: &Service{Name: "web"}, Real: at(10, 0, 2, 9, 80)} }
	fields := reflect.TypeFor[Server]()
	for i := range fields.NumField() {
		changed := server()
		switch f := reflect.ValueOf(changed).Elem().Field(i); {
		case !fields.Field(i).IsExported():
			continue
		case f.CanInt():
			f.SetInt(7)
		case f.Kind() == reflect.Bool:
			f.SetBool(true)
		case f.Kind() == reflect.String:
			f.SetString("other")
		default: // what it belongs to and what hangs on it
			continue
		}
		if same := changed.object().String() == server().object().String(); changed.looksLike(server()) != same {
			t.Errorf("%s: looksLike says %t, the descriptions say %t", fields.Field(i).Name, !same, same)
		}
	}
}
