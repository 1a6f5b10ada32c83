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
	"testing"
	"time"

	"github.com/cilium/ebpf"
	bpflink "github.com/cilium/ebpf/link"

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
	r.checkDetached()
}

// checkDetached fails the test if a program is attached to the cgroup.
func (r *realServer) checkDetached() {
	r.Helper()
	dir, err := os.Open(r.cgroup.Path)
	if err != nil {
		r.Fatal(err)
	}
	defer dir.Close()
	for _, hook := range []ebpf.AttachType{
		ebpf.AttachCGroupSockOps, ebpf.AttachCGroupGetsockopt,
		ebpf.AttachCgroupInet4GetPeername, ebpf.AttachCgroupInet6GetPeername,
	} {
		found, err := bpflink.QueryPrograms(bpflink.QueryOptions{Target: int(dir.Fd()), Attach: hook})
		if err != nil || len(found.Programs) > 0 {
			r.Errorf("%v: got %v, %v, want nothing attached", hook, found, err)
		}
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
	return []netip.AddrPort{fourToFour.rip(0, port), sixToSix.rip(0, port)}
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
		for _, s := range []harness.Service{
			{Name: "4to4", Virtual: fourToFour.vip(port), Servers: fourToFour.to(port, 0)},
			{Name: "6to6", Virtual: sixToSix.vip(port), Servers: sixToSix.to(port, 0)},
			{Name: "6to4", Virtual: vip6to4(port), Servers: sixToFour.to(port, 0)},
		} {
			s.Name += fmt.Sprintf("-%d", port)
			services = append(services, s)
		}
	}
	r.start(services...)
}

func vip6to4(port uint16) netip.AddrPort { return sixToFour.vip(port + 100) }

// ways are the VIPs of a port that balance has made.
func ways(port uint16) map[string]netip.AddrPort {
	return map[string]netip.AddrPort{
		"4to4": fourToFour.vip(port), "6to6": sixToSix.vip(port), "6to4": vip6to4(port),
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
