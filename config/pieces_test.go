package config

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// withLines compares all that was read, and where each key stands.
var withLines = cmp.Options{
	cmp.AllowUnexported(LocalPool{}, Service{}),
	cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".pieces" }, cmp.Ignore()),
	cmp.AllowUnexported(Config{}),
	cmp.Comparer(func(a, b Where) bool {
		if a.Line != b.Line || len(a.keys) != len(b.keys) {
			return false
		}
		for _, k := range a.keys {
			if !b.has(k.key) || a.LineOf(k.key) != b.LineOf(k.key) {
				return false
			}
		}
		return true
	}),
	ignoreLines[2], ignoreLines[3],
	cmp.Comparer(func(a, b *regexp.Regexp) bool { return a.String() == b.String() }),
}

// checkAfter reads doc after before, and as if there had been nothing before.
func checkAfter(t *testing.T, before, doc string) {
	t.Helper()
	was, _ := parseAfter("lb.toml", []byte(before), nil)
	got, gotErr := parseAfter("lb.toml", []byte(doc), was)
	want, wantErr := Parse("lb.toml", []byte(doc))
	if fmt.Sprint(gotErr) != fmt.Sprint(wantErr) {
		t.Fatalf("got error %v, want %v", gotErr, wantErr)
	}
	if diff := cmp.Diff(want, got, withLines); diff != "" {
		t.Error(diff)
	}
}

const piecesHead = `# head
[dataplane]
interfaces = ["eth0"]
[[local_pool]]
name = "lan"
addresses = ["10.0.1.10"]
ports = "1024-65535"

`

func piece(n int, keys string) string {
	return fmt.Sprintf(`[[service]]
name = "s%d"
protocol = "tcp"
address = "203.0.113.1:%d"
%s
[service.synproxy]
mode = "on"
[[service.health]]
type = "http"
[[service.real_server]]
address = "10.0.2.1:80"
[[service.real_server]]
address = "10.0.2.2:80"
[service.real_server.health]
type = "tcp"
# end

`, n, n, keys)
}

func TestParseAfter(t *testing.T) {
	a, b, c := piece(1, ""), piece(2, `scheduler = "mh"`), piece(3, "")
	for name, doc := range map[string]string{
		"same":             piecesHead + a + b + c,
		"one_changed":      piecesHead + a + piece(2, `scheduler = "rr"`) + c,
		"one_gone":         piecesHead + b + c,
		"one_more_ahead":   piecesHead + piece(4, "") + a + b + c,
		"other_order":      piecesHead + c + a + b,
		"other_head":       "\n" + piecesHead + a + b + c,
		"other_pool":       strings.Replace(piecesHead, "10.0.1.10", "10.0.1.11", 1) + a + b + c,
		"twice":            piecesHead + a + b + a,
		"same_address":     piecesHead + a + b + strings.Replace(a, `"s1"`, `"s9"`, 1),
		"bad_value":        piecesHead + a + piece(2, `scheduler = "no"`) + c,
		"bad_reference":    piecesHead + a + piece(2, `local_pool = "no"`) + c,
		"bad_toml":         piecesHead + a + piece(2, `scheduler = `) + c,
		"unknown_key":      piecesHead + a + piece(2, `no = 1`) + c,
		"head_at_the_end":  a + b + piecesHead,
		"long_string":      piecesHead + a + piece(2, "interface = \"\"\"eth0\"\"\"") + c,
		"header_in_string": piecesHead + a + piece(2, "scheduler = \"\"\"\n[[service]]\n\"\"\"") + c,
		"header_in_list":   piecesHead + a + piece(2, "no = [\n[[service]]\n]") + c,
		"list_of_lists":    piecesHead + a + piece(2, "no = [\n[1],\n[2]\n]") + c,
		"no_service":       piecesHead,
		"nothing":          "",
		"indented_header":  piecesHead + a + "  [[ service ]]\n" + strings.TrimPrefix(b, "[[service]]") + c,
		"single_brackets":  piecesHead + a + "[service]\nname = \"x\"\n",
		"crlf":             strings.ReplaceAll(piecesHead+a+b+c, "\n", "\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			checkAfter(t, piecesHead+a+b+c, doc)
			checkAfter(t, doc, piecesHead+a+b+c)
		})
	}
}

// TestParseAfterKeeps shows that what stays is not read again, and that an edit of the
// configuration in between does not stay.
func TestParseAfterKeeps(t *testing.T) {
	doc := piecesHead + piece(1, "") + piece(2, "")
	first, err := parseAfter("lb.toml", []byte(doc), nil)
	if err != nil {
		t.Fatal(err)
	}
	edited, err := first.Edited(func(c *Config) {
		c.Services[0].SetScheduler("rr", false, false)
		c.Services[0].RemoveServer(0)
	})
	if err != nil {
		t.Fatal(err)
	}
	second, err := parseAfter("lb.toml", []byte(doc), edited)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second, withLines); diff != "" {
		t.Error(diff)
	}
	if &first.Services[1].Servers[0] != &second.Services[1].Servers[0] {
		t.Error("a service that has not changed was read again")
	}
}

// FuzzParseAfter reads one file after another: the result must be that of the other alone.
func FuzzParseAfter(f *testing.F) {
	example, err := os.ReadFile("../lb.toml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(piecesHead+piece(1, "")+piece(2, ""), piecesHead+piece(2, "")+piece(3, ""))
	f.Add(string(example), string(example))
	f.Fuzz(func(t *testing.T, before, doc string) { checkAfter(t, before, doc) })
}
