package keepalived

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/lb"
)

var update = flag.Bool("update", false, "write the golden files in testdata")

// options is the command line of the files in testdata that need one.
var options = map[string]Options{
	"upstream":  {LocalPool: "10.9.0.1-10.9.0.4,fd00::9", Interface: "eth0"},
	"lvs":       {Interface: "eth0"},
	"dpvs":      {Interface: "eth0"},
	"checkers":  {LocalPool: "10.9.0.1", Interface: "eth0"},
	"convert":   {LocalPool: "10.9.0.1", Interface: "eth0", Convert: true},
	"language":  {ConfigID: "left"},
	"bad_pool":  {LocalPool: "10.9.0.0.1,203.0.113.10", Interface: "eth0"},
	"bad_names": {Interface: "eth0", ConfigID: "left"},
	"bad_kinds": {Interface: "eth0"},
}

// outcome prints everything that an import says.
func outcome(in *Import, err error) string {
	var b strings.Builder
	b.Write(in.TOML)
	for _, n := range in.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	if err != nil {
		fmt.Fprintf(&b, "%v\n", err)
	}
	return b.String()
}

// TestGolden imports each testdata/*.conf and compares with the file .golden
// beside it: the TOML, then the notes, then the errors.
func TestGolden(t *testing.T) {
	names, err := filepath.Glob("testdata/*.conf")
	if err != nil || len(names) == 0 {
		t.Fatalf("testdata: got %d files, error %v", len(names), err)
	}
	for _, name := range names {
		base := strings.TrimSuffix(filepath.Base(name), ".conf")
		t.Run(base, func(t *testing.T) {
			in, err := Load(name, options[base])
			if bad := strings.HasPrefix(base, "bad_"); (err != nil) != bad {
				t.Errorf("got error %v, want one: %t", err, bad)
			}
			if err == nil {
				roundTrips(t, in)
			}
			got := outcome(in, err)
			golden := strings.TrimSuffix(name, ".conf") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("%s (-want +got):\n%s", golden, d)
			}
		})
	}
}

// roundTrips fails the test if the TOML, read as a file, makes another table
// than the import itself.
func roundTrips(t *testing.T, in *Import) {
	t.Helper()
	again, err := config.Parse("lb.toml", in.TOML)
	if err != nil {
		t.Fatalf("the TOML cannot be read: %v\n%s", err, in.TOML)
	}
	direct, err := lb.Compile(in.Config, nil)
	if err != nil {
		t.Fatal(err)
	}
	file, err := lb.Compile(again, nil)
	if err != nil {
		t.Fatal(err)
	}
	if changes := lb.Diff(direct, file); len(changes) > 0 {
		t.Errorf("import and file differ: %v", changes)
	}
}

// memory returns the files of a test, and limits that a test reaches.
func memory(contents map[string]string) files {
	fsys := fstest.MapFS{}
	for name, text := range contents {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return files{
		read:   func(name string) ([]byte, error) { return fs.ReadFile(fsys, name) },
		glob:   func(pattern string) ([]string, error) { return fs.Glob(fsys, pattern) },
		limits: limits{lines: 2000, bytes: 1 << 20, entries: 500},
	}
}

// pre and post make a whole file of what stands between them.
const (
	pre  = "local_address_group lan {\n 10.0.1.1 eth0\n}\nvirtual_server 203.0.113.10 80 {\n lb_kind FNAT\n protocol TCP\n"
	post = " real_server 10.0.2.1 80 {\n }\n}\n"
)

// TestMessages has a fragment of a virtual_server and what is said of it; it
// stands in line 7.
func TestMessages(t *testing.T) {
	for name, test := range map[string]struct{ fragment, want string }{
		"misspelt":               {"delay_lop 3", `a.conf:7: virtual_server: "delay_lop": unknown keyword (did you mean delay_loop?)`},
		"misspelt_in_check":      {"real_server 10.0.2.2 80 { TCP_CHECK { connect_prot 3 } }", `a.conf:7: real_server: TCP_CHECK: "connect_prot": unknown keyword (did you mean connect_port?)`},
		"misspelt_in_url":        {"real_server 10.0.2.2 80 { HTTP_GET { url { paht / } } }", `a.conf:7: real_server: HTTP_GET: url: "paht": unknown keyword (did you mean path?)`},
		"sctp":                   {"protocol SCTP", "a.conf:7: virtual_server: protocol SCTP: fnatd balances TCP and UDP (write one of them, or remove the service)"},
		"lblc":                   {"lb_algo lblc", "a.conf:7: virtual_server: lb_algo lblc: fnatd does not have it (write dh or mh for caches)"},
		"lblcr":                  {"lvs_sched lblcr", "a.conf:7: virtual_server: lvs_sched lblcr: fnatd does not have it (write dh or mh for caches)"},
		"twos":                   {"lb_algo twos", "a.conf:7: virtual_server: lb_algo twos: fnatd does not have it (write wlc)"},
		"scheduler":              {"lb_algo best", `a.conf:7: service "203.0.113.10:80": scheduler "best": unknown scheduler (want rr, wrr, lc, wlc, sed, nq, sh, dh, mh, fo or ovf)`},
		"method":                 {"lb_kind XNAT", `a.conf:7: lb_kind "XNAT": unknown method (want FNAT, NAT, DR or TUN)`},
		"dr":                     {"lb_kind DR", "a.conf:7: lb_kind DR: fnatd forwards by FULLNAT (say fnatctl import --convert to make FULLNAT of it; real servers then need no VIP)"},
		"dr_of_one_server":       {"real_server 10.0.2.2 80 { lvs_method DR }", "a.conf:7: lvs_method DR: fnatd forwards by FULLNAT (say fnatctl import --convert to make FULLNAT of it; real servers then need no VIP)"},
		"server_without_port":    {"real_server 10.0.2.2 { }", "a.conf:7: real_server 10.0.2.2: the port is left out (write the one that the server listens on)"},
		"server_twice":           {"real_server 10.0.2.1 80 { }", `a.conf:8: service "203.0.113.10:80": real_server: address "10.0.2.1:80": already at a.conf:7 (remove one, or add up their weights)`},
		"server_is_no_address":   {"real_server 10.0.2.300 80 { }", `a.conf:7: service "203.0.113.10:80": real_server: address "10.0.2.300:80": not an IP address and port (want it as 203.0.113.10:80 or [2001:db8::10]:80)`},
		"weight":                 {"real_server 10.0.2.2 80 { weight heavy }", `a.conf:7: service "203.0.113.10:80": real_server: weight "heavy": want a whole number from 0 to 65535`},
		"group_unknown":          {"laddr_group_name wan", `a.conf:7: virtual_server: laddr_group_name "wan": there is no such local_address_group (add it, or correct the name)`},
		"variable_undefined":     {"delay_loop $D", "a.conf:7: $D: not defined (define it above, as $D=value)"},
		"quote_open":             {`virtualhost "www`, `a.conf:7: a quote is not closed (add a ")`},
		"variable_of_itself":     {"$A=$A x\n$A", "a.conf:8: variables or conditions more than 32 deep (does one contain itself? write it out)"},
		"loop_without_end":       {"~SEQ(N, 1, 0, 5) delay_loop $N", "a.conf:7: ~SEQ: step 0 does not lead from 1 to 5 (want one that does)"},
		"loop_too_long":          {"~SEQ(N, 1, 99999) delay_loop $N", "a.conf:7: too much: with variables, ~SEQ and include there are more lines than are read (split the file)"},
		"include_missing":        {"include b.conf", `a.conf:7: include "b.conf": open b.conf: file does not exist (put it there, or remove the line)`},
		"include_of_itself":      {"include a.conf", `a.conf:7: include "a.conf": a.conf is being read already (break the cycle)`},
		"ops":                    {"ops", "a.conf:7: virtual_server: ops: fnatd keeps a connection for each flow and does not schedule single packets (remove it)"},
		"flag_of_another":        {"lb_algo rr\nsh-port", `a.conf:8: service "203.0.113.10:80": sh_port: has no effect without scheduler = "sh" (add that or remove this)`},
		"timeout":                {"est_timeout soon", `a.conf:7: est_timeout "soon": want a number of seconds`},
		"syn_proxy_of_what":      {"syn_proxy off", "a.conf:7: syn_proxy off: want nothing behind syn_proxy"},
		"syn_proxy_of_udp":       {"protocol UDP\nsyn_proxy", `a.conf:8: service "203.0.113.10:80/udp": synproxy true: has no effect on a udp service (remove it)`},
		"later_one_counts":       {"lb_algo rr\nlvs_sched wrr", "note: a.conf:7: virtual_server: lb_algo: given again at a.conf:8, which counts"},
		"granularity_of_nothing": {"persistence_granularity 255.255.255.0", "note: a.conf:7: virtual_server: persistence_granularity: has no effect without persistence_timeout, left out"},
	} {
		t.Run(name, func(t *testing.T) {
			in, err := parse("a.conf", []byte(pre+test.fragment+"\n"+post), Options{ConfigID: "left"}, memory(nil))
			if err != nil {
				in.Notes = nil
			}
			got := strings.TrimSpace(strings.TrimPrefix(outcome(in, err), string(in.TOML)))
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestErrorsComeAllAtOnce(t *testing.T) {
	_, err := parse("a.conf", []byte(pre+"lb_algo lblc\nprotocol SCTP\ndelay_lop 3\nreal_server 10.0.2.2 80 { weight heavy }\n"+post), Options{}, memory(nil))
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 4 {
		t.Fatalf("got %v, want four errors", err)
	}
	for _, e := range joined.Unwrap() {
		if one := new(Error); !errors.As(e, &one) {
			t.Errorf("got a %T, want an *Error", e)
		}
	}
}

func TestIncludeIsRelativeToTheIncludingFile(t *testing.T) {
	in, err := parse("etc/a.conf", []byte("include conf.d/*.conf\n"), Options{}, memory(map[string]string{
		"etc/conf.d/1.conf": "include ../pool.inc\n",
		"etc/conf.d/2.conf": "virtual_server 203.0.113.10 80 {\n protocol TCP\n lb_kind FNAT\n real_server 10.0.2.1 80 {\n }\n}\n",
		"etc/pool.inc":      "local_address_group lan {\n 10.0.1.1 eth0\n}\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	roundTrips(t, in)
	for _, want := range []string{"# pool.inc:1: local_address_group lan\n", "# conf.d/2.conf:1: virtual_server 203.0.113.10 80\n"} {
		if !strings.Contains(string(in.TOML), want) {
			t.Errorf("got\n%s\nwant it to contain %q", in.TOML, want)
		}
	}
}

// TestMessagesOfChecks has what is said of checkers; the server that has them
// stands in line 7.
func TestMessagesOfChecks(t *testing.T) {
	for name, test := range map[string]struct{ fragment, want string }{
		"bfd_without_name":      {"BFD_CHECK { }", "a.conf:7: real_server: BFD_CHECK: there is no name (write that of a bfd_instance)"},
		"bfd_without_instance":  {"BFD_CHECK { name x }", `a.conf:7: real_server: BFD_CHECK: name "x": there is no such bfd_instance (add it, or correct the name)`},
		"bfd_misspelt":          {"BFD_CHECK { nmae x }", `a.conf:7: real_server: BFD_CHECK: "nmae": unknown keyword (did you mean name?)`},
		"http_without_url":      {"HTTP_GET { connect_timeout 3 }", "a.conf:7: real_server: HTTP_GET: there is no url (write url { path / })"},
		"misc_without_path":     {"MISC_CHECK { misc_timeout 3 }", "a.conf:7: real_server: MISC_CHECK: there is no misc_path (write the program to run)"},
		"misc_of_nothing":       {`MISC_CHECK { misc_path "" }`, `a.conf:7: misc_path "": not a command (close the quotes, and name a program)`},
		"misc_with_open_quote":  {`MISC_CHECK { misc_path "/bin/a 'b" }`, `a.conf:7: misc_path "/bin/a 'b": not a command (close the quotes, and name a program)`},
		"misc_relative":         {"MISC_CHECK { misc_path ./check }", `a.conf:7: service "203.0.113.10:80": real_server: health: command "./check": want the absolute path of a program, or its name alone`},
		"file_without_block":    {"FILE_CHECK { track_file load }", `a.conf:7: real_server: FILE_CHECK: track_file "load": there is no such track_file block with a file (add it, or correct the name)`},
		"file_without_name":     {"FILE_CHECK { weight 1 }", "a.conf:7: real_server: FILE_CHECK: there is no track_file (write the name of a track_file block)"},
		"timer":                 {"TCP_CHECK { connect_timeout 0x3 }", `a.conf:7: connect_timeout "0x3": want a number of seconds`},
		"timer_too_short":       {"delay_loop 0.01\nTCP_CHECK { }", `a.conf:7: service "203.0.113.10:80": real_server: health: interval "0.01s": want 100ms to 480h`},
		"retry":                 {"TCP_CHECK { retry often }", `a.conf:7: service "203.0.113.10:80": real_server: health: retry "often": want a whole number from 0 to 100`},
		"status":                {"HTTP_GET { url { path /\nstatus_code 2xx\n} }", `a.conf:8: service "203.0.113.10:80": real_server: health: status "2xx": not a status code or range (want 200 or "200-299")`},
		"regex_of_pcre":         {"HTTP_GET { url { path /\nregex \"(?=ok)\"\n} }", "a.conf:8: service \"203.0.113.10:80\": real_server: health: regex \"(?=ok)\": not a regular expression: invalid or unsupported Perl syntax: `(?=` (want one of RE2: no back-references, no look-around)"},
		"regex_option":          {"HTTP_GET { url { path /\nregex ok\nregex_options extended\n} }", "a.conf:9: real_server: HTTP_GET: url: regex_options extended: fnatd has caseless, multiline, dotall, ungreedy, dollar_endonly and utf, and needs none of those that concern speed alone (remove it, and write the expression without)"},
		"regex_offsets":         {"HTTP_GET { url { path /\nregex ok\nregex_min_offset 10\nregex_max_offset 9\n} }", "a.conf:9: service \"203.0.113.10:80\": real_server: health: regex_min_offset 10: above regex_max_offset 9 (want it lower)"},
		"regex_offset":          {"HTTP_GET { url { path /\nregex ok\nregex_max_offset -1\n} }", "a.conf:9: service \"203.0.113.10:80\": real_server: health: regex_max_offset -1: want a whole number from 0 to 1048576"},
		"dns_type":              {"DNS_CHECK { type PTR }", `a.conf:7: service "203.0.113.10:80": real_server: health: query "PTR": unknown query (want A, NS, CNAME, SOA, MX, TXT or AAAA)`},
		"udp_payload":           {"UDP_CHECK { payload xyz }", `a.conf:7: service "203.0.113.10:80": real_server: health: payload "xyz": not the bytes of a datagram (want two hexadecimal digits for each byte, as "00 1f", at most 1472 bytes)`},
		"alpha":                 {"alpha maybe\nTCP_CHECK { }", "a.conf:7: alpha maybe: want on or off"},
		"two_users":             {"TCP_CHECK { }\nnotify_up /bin/up alice\nnotify_down /bin/down bob", `a.conf:9: notify_down: runs as "bob" and the script at a.conf:8 as "alice" (fnatd has one user for all scripts of a service: write the same for both)`},
		"command_of_four_words": {"TCP_CHECK { }\nnotify_up /bin/up -a -b -c", "a.conf:8: notify_up /bin/up -a -b -c: want a command in quotes, and perhaps a user and a group"},
		"ping_port":             {"PING_CHECK { connect_port 7 }", "note: a.conf:7: real_server: PING_CHECK: connect_port: a ping has no port, left out"},
		"http_protocol":         {"HTTP_GET { http_protocol 1.0\nurl { path / } }", "note: a.conf:7: real_server: HTTP_GET: http_protocol 1.0: fnatd asks by HTTP/1.1, with Connection: close"},
		"given_twice":           {"TCP_CHECK { retry 1\nnb_get_retry 2 }", "note: a.conf:7: real_server: TCP_CHECK: retry: given again at a.conf:8, which counts"},
		"random_payload":        {"UDP_CHECK { }", "note: a.conf:7: real_server: UDP_CHECK: without payload fnatd sends an empty datagram, not random bytes"},
		"reply_that_may_fail":   {"UDP_CHECK { payload 00\nmin_reply_length 3 }", "note: a.conf:8: real_server: UDP_CHECK: min_reply_length: has no effect without require_reply, left out"},
		"group_of_a_script":     {"TCP_CHECK { }\nnotify_up /bin/up alice staff", "note: a.conf:8: notify_up: programs run with all groups of their user, the group is left out"},
		"no_check":              {"delay_loop 3\nnotify_up /bin/up", "note: a.conf:7: real_server: delay_loop: has no effect without a checker, left out\nnote: a.conf:8: real_server: notify_up: has no effect without a checker, left out"},
		"omega_of_nothing":      {"TCP_CHECK { }\n}\nomega\nreal_server 10.0.2.3 80 {", "note: a.conf:9: virtual_server: omega: has no effect without scripts, left out"},
		"hysteresis":            {"}\nquorum 2\nhysteresis 2\nreal_server 10.0.2.3 80 {", "note: a.conf:9: virtual_server: hysteresis 2: is not from 0 to below the quorum, taken for 0, as keepalived does"},
		"quorum":                {"}\nquorum 0\nreal_server 10.0.2.3 80 {", "note: a.conf:8: virtual_server: quorum 0: taken for 1, as keepalived does"},
		"sorry_without_port":    {"}\nsorry_server 10.0.2.9\nreal_server 10.0.2.3 80 {", "a.conf:8: sorry_server 10.0.2.9: the port is left out (write the one that the server listens on)"},
		"sorry_by_dr":           {"}\nsorry_server_lvs_method DR\nreal_server 10.0.2.3 80 {", "a.conf:8: sorry_server_lvs_method DR: fnatd forwards by FULLNAT (say fnatctl import --convert to make FULLNAT of it; real servers then need no VIP)"},
		"sorry_inhibited":       {"}\nsorry_server_inhibit\nreal_server 10.0.2.3 80 {", "note: a.conf:8: virtual_server: sorry_server_inhibit: the sorry server is always there, with weight 0 until it is needed, passed over"},
		"ha_suspend":            {"}\nha_suspend\nreal_server 10.0.2.3 80 {", "note: a.conf:8: virtual_server: ha_suspend: fnatd checks whether or not VRRP has given it the addresses, passed over"},
		"expire_unchecked":      {"}\nexpire_quiescent_conn\nreal_server 10.0.2.3 80 {", "note: a.conf:8: virtual_server: expire_quiescent_conn: has no effect without a checker, left out"},
		"one_inhibited":         {"inhibit_on_failure\nTCP_CHECK { }\n}\nreal_server 10.0.2.3 80 { TCP_CHECK { }", "note: a.conf:7: real_server: inhibit_on_failure: fnatd has it for all servers of a service or none, left out"},
	} {
		t.Run(name, func(t *testing.T) {
			in, err := parse("a.conf", []byte(pre+"real_server 10.0.2.2 80 { "+test.fragment+"\n}\n"+post), Options{ConfigID: "left"}, memory(nil))
			if err != nil {
				in.Notes = nil
			} else {
				roundTrips(t, in)
			}
			got := strings.TrimSpace(strings.TrimPrefix(outcome(in, err), string(in.TOML)))
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestSplit(t *testing.T) {
	for line, want := range map[string]string{
		"/bin/a":                  "/bin/a",
		`  /bin/a  -b	c `:         "/bin/a|-b|c",
		`/bin/a 'b c' "d e" f\ g`: "/bin/a|b c|d e|f g",
		`/bin/a "" ''`:            "/bin/a||",
		`/bin/a b"c d"e`:          "/bin/a|bc de",
		`/bin/a "it's" 'a\b' "\"`: "/bin/a|it's|a\\b|\"!",
		`/bin/a $HOME`:            "/bin/a|$HOME",
		"":                        "",
	} {
		words, closed := split(line)
		got := strings.Join(words, "|")
		if !closed {
			got += "!"
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", line, got, want)
		}
	}
}
