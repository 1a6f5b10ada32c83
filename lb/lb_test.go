package lb

import (
	"testing"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/internal/packet"
)

const head = `
[dataplane]
interfaces = ["eth0"]
[[local_pool]]
name = "lan"
addresses = ["10.0.1.10-13"]
ports = "1024-65535"
`

const web = `
[[service]]
name = "web"
protocol = "tcp"
address = "203.0.113.10:80"
scheduler = "rr"
real_server = [{ address = "10.0.2.9:8080" }, { address = "10.0.2.11:8080" }]
`

const dns = `
[[service]]
name = "dns"
protocol = "udp"
address = "203.0.113.10:53"
real_server = [{ address = "10.0.2.11:53" }]
`

// compile returns the table of a configuration after prev.
func compile(t testing.TB, prev *Table, text string) *Table {
	t.Helper()
	c, err := config.Parse("test.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	table, err := Compile(c, prev)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// at returns an IPv4 endpoint.
func at(a, b, c, d byte, port uint16) packet.Endpoint {
	return packet.Endpoint{Addr: packet.AddrFrom4([]byte{a, b, c, d}), Port: port}
}
