package keepalived

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzImport has any text imported. It is refused, or the TOML made of it reads
// back to the same table.
func FuzzImport(f *testing.F) {
	names, _ := filepath.Glob("testdata/*.conf")
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data), "10.9.0.1-10.9.0.4,fd00::9", "eth0")
	}
	f.Add(pre+"$A=\\\nweight 2 \\\n}\n~SEQ(N, 2, 9) real_server 10.0.2.$N 80 {\n$A\n"+post, "", "")
	f.Add("include *\n@left include a.conf\n", "x", "eth0.7")
	f.Fuzz(func(t *testing.T, text, pool, ifname string) {
		o := Options{LocalPool: pool, Interface: ifname, ConfigID: "left", Convert: len(text)%2 == 0}
		in, err := parse("a.conf", []byte(text), o, memory(map[string]string{"a.conf": text, "b.conf": pre + post}))
		if err != nil {
			return
		}
		roundTrips(t, in)
	})
}

// thousand returns a file of 1,000 services with 10 real servers each.
func thousand() []byte {
	var b strings.Builder
	b.WriteString("local_address_group lan {\n 10.0.1.1-200 eth0\n}\n")
	for i := range 1000 {
		fmt.Fprintf(&b, "virtual_server 203.0.%d.%d 80 {\n delay_loop 6\n lb_algo wrr\n lb_kind FNAT\n protocol TCP\n laddr_group_name lan\n syn_proxy\n nat_mask 255.255.255.255\n", i/250, i%250+1)
		for j := range 10 {
			fmt.Fprintf(&b, " real_server 10.1.%d.%d 8080 {\n  weight %d\n  TCP_CHECK {\n   connect_timeout 3\n  }\n }\n", i%250, j+1, j+1)
		}
		b.WriteString("}\n")
	}
	return []byte(b.String())
}

func BenchmarkImport1000Services(b *testing.B) {
	data := thousand()
	for b.Loop() {
		in, err := parse("a.conf", data, Options{}, system)
		if err != nil || len(in.Config.Services) != 1000 {
			b.Fatal(err)
		}
	}
}

func TestAThousandServicesAreOneNoteEach(t *testing.T) {
	in, err := parse("a.conf", thousand(), Options{}, system)
	if err != nil {
		t.Fatal(err)
	}
	roundTrips(t, in)
	if len(in.Notes) != 1 || !strings.HasSuffix(in.Notes[0], " and 994 more)") {
		t.Errorf("got notes %q, want one of nat_mask", in.Notes)
	}
	if s := in.Config.Services[999]; s.SYNProxy.Mode != "on" {
		t.Errorf("synproxy is %q, want it on", s.SYNProxy.Mode)
	}
	if s := in.Config.Services[999]; len(s.Checks) != 1 || len(s.Servers[9].Checks) != 1 {
		t.Errorf("got %d checks of the service, want one", len(s.Checks))
	}
}
