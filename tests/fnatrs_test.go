package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/realserver"
)

// balancers are what is in front of the real server: keys of its TCP services.
var balancers = []struct {
	name, keys string
	crowd      bool // 10,000 clients, too
}{
	{"toa", "", true},
	{"ttm", "client_address = \"ttm\"\nttm_kind = 77", false},
	{"synproxy", "synproxy = true", true},
}

// TestFnatrsShowsClients runs unmodified servers behind fnatd, and looks at whom
// each takes for its client.
func TestFnatrsShowsClients(t *testing.T) {
	for _, b := range balancers {
		t.Run(b.name, func(t *testing.T) {
			r := newRealServer(t)
			r.attach("--trust", trustLIPs, "--ttm-kind", "77")
			all := showers()
			r.startShowers(b.keys, append(all, asksShower))
			for _, way := range []string{"4to4", "6to6", "6to4"} {
				for _, s := range all {
					t.Run(way+"_"+s.name, func(t *testing.T) {
						shown, client := s.shows(r, ways(s.port)[way])
						if want := s.want(way, client); shown != want && plain(shown) != want && shown != client.Addr().String() {
							t.Errorf("got %s of %s, want %s", shown, client, want)
						}
					})
				}
				t.Run(way+"_calls", func(t *testing.T) { r.checkCalls(t, way) })
				t.Run(way+"_syn_cookies", func(t *testing.T) { r.checkSYNCookies(t, way) })
			}
			if b.crowd {
				for _, s := range all {
					if !s.lasting {
						t.Run("10000_clients_"+s.name, func(t *testing.T) { s.crowd(t, r) })
					}
				}
			}
			r.eventually("slots are free again, but those of servers that go on", func() bool { return r.taken() < 50 })
			if r.count(realserver.KeptLocal) == 0 || r.count(realserver.Shown) == 0 || r.count(realserver.Redirected) == 0 {
				t.Errorf("kept local, shown, redirected: got %d, %d, %d, want some of each",
					r.count(realserver.KeptLocal), r.count(realserver.Shown), r.count(realserver.Redirected))
			}
			r.detach()
			if got, _ := r.askBy("tcp", r.vip(portGo), askHTTP); !isLIP(parts(got)) {
				t.Errorf("after fnatrs has stopped: got %s, want a LIP", got)
			}
		})
	}
}

// parts splits an address and port into what isLIP reads.
func parts(shown string) []any {
	if at, err := netip.ParseAddrPort(shown); err == nil {
		return []any{at.Addr().String(), at.Port()}
	}
	return []any{shown, 0}
}

// checkCalls looks at what the calls tell one by one.
func (r *realServer) checkCalls(t *testing.T, way string) {
	got, client := r.ask(ways(portAsks)[way])
	want := told(client)
	if way == "6to4" {
		if !isLIP(got.Accept) || !isLIP(got.Getpeername) {
			t.Errorf("got %v and %v, want LIPs: an IPv4 socket has no room for more", got.Accept, got.Getpeername)
		}
		want.Accept, want.Getpeername = got.Accept, got.Getpeername
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// checkSYNCookies has the server answer by cookies.
func (r *realServer) checkSYNCookies(t *testing.T, way string) {
	if err := r.host.Sysctl("net/ipv4/tcp_syncookies", "2"); err != nil {
		t.Fatal(err)
	}
	defer r.host.Sysctl("net/ipv4/tcp_syncookies", "1")
	if got, client := r.askBy("tcp", ways(portGo)[way], askHTTP); got != client.String() {
		t.Errorf("got %s, want %s", got, client)
	}
}

// checkMetrics has Prometheus ask, in the server's namespace.
func (r *realServer) checkMetrics() {
	r.Helper()
	metrics := r.run(r.host, "curl", "-sS", "http://"+realserver.DefaultMetrics+"/metrics")
	for _, want := range []string{
		`fnatrs_events_total{event="learned"} 1`, `fnatrs_events_total{event="noticed"} 1`, `fnatrs_feature{feature="udp"} 1`,
		`fnatrs_mappings{state="used"} 1`, "fnatrs_mappings_capacity 65536", "fnatrs_build_info", "fnatrs_start_time_seconds",
	} {
		if !strings.Contains(metrics, "\n"+want) {
			r.Errorf("metrics: want %s, got\n%s", want, metrics)
		}
	}
}

// TestFnatrsComesAndGoes starts, stops and kills it while servers run.
func TestFnatrsComesAndGoes(t *testing.T) {
	r := newRealServer(t)
	echo := &shower{name: "echo", protocol: "udp", port: portRecvfrom, start: startC("recvfrom")}
	r.startShowers("", []*shower{asksShower, echo})
	check := func(when string, known bool) {
		t.Helper()
		got, client := r.ask(r.vip(portAsks))
		want := told(client)
		if !known {
			want = untold()
			if isLIP(got.Accept) && isLIP(got.Getpeername) {
				want.Accept, want.Getpeername = got.Accept, got.Getpeername
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", when, diff)
		}
		answer, client := r.askBy("udp", r.vip(portRecvfrom), askTwice)
		if known && answer != client.String() || !known && !isLIP(parts(answer)) {
			t.Errorf("%s: UDP: got %s of %s", when, answer, client)
		}
	}
	check("before", false)
	r.attach("--trust", trustLIPs)
	check("while fnatrs runs", true)
	r.checkMetrics()
	if short, answered := r.count(realserver.ShortBuffer), r.count(realserver.Answered); short != 1 || answered != 3 {
		t.Errorf("short_buffer, answered: got %d, %d, want 1, 3", short, answered)
	}

	mappings := r.run(r.host, bin+"/fnatrs", "mappings", "--socket", r.rs.Socket())
	if want := fmt.Sprintf(" %s  %s:", r.rip(0, portRecvfrom), r.clientAddr()); !strings.Contains(mappings, want) || !strings.Contains(mappings, "  used") {
		t.Errorf("mappings: got\n%s\nwant it to contain %q", mappings, want)
	}
	var listed []realserver.Mapping
	r.printed(&listed, "mappings", "--json")
	var status realserver.Status
	r.printed(&status, "status", "--json")
	if len(listed) != 1 || listed[0].State != realserver.Used || status.Count(realserver.Learned) == 0 || len(status.Programs) == 0 {
		t.Errorf("in JSON: got mappings %+v and status %+v", listed, status)
	}
	out, err := r.host.Run(r.Context(), bin+"/fnatrs", "status", "--socket", r.rs.Socket())
	for _, want := range []string{"fnatrs_sockops", "getpeername4", "recvmsg6", "ICMP sockets", r.cgroup.Path, trustLIPs, "uoa      5.15    yes"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("status: got %v and\n%s\nwant it to contain %q", err, out, want)
		}
	}
	for _, socket := range []string{r.rs.Socket(), r.rs.Socket() + "2"} {
		out, err := r.host.Run(r.Context(), bin+"/fnatrs", "run", "--trust", trustLIPs, "--cgroup", r.cgroup.Path, "--socket", socket)
		if err == nil || !strings.Contains(out, "another fnatrs") {
			t.Errorf("a second fnatrs with socket %s: got %v and %q, want it refused", socket, err, out)
		}
	}
	check("after a second was refused", true)

	r.rs.Kill()
	r.checkDetached()
	check("after it was killed", false)
	r.attach("--trust", trustLIPs)
	check("after it has come back", true)
	r.detach()
	check("after it has stopped", false)

	r.attach("--trust", "192.0.2.0/24")
	check("with its balancer untrusted", false)
	if got := r.count(realserver.Untrusted); got != 1 {
		t.Errorf("untrusted: got %d, want 1", got)
	}
	if got := r.count(realserver.NoticeUntrusted); got == 0 {
		t.Error("notice_untrusted: got 0, want some")
	}
	r.detach()
	r.attach("--trust", trustLIPs, "--no-udp")
	if got, client := r.ask(r.vip(portAsks)); !cmp.Equal(got, told(client)) {
		t.Errorf("without UDP: TCP: got %+v of %s", got, client)
	}
	if got, _ := r.askBy("udp", r.vip(portRecvfrom), askTwice); !isLIP(parts(got)) {
		t.Errorf("without UDP: got %s, want a LIP", got)
	}
	s, err := r.rs.Status()
	if err != nil || slices.ContainsFunc(s.Programs, func(a realserver.Attachment) bool { return a.Hook == "recvmsg4" || a.Hook == "sendmsg4" }) {
		t.Errorf("without UDP: got %+v, %v, want nothing attached to UDP's calls", s, err)
	}
	r.detach()
	r.attach("--trust", trustLIPs, "--no-syn")
	check("with SYNs left alone", true)
	s, err = r.rs.Status()
	if err != nil || slices.ContainsFunc(s.Programs, func(a realserver.Attachment) bool { return a.Hook == "tcp_conn_request" || a.Hook == "inet_ingress" }) {
		t.Errorf("with SYNs left alone: got %+v, %v, want nothing attached where they come", s, err)
	}
	r.detach()
	r.attach("--trust", trustLIPs, "--kinds", "200")
	check("with another kind of option", false)
	if got := r.count(realserver.NoOption); got != 1 {
		t.Errorf("no_option: got %d, want 1", got)
	}
	r.detach()
}

// printed reads what a command of fnatrs prints in JSON.
func (r *realServer) printed(to any, command ...string) {
	r.Helper()
	out := r.run(r.host, bin+"/fnatrs", append(command, "--socket", r.rs.Socket())...)
	if err := json.Unmarshal([]byte(out), to); err != nil {
		r.Errorf("fnatrs %v printed %q: %v", command, out, err)
	}
}

// TestFnatrsTellsSystemd when it is ready and when it stops, as systemd asks it to.
func TestFnatrsTellsSystemd(t *testing.T) {
	r := newRealServer(t)
	path := filepath.Join(r.dir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := func(want string) {
		t.Helper()
		buf := make([]byte, 64)
		l.SetReadDeadline(time.Now().Add(patience))
		if n, err := l.Read(buf); err != nil || string(buf[:n]) != want {
			t.Fatalf("got %q, %v, want %s", buf[:n], err, want)
		}
	}
	cmd := r.host.Command(context.Background(), bin+"/fnatrs", "run", "--trust", trustLIPs,
		"--cgroup", r.cgroup.Path, "--socket", filepath.Join(r.dir, "fnatrs.sock"))
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+path)
	p, err := r.host.BackgroundCommand(cmd)
	if err != nil {
		t.Fatal(err)
	}
	heard("READY=1")
	if s, err := realserver.Ask(filepath.Join(r.dir, "fnatrs.sock")); err != nil || len(s.Programs) == 0 {
		t.Errorf("when it is ready: got %+v, %v, want it attached", s, err)
	}
	if err := p.Stop(); err != nil { // by SIGTERM
		t.Errorf("%v\n%s", err, p.Output())
	}
	heard("STOPPING=1")
	r.checkDetached()
}

// TestFnatrsTestsItself runs the self-test as a user does, beside a fnatrs.
func TestFnatrsTestsItself(t *testing.T) {
	r := newRealServer(t)
	r.attach("--trust", trustLIPs)
	out := r.run(r.host, bin+"/fnatrs", "selftest")
	if strings.Count(out, "pass  ") < 60 || strings.Contains(out, "FAIL") {
		t.Errorf("got\n%s", out)
	}
	if left, _ := filepath.Glob(filepath.Dir(r.cgroup.Path) + "/fnatrs-selftest-*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	r.detach()
}
