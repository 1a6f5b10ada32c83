package lb

import (
	"os"
	"testing"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/internal/packet"
)

// What config accepts, Compile turns into a table in which every service can be
// found and asked, and which does not differ from itself.
func FuzzCompile(f *testing.F) {
	example, err := os.ReadFile("../lb.toml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	f.Add([]byte(head + web + dns))
	f.Add([]byte(head + "[[service]]\nname = \"a\"\nprotocol = \"tcp\"\naddress = \"203.0.113.10:80\"\nscheduler = \"nq\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Parse("f", data)
		if err != nil {
			return
		}
		table, err := Compile(c, nil)
		if err != nil {
			t.Fatalf("Compile: %v", err)
		}
		for _, s := range table.Services {
			if table.Service(s.Proto, s.Virtual) != s {
				t.Errorf("service %q not found at %v", s.Name, s.Virtual)
			}
			if server := s.Pick(packet.Endpoint{}); server != nil && !server.Available() {
				t.Errorf("service %q picked %v, which is not available", s.Name, server.Real)
			}
		}
		again, err := Compile(c, table)
		if err != nil {
			t.Fatalf("Compile again: %v", err)
		}
		if changes := Diff(table, again); len(changes) > 0 {
			t.Errorf("differs from itself: %v", changes)
		}
		Diff(nil, table)
	})
}
