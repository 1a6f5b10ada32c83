package tests

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/realserver"
	"github.com/fnatd/fnatd/tests/harness"
)

// The servers of server 0, by port. Each listens on its IPv4 and on its IPv6
// address, the one in Go on one socket for both.
const (
	portNginx  = 8080
	portGo     = 8081
	portPython = 8082
	portAsks   = 8083 // testdata/asks.py
)

// trustLIPs covers the LIPs, 198.19.0.10 and .11, and addresses up to .63.
const trustLIPs = "198.19.0.0/26,2001:db8:19::/64"

// httpServer is the environment variable that makes a server of the test binary.
const httpServer = "FNATD_TEST_HTTP_SERVER"

// serveHTTP is an unsuspecting server: it tells each client its address.
func serveHTTP(addr string) int {
	err := http.ListenAndServe(addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.RemoteAddr)
	}))
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// A realServer is server 0 of a bed, whose programs are in a cgroup that fnatrs
// serves.
type realServer struct {
	*bed
	host   *netns.Host
	cgroup *harness.Cgroup
	rs     *harness.Fnatrs
}

func newRealServer(t *testing.T) *realServer {
	b := newBed(t, matrix[0], 1)
	r := &realServer{bed: b, host: b.Servers[0]}
	var err error
	if r.cgroup, err = harness.NewCgroup("fnatrs-test"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.cgroup.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// attach starts fnatrs for the cgroup.
func (r *realServer) attach(args ...string) {
	r.Helper()
	var err error
	if r.rs, err = harness.StartFnatrs(r.host, bin+"/fnatrs", r.dir, r.cgroup.Path, args...); err != nil {
		r.Fatal(err)
	}
}

// detach ends fnatrs, which must leave nothing attached.
func (r *realServer) detach() {
	r.Helper()
	if err := r.rs.Stop(); err != nil {
		r.Error(err)
	}
}

// serve starts a program in the cgroup and waits until it answers at all addresses.
func (r *realServer) serve(env string, at []netip.AddrPort, name string, args ...string) *netns.Process {
	r.Helper()
	cmd := r.cgroup.Hold(r.host.Command(context.Background(), name, args...))
	if env != "" {
		cmd.Env = append(os.Environ(), env)
	}
	p, err := r.host.BackgroundCommand(cmd)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		p.Kill() // or the cgroup could not be removed
		if r.Failed() {
			r.Logf("%s printed:\n%s", name, p.Output())
		}
	})
	for _, addr := range at {
		r.eventually(fmt.Sprintf("%s is ready: %s", name, p.Output()), r.answers(r.host, addr))
	}
	return p
}

func server(port uint16) []netip.AddrPort {
	return []netip.AddrPort{rip(0, port), netip.AddrPortFrom(netns.ServerAddr6(0), port)}
}

// count returns one of fnatrs's counters.
func (r *realServer) count(c realserver.Counter) uint64 {
	r.Helper()
	s, err := r.rs.Status()
	if err != nil {
		r.Fatal(err)
	}
	return s.Count(c)
}

// balance starts fnatd with three services for each port of server 0: 4to4 and
// 6to6 at the same port of a VIP, 6to4 a hundred above.
func (r *realServer) balance(ports ...uint16) {
	r.Helper()
	var services []harness.Service
	for _, port := range ports {
		vip6 := netip.AddrPortFrom(netns.VIP6(0), port)
		for _, s := range []harness.Service{
			{Name: "4to4", Virtual: vip(port), Servers: to(port, 0)},
			{Name: "6to6", Virtual: vip6, Servers: []harness.Server{{Real: server(port)[1]}}},
			{Name: "6to4", Virtual: sixToFour(port), Servers: to(port, 0)},
		} {
			s.Name += fmt.Sprintf("-%d", port)
			services = append(services, s)
		}
	}
	config := harness.Config(r.Rig, r.dir, "", services...)
	config = strings.Replace(config, `addresses = ["`, fmt.Sprintf(`addresses = ["%s", "`, netns.LIP6(0)), 1)
	var err error
	if r.lb, err = harness.Start(r.Rig, bin+"/fnatd", r.dir, config); err != nil {
		r.Fatal(err)
	}
}

func sixToFour(port uint16) netip.AddrPort { return netip.AddrPortFrom(netns.VIP6(0), port+100) }

// ways are the VIPs of a port that balance has made.
func ways(port uint16) map[string]netip.AddrPort {
	return map[string]netip.AddrPort{
		"4to4": vip(port), "6to6": netip.AddrPortFrom(netns.VIP6(0), port), "6to4": sixToFour(port),
	}
}

// exchange asks an HTTP server for / on a connection of its own; it returns the
// answer and the address that the client really has.
func (r *realServer) exchange(at netip.AddrPort) (answer string, client netip.AddrPort) {
	r.Helper()
	c, err := r.Client.Dial(r.Context(), "tcp", at.String())
	if err != nil {
		r.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if answer, err = get(c, "/"); err != nil {
		r.Fatal(err)
	}
	return answer, c.LocalAddr().(*net.TCPAddr).AddrPort()
}

// An asked is what testdata/asks.py has learnt of its client.
type asked struct {
	Accept, Getpeername []any
	TTM, Roomy, Short   string
	DPVS                string
	TOS                 string
	TOSLarge            string `json:"tos_large"`
}

func (r *realServer) ask(at netip.AddrPort) (answer asked, client netip.AddrPort) {
	r.Helper()
	c, err := r.Client.Dial(r.Context(), "tcp", at.String())
	if err != nil {
		r.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	text, err := io.ReadAll(c)
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	if err != nil {
		r.Fatalf("%v answered %q: %v", at, text, err)
	}
	return answer, c.LocalAddr().(*net.TCPAddr).AddrPort()
}

// shown is an address as Python has it: the number is a float to encoding/json.
func shown(a netip.AddrPort) []any { return []any{a.Addr().String(), float64(a.Port())} }

// told is what asks.py learns of a client where it can be told in full.
func told(client netip.AddrPort) asked {
	family := uint16(2)
	if client.Addr().Is6() {
		family = 10
	}
	ttm := binary.BigEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, family), client.Port())
	ttm = append(ttm, client.Addr().AsSlice()...)
	ttm = append(ttm, make([]byte, 20-len(ttm))...)
	whole := client.Addr().As16()
	dpvs := append(binary.BigEndian.AppendUint16(whole[:], client.Port()), 0, 0)
	return asked{
		Accept: shown(client), Getpeername: shown(client),
		TTM: hex.EncodeToString(ttm), Roomy: hex.EncodeToString(ttm), DPVS: hex.EncodeToString(dpvs),
		Short: "ENOPROTOOPT", TOS: "00000000", TOSLarge: "00000000",
	}
}

// untold is what it learns of a client that fnatrs does not know.
func untold() asked {
	const no = "ENOPROTOOPT"
	return asked{TTM: no, Roomy: no, Short: no, DPVS: no, TOS: "00000000", TOSLarge: "00000000"}
}

// isLIP reports whether an address as Python has it is a local address of fnatd.
func isLIP(a []any) bool {
	return len(a) == 2 && (a[0] == netns.LIP(0).String() || a[0] == netns.LIP(1).String() || a[0] == netns.LIP6(0).String())
}

// TestFnatrsShowsClients runs unmodified servers behind fnatd.
func TestFnatrsShowsClients(t *testing.T) {
	r := newRealServer(t)
	r.attach("--trust", trustLIPs)
	log := r.nginxLog()
	r.serve(httpServer+fmt.Sprintf("=:%d", portGo), server(portGo), os.Args[0])
	python := r.pythonHTTP()
	r.asks()
	r.balance(portNginx, portGo, portPython, portAsks)
	for _, way := range []string{"4to4", "6to6", "6to4"} {
		t.Run(way+"_nginx_access_log", func(t *testing.T) {
			_, client := r.exchange(ways(portNginx)[way])
			r.eventually(fmt.Sprintf("nginx has logged %v, or a LIP where it has no room for it", client), func() bool {
				lines, _ := os.ReadFile(log)
				addr, port, _ := strings.Cut(lastLine(lines), " ")
				if way == "6to4" {
					return isLIP([]any{addr, port})
				}
				return addr == client.Addr().String() && port == fmt.Sprint(client.Port())
			})
		})
		t.Run(way+"_go_net_http", func(t *testing.T) {
			// One socket for both versions: it has room for every client.
			if got, client := r.exchange(ways(portGo)[way]); got != client.String() {
				t.Errorf("got %s, want %s", got, client)
			}
		})
		t.Run(way+"_python_http_server", func(t *testing.T) {
			_, client := r.exchange(ways(portPython)[way])
			if way != "6to4" {
				r.eventually("Python has logged "+client.Addr().String(), func() bool {
					return strings.Contains(python[way].Output(), client.Addr().String()+" - - [")
				})
			}
		})
		t.Run(way+"_calls", func(t *testing.T) {
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
		})
		t.Run(way+"_syn_cookies", func(t *testing.T) {
			if err := r.host.Sysctl("net/ipv4/tcp_syncookies", "2"); err != nil {
				t.Fatal(err)
			}
			defer r.host.Sysctl("net/ipv4/tcp_syncookies", "1")
			if got, client := r.exchange(ways(portGo)[way]); got != client.String() {
				t.Errorf("got %s, want %s", got, client)
			}
		})
	}
	if r.count(realserver.Answered) != 9 || r.count(realserver.KeptLocal) == 0 || r.count(realserver.Shown) == 0 {
		t.Errorf("answered, kept local, shown: got %d, %d, %d, want 9 and some",
			r.count(realserver.Answered), r.count(realserver.KeptLocal), r.count(realserver.Shown))
	}
	r.detach()
	if got, _ := r.exchange(vip(portGo)); !isLIP([]any{netip.MustParseAddrPort(got).Addr().String(), 0}) {
		t.Errorf("after fnatrs has stopped: got %s, want a LIP", got)
	}
}

// lastLine returns the last line of a log, without its end.
func lastLine(log []byte) string {
	all := bytes.Split(bytes.TrimSpace(log), []byte("\n"))
	return string(all[len(all)-1])
}

// nginxLog starts nginx, and returns its access log's name.
func (r *realServer) nginxLog() string {
	r.Helper()
	dir := filepath.Join(r.dir, "nginx")
	log := filepath.Join(dir, "access.log")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		r.Fatal(err)
	}
	at := server(portNginx)
	config := fmt.Sprintf(`
daemon off;
user root;
error_log stderr;
pid %[1]s/nginx.pid;
events {}
http {
	log_format who "$remote_addr $remote_port";
	access_log %[2]s who;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen %[3]s;
		listen %[4]s;
		location / { return 200 "hello"; }
	}
}
`, dir, log, at[0], at[1])
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		r.Fatal(err)
	}
	r.serve("", at, "nginx", "-c", file, "-e", "stderr")
	return log
}

// pythonHTTP starts Python's own server once for each IP version.
func (r *realServer) pythonHTTP() map[string]*netns.Process {
	r.Helper()
	dir := filepath.Join(r.dir, "www")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		r.Fatal(err)
	}
	all := map[string]*netns.Process{}
	for i, way := range []string{"4to4", "6to6"} {
		at := server(portPython)[i]
		all[way] = r.serve("PYTHONUNBUFFERED=1", []netip.AddrPort{at}, "python3",
			"-m", "http.server", fmt.Sprint(portPython), "--bind", at.Addr().String(), "--directory", dir)
	}
	return all
}

func (r *realServer) asks() {
	r.Helper()
	for _, at := range server(portAsks) {
		r.serve("", []netip.AddrPort{at}, "python3", "testdata/asks.py", at.Addr().String(), fmt.Sprint(portAsks))
	}
}

// TestFnatrsComesAndGoes starts, stops and kills it while a server runs.
func TestFnatrsComesAndGoes(t *testing.T) {
	r := newRealServer(t)
	r.asks()
	r.balance(portAsks)
	check := func(when string, known bool) {
		t.Helper()
		got, client := r.ask(vip(portAsks))
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
	}
	check("before", false)
	r.attach("--trust", trustLIPs)
	check("while fnatrs runs", true)

	out, err := r.host.Run(r.Context(), bin+"/fnatrs", "status", "--socket", r.rs.Socket())
	for _, want := range []string{"fnatrs_sockops", "getpeername4", "getpeername6", "getsockopt", r.cgroup.Path, trustLIPs} {
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
	r.detach()
	r.attach("--trust", trustLIPs, "--kinds", "200")
	check("with another kind of option", false)
	if got := r.count(realserver.NoOption); got != 1 {
		t.Errorf("no_option: got %d, want 1", got)
	}
	r.detach()
}
